"""One TLS handshake as a client that wants to see everything: any version, any chain, verified or not.

OpenSSL works on memory; the bytes go over a socket of the event loop. `ssl` of the standard library shows an unverified
chain only from Python 3.13 on, and no stapled OCSP answer at all. See docs/decisions/0017.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Iterator
from dataclasses import dataclass

from OpenSSL import SSL
from OpenSSL.crypto import FILETYPE_ASN1, dump_certificate

from regie.core.capabilities.tls import Code, Finding, StartTls
from regie.core.server_name import as_address
from regie.kit.reaching import Dialler, Unreached, cause_of
from regie.kit.tls.judging import found
from regie.kit.tls.starttls import NotOffered, NotSpoken, start

MOST_RECEIVED = 512 * 1024
"""Bytes read of a server until its handshake is over; OpenSSL takes at most 100 KB of certificates."""
_CHUNK = 16 * 1024
MOST_HANDSHAKES = 256
"""Handshakes of one process at the same time; each holds some 100 KB and a socket."""


@dataclass(frozen=True, slots=True)
class Shown:
    """What a server showed.

    Attributes:
        address: Where the connection led to.
        protocol: Version that was agreed on, such as `TLSv1.3`.
        chain: Certificates in DER, as presented; never empty.
        staple: The OCSP answer that came with them; empty when none did.
    """

    address: str
    protocol: str
    chain: tuple[bytes, ...]
    staple: bytes


class NotShown(Exception):
    """No certificate was seen; the finding says why."""

    def __init__(self, finding: Finding) -> None:
        super().__init__(finding.text)
        self.finding = finding


@dataclass(frozen=True, slots=True)
class Limits:
    """Seconds that are waited for one endpoint: until it is connected, and from then until it has shown all."""

    connect_s: float = 5.0
    handshake_s: float = 8.0


class Client:
    """Makes handshakes.

    Args:
        dialler: Opens the connections.
        limits: How long it waits.
        places: Taken while a handshake is made; shared by all clients of a process, it bounds what they hold.
    """

    def __init__(self, dialler: Dialler, limits: Limits | None = None, places: asyncio.Semaphore | None = None) -> None:
        self._dialler = dialler
        self._places = places or asyncio.Semaphore(MOST_HANDSHAKES)
        self._limits = limits or Limits()
        self._context = _context()

    async def look(self, host: str, port: int, server_name: str, starttls: StartTls = "none") -> Shown:
        """See what a server presents.

        Args:
            host: Name in ASCII, or address, to connect to.
            port: TCP port.
            server_name: Name in ASCII to ask for; addresses are not asked for (RFC 6066, 3).
            starttls: How the server changes to TLS.

        Raises:
            NotShown: It presents nothing, for whatever reason.
        """
        async with self._places:
            return await self._look(host, port, server_name, starttls)

    async def _look(self, host: str, port: int, server_name: str, starttls: StartTls) -> Shown:
        try:
            opened, address = await self._dialler.connect(host, port, self._limits.connect_s)
        except Unreached as error:
            raise NotShown(unreachable(error.cause)) from None
        wire = _SocketWire(opened)
        try:
            async with asyncio.timeout(self._limits.handshake_s):
                await start(starttls, wire, server_name)
                return await self._handshake(wire, str(address), server_name)
        except NotOffered:
            raise NotShown(found(Code.STARTTLS_NOT_OFFERED, f"STARTTLS is not offered in {starttls}.")) from None
        except NotSpoken:
            cause = "" if wire.received else "closed"
            raise NotShown(found(Code.NO_TLS, f"It does not speak {starttls}.", cause=cause or starttls)) from None
        except OSError as error:
            raise NotShown(unreachable(cause_of(error))) from None
        finally:
            opened.close()

    async def _handshake(self, wire: _SocketWire, address: str, server_name: str) -> Shown:
        connection = SSL.Connection(self._context, None)
        connection.set_connect_state()
        connection.request_ocsp()
        if as_address(server_name) is None:
            connection.set_tlsext_host_name(server_name.encode("ascii"))
        heard = bytearray()
        fault: Finding | None = None
        while fault is None:
            try:
                connection.do_handshake()
                break
            except SSL.WantReadError:
                await wire.send(_pending(connection))
                fault = await self._hear(wire, connection, heard)
            except SSL.Error:
                fault = _why(bytes(heard))
        chain = _chain(connection)
        # A server that wants a certificate of ours has shown its own before it turns us away.
        if fault is not None and not chain:
            raise NotShown(fault)
        if fault is None:
            connection.shutdown()
            await wire.send(_pending(connection))
        if not chain:
            raise NotShown(found(Code.NO_TLS, "It presents no certificate.", cause="anonymous"))
        return Shown(address, connection.get_protocol_version_name(), chain, connection.get_app_data() or b"")

    async def _hear(self, wire: _SocketWire, connection: SSL.Connection, heard: bytearray) -> Finding | None:
        """Take in what the server says next; a finding when there is nothing more."""
        received = await wire.receive()
        heard += received
        if len(heard) > MOST_RECEIVED:
            return unreachable("endless")
        if not received:
            return unreachable("closed") if not heard else _why(bytes(heard), has_ended=True)
        connection.bio_write(received)
        return None


class _SocketWire:
    """A socket of the event loop, for whoever speaks before TLS begins, and for TLS."""

    def __init__(self, opened: socket.socket) -> None:
        self._socket = opened
        self._loop = asyncio.get_running_loop()
        self.received = False

    async def send(self, content: bytes) -> None:
        if content:
            await self._loop.sock_sendall(self._socket, content)

    async def receive(self) -> bytes:
        received = await self._loop.sock_recv(self._socket, _CHUNK)
        self.received = self.received or bool(received)
        return received


def _context() -> SSL.Context:
    """A client that refuses nothing: what is old or weak shall be seen, and nothing of ours is sent over it."""
    context = SSL.Context(SSL.TLS_CLIENT_METHOD)
    context.set_verify(SSL.VERIFY_NONE, lambda *_: True)
    context.set_min_proto_version(SSL.TLS1_VERSION)
    context.set_cipher_list(b"ALL:!aNULL:!eNULL:@SECLEVEL=0")
    context.set_options(SSL.OP_LEGACY_SERVER_CONNECT)
    context.set_session_cache_mode(SSL.SESS_CACHE_OFF)
    context.set_ocsp_client_callback(_keep_staple)
    return context


def _keep_staple(connection: SSL.Connection, staple: bytes, data: object) -> bool:  # noqa: ARG001  the form is pyOpenSSL's
    connection.set_app_data(staple)
    return True


def _pending(connection: SSL.Connection) -> bytes:
    """What OpenSSL wants sent."""
    try:
        return connection.bio_read(64 * 1024)
    except SSL.WantReadError:
        return b""


def _chain(connection: SSL.Connection) -> tuple[bytes, ...]:
    presented = connection.get_peer_cert_chain() or []
    return tuple(dump_certificate(FILETYPE_ASN1, each) for each in presented)


def unreachable(cause: str) -> Finding:
    """The finding that no certificate was seen, for a cause."""
    return found(Code.UNREACHABLE, _CAUSES[cause], cause=cause)


_CAUSES = {
    "dns": "Its name leads to no address.",
    "name": "It has no name that a host can have.",
    "not_allowed": "Its address lies in a network that the connection may not reach.",
    "refused": "It refuses connections.",
    "timeout": "It does not answer in time.",
    "reset": "It cut the connection.",
    "closed": "It closed the connection at once.",
    "network": "There is no way to its network.",
    "endless": "Its handshake does not end.",
    "tls_alert": "It ended the handshake with an alert.",
    "tls_error": "Its handshake cannot be followed.",
}


def _why(heard: bytes, *, has_ended: bool = False) -> Finding:
    """Why a handshake failed, read from the server's own bytes."""
    alert = None
    for kind, content in _records(heard):
        if kind is None:
            return found(Code.NO_TLS, "It does not speak TLS.", cause="" if content else "closed")
        # Encrypted alerts are longer; those of TLS 1.3 pass for data.
        if kind == _ALERT and len(content) == 2:
            alert = content[1]
    if alert is not None:
        name = ALERTS.get(alert, str(alert))
        text = f"It ended the handshake: {name}."
        return found(Code.UNREACHABLE, text, cause="tls_alert")
    return unreachable("closed" if has_ended else "tls_error")


_ALERT = 21
_KINDS = range(20, 25)


def _records(heard: bytes) -> Iterator[tuple[int | None, bytes]]:
    """The records of TLS (RFC 8446, 5.1) that bytes begin with: kind and content; no kind for what is none."""
    while heard:
        if heard[0] not in _KINDS or heard[1:2] not in {b"", b"\x03"}:
            yield None, heard
            return
        size = int.from_bytes(heard[3:5])
        yield heard[0], heard[5 : 5 + size]
        heard = heard[5 + size :]


ALERTS = {
    10: "unexpected_message",
    20: "bad_record_mac",
    40: "handshake_failure",
    42: "bad_certificate",
    43: "unsupported_certificate",
    46: "certificate_unknown",
    47: "illegal_parameter",
    48: "unknown_ca",
    49: "access_denied",
    50: "decode_error",
    51: "decrypt_error",
    70: "protocol_version",
    71: "insufficient_security",
    80: "internal_error",
    86: "inappropriate_fallback",
    109: "missing_extension",
    110: "unsupported_extension",
    112: "unrecognized_name",
    116: "certificate_required",
    120: "no_application_protocol",
}
"""RFC 8446, 6."""
