"""Plain TCP to whatever address is asked for, within limits and counted; what is spoken there is the connector's."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from regie.core.errors import Unavailable
from regie.kit.access import Calls
from regie.kit.reaching import Dialler, Unreached, told

CONNECT_S = 10.0
"""Seconds to come to a connection, its TLS handshake included where there is one."""


class Network:
    """A way to any address. It has no credentials, so nothing of ours can leak there.

    Args:
        calls: Paces and watches; the manifest's endpoint is `/connect`, its query names the host.
        dialler: Says where it may go.
    """

    def __init__(self, calls: Calls, dialler: Dialler) -> None:
        self._calls = calls
        self._dialler = dialler

    def needing(self, permissions: tuple[str, ...]) -> Network:  # noqa: ARG002  nobody asks for permissions here
        """The same: there is nothing to be permitted."""
        return self

    @asynccontextmanager
    async def connection(
        self,
        host: str,
        port: int,
        *,
        tls: ssl.SSLContext | None = None,
        server_name: str = "",
        within_s: float = CONNECT_S,
    ) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
        """A connection for as long as the block takes.

        Args:
            tls: Begin TLS with this context at once; plain TCP when nothing is said.
            server_name: The name to ask for in it; the host when empty.

        Raises:
            Denied: It leads to no address that may be reached.
            Unavailable: The name does not resolve, nobody answers there in time, or TLS does not come about.
        """
        where = f"{host}:{port}"
        named = (server_name or host) if tls is not None else None
        async with self._calls.one("GET", "/connect", place=where, query={"host": host}):
            try:
                async with asyncio.timeout(within_s):
                    opened, _ = await self._dialler.connect(host, port, within_s)
                    try:
                        reader, writer = await asyncio.open_connection(sock=opened, ssl=tls, server_hostname=named)
                    except BaseException:
                        opened.close()
                        raise
            except Unreached as error:
                raise told(error, where) from None
            except TimeoutError:
                raise Unavailable(f"{where} does not answer within {within_s:g} s") from None
            except ssl.SSLError as error:
                raise Unavailable(f"{where} speaks no TLS with us: {error.reason or type(error).__name__}") from None
            except OSError as error:
                raise Unavailable(f"{where} cannot be reached: {error.strerror or type(error).__name__}") from None
            try:
                yield reader, writer
            finally:
                writer.transport.abort()

    async def served_certificate(self, host: str, port: int, *, server_name: str = "") -> bytes:
        """The certificate that a server shows, as DER, whether or not it is to be trusted.

        Raises:
            Unavailable: No handshake comes about.
        """
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE  # what is looked at may have expired, or be of a private authority
        async with self.connection(host, port, tls=context, server_name=server_name) as (_, writer):
            found: ssl.SSLObject = writer.get_extra_info("ssl_object")
            shown = found.getpeercert(binary_form=True)
        if shown is None:
            raise Unavailable(f"{host}:{port} shows no certificate")
        return shown
