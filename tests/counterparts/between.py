"""Something between us and a server: counts what is asked, spoils answers, and adds what this server does not have."""

from __future__ import annotations

import json
import ssl
from collections.abc import Callable
from dataclasses import dataclass, field

import httpx2

Spoil = Callable[[httpx2.Request, httpx2.Response], httpx2.Response]
"""Makes another answer of the server's."""


@dataclass
class _Fault:
    method: str
    part: str
    spoil: Spoil | None
    times: int


@dataclass
class Between(httpx2.AsyncBaseTransport):
    """A transport to one server.

    Attributes:
        done: Method and path of every request that the server carried out, in order.
    """

    trust: str
    done: list[tuple[str, str]] = field(default_factory=list)
    _faults: list[_Fault] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._way = httpx2.AsyncHTTPTransport(verify=ssl.create_default_context(cadata=self.trust), trust_env=False)

    def spoil(self, method: str, part: str, by: Spoil, *, times: int = 1) -> None:
        """Have the next answers to such requests spoilt; the server does what was asked."""
        self._faults.append(_Fault(method, part, by, times))

    def refuse(self, method: str, part: str, by: Spoil, *, times: int = 1) -> None:
        """Have the next such requests answered in place of the server, which does not hear of them."""
        self._faults.append(_Fault(method, f"!{part}", by, times))

    def count(self, method: str, part: str) -> int:
        """How many requests of a kind the server carried out."""
        return sum(each == method and part in path for each, path in self.done)

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        fault = next((each for each in self._faults if self._fits(each, request)), None)
        if fault is not None:
            fault.times -= 1
            if fault.part.startswith("!") and fault.spoil is not None:
                return fault.spoil(request, httpx2.Response(200, request=request))
        response = await self._way.handle_async_request(request)
        await response.aread()
        await response.aclose()
        if response.is_success:
            self.done.append((request.method, request.url.path))
        plain = httpx2.Response(
            response.status_code,
            headers=[pair for pair in response.headers.raw if pair[0].lower() != b"content-length"],
            content=response.content,
            request=request,
        )
        return fault.spoil(request, plain) if fault is not None and fault.spoil is not None else plain

    async def aclose(self) -> None:
        """Nothing: another gateway may speak through it still."""

    async def shut(self) -> None:
        """Let go of the server."""
        await self._way.aclose()

    def _fits(self, fault: _Fault, request: httpx2.Request) -> bool:
        part = fault.part.removeprefix("!")
        return fault.times > 0 and fault.method == request.method and part in request.url.path


def problem(status: int, kind: str, **headers: str) -> Spoil:
    """An ACME problem document in place of the answer."""
    content = json.dumps({"type": f"urn:ietf:params:acme:error:{kind}", "detail": "no"}).encode()
    named = {"Content-Type": "application/problem+json"} | {
        name.replace("_", "-"): value for name, value in headers.items()
    }

    def answer(request: httpx2.Request, _: httpx2.Response) -> httpx2.Response:
        return httpx2.Response(status, headers=named, content=content, request=request)

    return answer


def cut(request: httpx2.Request, _: httpx2.Response) -> httpx2.Response:
    """No answer comes."""
    raise httpx2.ReadError("cut", request=request)
