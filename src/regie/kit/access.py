"""The ways in which a connector reaches its vendor, one class a kind; a manifest says which one the connection has.

The gateway constructs it, authenticated, for one question. `session.Session` is the way over HTTP; `aws.Aws`,
`dns.Dns`, `host.Host`, `network.Network` and `tls.looking.Tls` are the others. Each turns every failure into an error
of `core.errors`.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Literal, Protocol, Self

from regie.core.errors import RegieError, Throttled
from regie.kit.rates import Method, Outgoing, Pace

AccessKind = Literal["http", "aws", "dns", "host", "network", "tls"]


class Access(Protocol):
    """What the kinds have in common."""

    def needing(self, permissions: tuple[str, ...]) -> Self:
        """The same, for a capability that needs these permissions of the vendor; named where one lacks."""
        ...


class Watch(Protocol):
    """Counts, times and traces calls to a vendor; the gateway's."""

    def call(self, name: str, place: str) -> AbstractAsyncContextManager[None]:
        """Watch one call. How it ends is read from the error that leaves the block.

        Args:
            name: Kind of call, such as `GET` or `acm.ImportCertificate`.
            place: The server it goes to.
        """
        ...


class Calls:
    """Sends the calls of one question through the vendor's limits and past the gateway's watch.

    For every kind but HTTP, where the client's transport and the session do the same. A call counts against the
    manifest's limits under a method (`GET` for what only looks, `POST` for what writes) and a path.

    Args:
        vendor: Its name for error messages.
        pace: Keeps it within what the vendor allows; as fast as it goes when nothing is said.
        watch: Counts and times; nobody does when nothing is said.
    """

    def __init__(self, vendor: str, pace: Pace | None = None, watch: Watch | None = None) -> None:
        self.vendor = vendor
        self._pace = pace
        self._watch = watch

    @asynccontextmanager
    async def one(
        self, method: Method, path: str, *, place: str, query: Mapping[str, str] | None = None
    ) -> AsyncIterator[None]:
        """Make one call inside the block.

        Raises:
            BudgetSpent: There is no room soon; the block was not entered.
        """
        outgoing = Outgoing(method, path, query or {}, None)
        if self._pace:
            await self._pace.enter(outgoing)
        try:
            if self._watch is None:
                yield
            else:
                async with self._watch.call(path.lstrip("/").replace("/", "."), place):
                    yield
        except RegieError as error:
            if self._pace and isinstance(error, Throttled):
                after = {} if error.after_s is None else {"retry-after": str(round(error.after_s))}
                await self._pace.heard(outgoing, 429, after)
            raise
