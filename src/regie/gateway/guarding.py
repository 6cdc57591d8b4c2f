"""Every outgoing request of the gateway, over ways that go nowhere but where a `Dialler` allows.

The check is where a connection is opened: behind the client's URL, in front of the socket. So the name in the URL stays
the one that TLS asks for, that the certificate must be for and that `Host` says, while the socket goes to the very
address that was checked; and whatever makes a client open a connection (a redirect, a token endpoint, a second try) is
checked. In clear (`http`) only networks are reached that the configuration names.
"""

from __future__ import annotations

import functools
import ssl
from collections.abc import Iterable, Sequence
from typing import Any

import httpcore2
import httpx2
from botocore.awsrequest import (
    AWSHTTPConnection,
    AWSHTTPConnectionPool,
    AWSHTTPSConnection,
    AWSHTTPSConnectionPool,
)
from urllib3.exceptions import NewConnectionError

from regie.core.errors import Denied
from regie.kit.reaching import Dialler, LookUp, Network, Unreached, told

Options = Iterable[Any]
MOST_CONNECTIONS = 100
MOST_IDLE = 20
IDLE_S = 5.0
"""httpx2's own defaults."""


class Guarded(httpx2.AsyncBaseTransport):
    """A transport that opens connections only to where it is allowed. No proxy, no redirect, no credentials in a URL.

    Args:
        allowed: Networks besides the public internet.
        verify: Whom to trust; public authorities when nothing is said.
        look_up: Asks for addresses.
    """

    def __init__(
        self, allowed: Sequence[Network] = (), verify: ssl.SSLContext | None = None, look_up: LookUp | None = None
    ) -> None:
        context = verify or _public()
        dialler = Dialler(allowed, look_up=look_up)
        self._ways = {
            "https": _way(dialler, context),
            "http": _way(dialler.in_clear(), context),
        }

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        """Send one request.

        Raises:
            Denied: It would go where it may not.
        """
        return await self._ways[_scheme(request)].handle_async_request(request)

    async def aclose(self) -> None:
        """Close what is open."""
        for each in self._ways.values():
            await each.aclose()


class GuardedThread(httpx2.BaseTransport):
    """The same for a thread that may wait."""

    def __init__(self, allowed: Sequence[Network] = ()) -> None:
        context = _public()
        self._ways = {
            "https": _thread_way(Dialler(allowed), context),
            "http": _thread_way(Dialler(allowed, with_public=False), context),
        }

    def handle_request(self, request: httpx2.Request) -> httpx2.Response:
        """Send one request; see `Guarded`."""
        return self._ways[_scheme(request)].handle_request(request)

    def close(self) -> None:
        """Close what is open."""
        for each in self._ways.values():
            each.close()


def guard_client_of_aws(client: Any, dialler: Dialler) -> None:
    """Have a client of boto3 open its connections to checked addresses, too."""

    class InClear(_Checked, AWSHTTPConnection):  # type: ignore[misc]  # botocore is untyped
        checks = dialler.in_clear()

    class OverTls(_Checked, AWSHTTPSConnection):  # type: ignore[misc]  # botocore is untyped
        checks = dialler

    class PoolInClear(AWSHTTPConnectionPool):  # type: ignore[misc]  # botocore is untyped
        ConnectionCls = InClear

    class PoolOverTls(AWSHTTPSConnectionPool):  # type: ignore[misc]  # botocore is untyped
        ConnectionCls = OverTls

    # botocore has no public way to say how it connects; tests/gateway/test_guarding.py fails if this one is gone.
    manager = client._endpoint.http_session._manager  # noqa: SLF001
    manager.pool_classes_by_scheme = {"http": PoolInClear, "https": PoolOverTls}


