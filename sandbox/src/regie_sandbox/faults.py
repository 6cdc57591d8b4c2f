"""Trouble on demand: the next calls that match a method and a path go wrong in a chosen way.

The middleware stands in front of the imitated vendors; the control API (`/sandbox/faults`) arms it.
"""

import asyncio
import re
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any, Literal

import httpx2
from fastapi.responses import JSONResponse, Response
from pydantic import BaseModel, ConfigDict, Field, field_validator

from regie_sandbox.refusals import Refused, graph, jira

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]


class Fault(BaseModel):
    """One kind of trouble for the next `times` matching calls.

    Kinds: `status` answers `status` in the vendor's shape and changes nothing, `status-after` does so after the effect;
    `garbage` answers 200 with something that is not JSON; `cut` drops the connection before the effect, `cut-after`
    after it; `timeout-after` lets the effect happen and then stays silent for `seconds` before it drops the connection;
    `delay` waits `seconds` and then answers normally.
    """

    model_config = ConfigDict(extra="forbid")

    kind: Literal["status", "status-after", "garbage", "cut", "cut-after", "timeout-after", "delay"]
    method: str = ".*"
    path: str = ".*"
    times: int = Field(default=1, ge=1)
    status: int = Field(default=503, ge=400, le=599)
    retry_after: str | None = None
    seconds: float = Field(default=60.0, ge=0)

    @field_validator("method", "path")
    @classmethod
    def _is_pattern(cls, text: str) -> str:
        try:
            re.compile(text)
        except re.error as wrong:
            raise ValueError(f"not a regular expression: {wrong}") from wrong
        return text


class Faults:
    """The armed faults, oldest first."""

    def __init__(self) -> None:
        self.armed: list[Fault] = []

    def take(self, method: str, path: str) -> Fault | None:
        """The fault that strikes this call, if any; it is used up by one."""
        for fault in self.armed:
            if re.fullmatch(fault.method, method, re.IGNORECASE) and re.search(fault.path, path):
                fault.times -= 1
                self.armed = [each for each in self.armed if each.times > 0]
                return fault
        return None


def _answer(fault: Fault, path: str) -> Response:
    headers = {"Retry-After": fault.retry_after} if fault.retry_after is not None else {}
    if fault.kind == "garbage":
        return Response("<html><body>Something went wrong", media_type="text/html")
    if path.startswith("/jira"):
        if fault.status == 429:
            headers["RateLimit-Reason"] = "jira-burst-based"
        return jira(fault.status, "The site cannot answer this now.", headers=headers).response
    if path.startswith("/graph"):
        code = {429: "TooManyRequests", 503: "serviceNotAvailable"}.get(fault.status, "UnknownError")
        return graph(fault.status, code, "The service cannot answer this now.", headers).response
    if path.startswith("/slack"):
        code = {429: "ratelimited", 503: "service_unavailable"}.get(fault.status, "internal_error")
        return Refused(fault.status, {"ok": False, "error": code}, headers).response
    return JSONResponse({"error": "temporarily_unavailable"}, fault.status, headers)


async def _cut(send: Send) -> None:
    """End the connection inside the answer.

    Promising a body and then failing makes a server close the socket, and an in-process client see the same class of
    error as over a network.

    Raises:
        httpx2.RemoteProtocolError: always.
    """
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"2")]})
    raise httpx2.RemoteProtocolError("the sandbox cut this connection, as it was told to")


async def _silence(receive: Receive, seconds: float) -> None:
    """Say nothing until the time is over or the client has gone."""

    async def gone() -> None:
        while (await receive())["type"] != "http.disconnect":
            pass

    leaving = asyncio.ensure_future(gone())
    await asyncio.wait({leaving}, timeout=seconds)
    leaving.cancel()


class FaultMiddleware:
    """Strikes calls to the imitated vendors; the control API is never struck."""

    def __init__(self, app: App, faults: Faults) -> None:
        self._app = app
        self._faults = faults

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one call, or spoil it."""
        is_vendor = scope["type"] == "http" and scope["path"].startswith(("/jira/", "/graph/", "/login/", "/slack/"))
        fault = self._faults.take(scope["method"], scope["path"]) if is_vendor else None
        if fault is None:
            await self._app(scope, receive, send)
        elif fault.kind in {"status", "garbage"}:
            await _answer(fault, scope["path"])(scope, receive, send)
        elif fault.kind == "status-after":
            await self._app(scope, receive, _swallow)
            await _answer(fault, scope["path"])(scope, receive, send)
        elif fault.kind == "cut":
            await _cut(send)
        elif fault.kind == "delay":
            await asyncio.sleep(fault.seconds)
            await self._app(scope, receive, send)
        else:
            await self._app(scope, receive, _swallow)
            if fault.kind == "timeout-after":
                await _silence(receive, fault.seconds)
            await _cut(send)


async def _swallow(_: Message) -> None:
    """Take an answer nobody will see."""
