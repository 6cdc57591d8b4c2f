"""What stands before every route: how much may come in and how often, and what every answer carries."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable

import structlog
from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from regie import logs
from regie.core.errors import RegieError, Throttled
from regie.web.problems import BROKEN, Told, TooLarge, TooSlow, WrongMedia, told

LARGEST_BODY = 1024 * 1024
"""Bytes of one body."""
BODY_WITHIN_S = 30.0
"""Seconds in which a body must have arrived."""
LARGEST_REST = 8 * LARGEST_BODY
"""Bytes of a refused body that are let go by, so that its sender sees why."""
REST_WITHIN_S = 5.0
FAILURES_AT_ONCE = 5
"""Failed sign-ins of one address before it has to wait."""
FAILURE_EVERY_S = 12.0
"""Seconds after which one more failed sign-in is allowed."""
ADDRESSES_KEPT = 10_000

HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "Cache-Control": "no-store",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
    "Referrer-Policy": "no-referrer",
    # Counts behind TLS only: browsers pass it over where there is none (RFC 6797, 8.1).
    "Strict-Transport-Security": "max-age=31536000",
}
"""On every answer that does not set its own."""

log = structlog.get_logger(__name__)


class Entrance:
    """Reads the body within its limits before the routes see the request, and dresses every answer.

    A body is at most `LARGEST_BODY`, so it can be held in memory whole; it is counted while it comes in.

    Args:
        answer: Tells an error to whoever sent a request.
    """

    def __init__(self, app: ASGIApp, answer: Callable[[Scope, Told], Response]) -> None:
        self._app = app
        self._answer = answer

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let one request in."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        # What is named for the log while this request is answered is named until its end, and no longer.
        with logs.about():
            await self._let_in(scope, receive, send)

    async def _let_in(self, scope: Scope, receive: Receive, send: Send) -> None:
        has_begun = False

        async def answering(message: Message) -> None:
            nonlocal has_begun
            if message["type"] == "http.response.start":
                has_begun = True
                headers = MutableHeaders(scope=message)
                for name, value in HEADERS.items():
                    headers.setdefault(name, value)
            await send(message)

        try:
            body = await _read(Headers(scope=scope), receive)
            if body is not None:
                await self._app(scope, _given(body, receive), answering)
        except RegieError as error:
            if isinstance(error, TooLarge | WrongMedia):
                await _let_finish(Headers(scope=scope), receive)
            await self._answer(scope, told(error))(scope, receive, answering)
        except Exception:  # the last place that can answer: a fault of ours is logged and told without its details
            log.exception("web:broke")
            if has_begun:
                raise
            await self._answer(scope, BROKEN)(scope, receive, answering)


async def _read(headers: Headers, receive: Receive) -> bytes | None:
    """The body of a request; None when whoever sent it has gone.

    Raises:
        TooLarge, TooSlow: It is, or is announced to be.
        WrongMedia: It is packed.
    """
    if headers.get("Content-Encoding", "identity").strip().lower() != "identity":
        raise WrongMedia("Packed bodies are not read.", hint="Send it without Content-Encoding.")
    if _announced(headers) > LARGEST_BODY:
        raise _too_large()
    body = bytearray()
    try:
        async with asyncio.timeout(BODY_WITHIN_S):
            while True:
                message = await receive()
                if message["type"] == "http.disconnect":
                    return None
                body += message.get("body", b"")
                if len(body) > LARGEST_BODY:
                    raise _too_large()
                if not message.get("more_body", False):
                    return bytes(body)
    except TimeoutError:
        raise TooSlow(f"The body did not arrive within {BODY_WITHIN_S:.0f} s.") from None


def _announced(headers: Headers) -> int:
    """How many bytes a request says that it has; 0 when it does not say."""
    said = headers.get("Content-Length", "0")
    return int(said[:20]) if said.isascii() and said.isdigit() else 0


async def _let_finish(headers: Headers, receive: Receive) -> None:
    """Let go by what is still being sent of a body that nobody wants, within bounds.

    Whoever is cut off while sending does not get to see the answer (RFC 9112, 9.6). Whoever waits to be asked for the
    body (`Expect: 100-continue`) is not asked, and nobody waits for a body that is announced as larger than that.
    """
    left = LARGEST_REST
    if "Expect" in headers or _announced(headers) > LARGEST_REST:
        return
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(REST_WITHIN_S):
            while left > 0:
                message = await receive()
                left -= len(message.get("body", b""))
                if message["type"] == "http.disconnect" or not message.get("more_body", False):
                    return


def _too_large() -> TooLarge:
    return TooLarge(f"A body has at most {LARGEST_BODY} bytes.")


def _given(body: bytes, receive: Receive) -> Receive:
    """A `receive` that gives a body that was read already, and then what else comes."""
    is_given = False

    async def again() -> Message:
        nonlocal is_given
        if is_given:
            return await receive()
        is_given = True
        return {"type": "http.request", "body": body, "more_body": False}

    return again


class SignInThrottle:
    """How often signing in as one address may fail: a bucket for each address, filled up with time.

    Args:
        clock: Seconds that only go forward.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._used: dict[str, tuple[float, float]] = {}

    def take(self, address: str) -> None:
        """Take a place before a password is looked at, so that many tries at once count as well.

        Raises:
            Throttled: There have been too many; carries when to try again.
        """
        used = self._drained(address)
        if used > FAILURES_AT_ONCE - 1:
            wait_s = (used - FAILURES_AT_ONCE + 1) * FAILURE_EVERY_S
            raise Throttled("Signing in as this address failed too often.", after_s=wait_s, hint="Try again later.")
        while len(self._used) >= ADDRESSES_KEPT:
            del self._used[next(iter(self._used))]
        self._used[address] = (used + 1, self._clock())

    def give_back(self, address: str) -> None:
        """The password was right: this try does not count."""
        used = self._drained(address) - 1
        if used > 0:
            self._used[address] = (used, self._clock())
        else:
            self._used.pop(address, None)

    def _drained(self, address: str) -> float:
        used, at = self._used.pop(address, (0.0, 0.0))
        left = max(0.0, used - (self._clock() - at) / FAILURE_EVERY_S)
        if left:
            self._used[address] = (left, self._clock())
        return left