class _Checked:
    """A connection of urllib3 whose socket goes to a checked address, and whose name stays what it was."""

    checks: Dialler
    host: str
    _dns_host: str

    def _new_conn(self) -> Any:
        name = self._dns_host
        try:
            self._dns_host = str(self.checks.addresses_now(self.host)[0])
            return super()._new_conn()  # type: ignore[misc]  # urllib3's, beside which this class stands
        except Unreached as error:
            raise NewConnectionError(self, error.cause) from None  # type: ignore[arg-type]  # it is one, see above
        finally:
            self._dns_host = name


class _Backend(httpcore2.AsyncNetworkBackend):
    def __init__(self, dialler: Dialler) -> None:
        self._dialler = dialler
        self._inner = httpcore2.AnyIOBackend()

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,  # noqa: ASYNC109  the signature is httpcore2's
        local_address: str | None = None,
        socket_options: Options | None = None,
    ) -> httpcore2.AsyncNetworkStream:
        """Connect to the first address that answers, of those that may be reached."""
        try:
            addresses = await self._dialler.addresses(host)
        except Unreached as error:
            raise _failure(host, error) from None
        failure: Exception | None = None
        for address in addresses:
            share = None if timeout is None else timeout / len(addresses)
            try:
                return await self._inner.connect_tcp(str(address), port, share, local_address, socket_options)
            except (httpcore2.ConnectError, httpcore2.ConnectTimeout) as error:
                failure = error
        raise failure or httpcore2.ConnectError(f"{host} has no address")

    async def connect_unix_socket(
        self,
        path: str,  # noqa: ARG002  the signature is httpcore2's
        timeout: float | None = None,  # noqa: ARG002, ASYNC109  the same
        socket_options: Options | None = None,  # noqa: ARG002  the same
    ) -> httpcore2.AsyncNetworkStream:
        """Nobody asks for one."""
        raise Denied("A vendor is not reached through a socket of this machine.")

    async def sleep(self, seconds: float) -> None:
        """Wait."""
        await self._inner.sleep(seconds)


class _ThreadBackend(httpcore2.SyncBackend):
    def __init__(self, dialler: Dialler) -> None:
        self._dialler = dialler

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Options | None = None,
    ) -> httpcore2.NetworkStream:
        """Connect to the first address that may be reached."""
        try:
            address = self._dialler.addresses_now(host)[0]
        except Unreached as error:
            raise _failure(host, error) from None
        return super().connect_tcp(str(address), port, timeout, local_address, socket_options)


def _failure(host: str, error: Unreached) -> Exception:
    return told(error, host) if error.cause == "not_allowed" else httpcore2.ConnectError(f"{host}: {error.cause}")


def _scheme(request: httpx2.Request) -> str:
    if request.url.scheme not in {"http", "https"} or request.url.userinfo:
        raise Denied(f"{request.url.host} is asked over http or https, without a name or password in the address.")
    return request.url.scheme


def _way(dialler: Dialler, context: ssl.SSLContext) -> httpx2.AsyncHTTPTransport:
    way = httpx2.AsyncHTTPTransport(verify=context, trust_env=False)
    # httpx2 has no public way to say how it connects; tests/gateway/test_guarding.py fails if this one is gone.
    way._pool = httpcore2.AsyncConnectionPool(  # noqa: SLF001
        ssl_context=context,
        network_backend=_Backend(dialler),
        max_connections=MOST_CONNECTIONS,
        max_keepalive_connections=MOST_IDLE,
        keepalive_expiry=IDLE_S,
    )
    return way


def _thread_way(dialler: Dialler, context: ssl.SSLContext) -> httpx2.HTTPTransport:
    way = httpx2.HTTPTransport(verify=context, trust_env=False)
    way._pool = httpcore2.ConnectionPool(  # noqa: SLF001  as above
        ssl_context=context, network_backend=_ThreadBackend(dialler), max_connections=1
    )
    return way


@functools.cache
def _public() -> ssl.SSLContext:
    """Trusts public authorities. Made once: reading them takes longer than a request."""
    return httpx2.create_ssl_context(trust_env=False)
