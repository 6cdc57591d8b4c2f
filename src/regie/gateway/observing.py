"""Counts, times and traces the requests that go to outside systems, around the transport of each connection."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import httpx2

from regie.core.errors import OutcomeUnknown, RegieError, Throttled, Unavailable
from regie.telemetry import metrics, traces

NO_ANSWER = "no_answer"
"""Of a request that came to nothing: no connection, no answer in time."""


class Observed(httpx2.AsyncBaseTransport):
    """A transport that tells how the requests through it do, and sends them as they are.

    A vendor is not told our trace: it would be no use to it, and a mark of ours on every request.

    Args:
        way: Carries the requests.
        connector: Folder name of the connector that sends them.
    """

    def __init__(self, way: httpx2.AsyncBaseTransport, connector: str) -> None:
        self._way = way
        self._connector = connector

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        """Send one request. Its path and query are not told: they name people."""
        outcome = NO_ANSWER
        began_s = time.monotonic()
        attributes: traces.Attributes = {
            "regie.connector": self._connector,
            "http.request.method": request.method,
            "server.address": request.url.host,
        }
        try:
            with traces.span(f"{self._connector} {request.method}", attributes, kind="asks") as opened:
                response = await self._way.handle_async_request(request)
                outcome = outcome_of(response.status_code)
                opened.set_attribute("http.response.status_code", response.status_code)
                if response.is_error:
                    traces.fail(opened, str(response.status_code))
                return response
        finally:
            metrics.VENDOR_REQUESTS.labels(self._connector, outcome).inc()
            metrics.VENDOR_SECONDS.labels(self._connector).observe(time.monotonic() - began_s)

    async def aclose(self) -> None:
        """Close what carries the requests."""
        await self._way.aclose()


class ObservedCalls:
    """Tells how calls that are no HTTP requests of ours do. See `kit.access.Watch`.

    Args:
        connector: Folder name of the connector that makes them.
    """

    def __init__(self, connector: str) -> None:
        self._connector = connector

    @asynccontextmanager
    async def call(self, name: str, place: str) -> AsyncIterator[None]:
        """Watch one call; counted as an HTTP request of the same outcome would be."""
        outcome = NO_ANSWER
        began_s = time.monotonic()
        attributes: traces.Attributes = {"regie.connector": self._connector, "server.address": place}
        try:
            with traces.span(f"{self._connector} {name}", attributes, kind="asks") as opened:
                try:
                    yield
                    outcome = "2xx"
                except RegieError as error:
                    outcome = _outcome_of_error(error)
                    traces.fail(opened, type(error).__name__)
                    raise
        finally:
            metrics.VENDOR_REQUESTS.labels(self._connector, outcome).inc()
            metrics.VENDOR_SECONDS.labels(self._connector).observe(time.monotonic() - began_s)


def _outcome_of_error(error: RegieError) -> str:
    if isinstance(error, Throttled):
        return "429"
    return NO_ANSWER if isinstance(error, Unavailable | OutcomeUnknown) else "4xx"


def outcome_of(status: int) -> str:
    """How a request is counted: 429 alone, since it is the vendor's limits, others by their class."""
    return "429" if status == httpx2.codes.TOO_MANY_REQUESTS else f"{status // 100}xx"
