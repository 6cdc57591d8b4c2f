from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import httpx2
import pytest
from fastapi import FastAPI
from starlette.types import Message, Scope

from regie.core import errors
from regie.core.errors import RegieError
from regie.store.approvals import DecidedMeanwhile
from regie.web import limits
from regie.web.limits import LARGEST_BODY
from regie.web.problems import status_of

from .stage import AS_OPERATOR, Stage

pytestmark = pytest.mark.slow

HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "Cache-Control": "no-store",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
}


PROBLEMS = [
    ("GET", "/v1", 404, "NotFound"),
    ("GET", "/v1/runs/", 404, "NotFound"),
    ("GET", "/v1/docs", 404, "NotFound"),
    ("GET", "/v1/nothing", 404, "NotFound"),
    ("DELETE", "/v1/runs", 405, "MethodNotAllowed"),
    ("GET", "/v1/inbound/acme/jira", 405, "MethodNotAllowed"),
    ("GET", "/v1/runs?limit=x", 422, "InvalidInput"),
    ("GET", "/v1/runs/x", 404, "NotFound"),
]


async def test_every_error_is_a_problem_document(stage: Stage) -> None:
    for method, path, status, kind in PROBLEMS:
        answer = await stage.http.request(method, path, headers=AS_OPERATOR)
        assert answer.status_code == status, path
        assert answer.headers["Content-Type"] == "application/problem+json"
        problem = answer.json()
        assert (problem["status"], problem["kind"], problem["type"]) == (status, kind, f"urn:regie:error:{kind}")
        assert problem.keys() <= {"type", "title", "status", "detail", "hint", "kind"}
        assert problem["title"]
        assert problem["detail"]
        assert ("Allow" in answer.headers) == (status == 405)


async def test_every_answer_wears_the_headers(stage: Stage) -> None:
    for path in ("/health", "/v1/runs", "/v1/approvals", "/v1/nothing"):
        answer = await stage.http.get(path, headers=AS_OPERATOR)
        for name, value in HEADERS.items():
            assert answer.headers[name] == value


async def test_a_fault_of_ours_is_told_without_its_details(app: FastAPI, http: httpx2.AsyncClient) -> None:
    @app.get("/v1/broken")
    async def broken() -> None:
        raise RuntimeError("DETAIL: Key (address)=(jan.janssen@example.com) already exists")

    @app.get("/v1/explained")
    async def explained() -> None:
        raise DecidedMeanwhile("geheim", "approved")

    for path in ("/v1/broken", "/v1/explained"):
        answer = await http.get(path)
        assert answer.status_code == 500
        assert answer.json()["kind"] == "Broken"
        assert "jan" not in answer.text
        assert "geheim" not in answer.text
        assert answer.headers["X-Content-Type-Options"] == "nosniff"


def test_every_class_of_error_has_a_status() -> None:
    expected = {
        "InvalidInput": 422,
        "Denied": 403,
        "NotFound": 404,
        "WorldMoved": 409,
        "LimitReached": 409,
        "FencedOut": 409,
        "Terminal": 502,
        "Refused": 502,
        "AuthFailed": 502,
        "NotVerified": 502,
        "ChildFailed": 502,
        "Throttled": 429,
        "BudgetSpent": 429,
        "Unavailable": 503,
        "TimedOut": 503,
        "Retryable": 503,
        "OutcomeUnknown": 503,
        "AuditBroken": 500,
        "DefinitionError": 500,
        "EvaluationError": 500,
        "RegieError": 500,
    }
    kinds = {
        name: kind for name, kind in vars(errors).items() if isinstance(kind, type) and issubclass(kind, RegieError)
    }
    assert {name: status_of(kind.__new__(kind)) for name, kind in kinds.items()} == expected


class Slow:
    """A body that comes in pieces."""

    def __init__(self, pieces: int, size: int) -> None:
        self.pieces = pieces
        self.size = size
        self.taken = 0

    async def __aiter__(self) -> AsyncIterator[bytes]:
        for _ in range(self.pieces):
            self.taken += 1
            yield b"x" * self.size


async def test_a_body_is_counted_while_it_comes_in(http: httpx2.AsyncClient) -> None:
    for path in ("/v1/runs", "/v1/approvals/x/decision", "/health", "/v1/nothing"):
        body = Slow(pieces=1000, size=LARGEST_BODY // 10)
        answer = await http.post(path, content=body, headers=AS_OPERATOR)
        assert answer.status_code == 413, path
        assert answer.headers["Connection"] == "close"
        # What is beyond the limit is let go by for a while, so that the sender sees the answer, and never kept.
        assert body.taken <= 10 * (1 + limits.LARGEST_REST // LARGEST_BODY) + 2


async def test_a_body_announced_as_too_large_is_not_waited_for(app: FastAPI) -> None:
    sent = await talk(app, [], [(b"content-length", b"9" * 30)])
    assert sent[0]["status"] == 413


async def test_the_rest_of_a_refused_body_is_let_go_by_before_the_answer(app: FastAPI) -> None:
    rest: Message = {"type": "http.request", "body": b"x" * 10, "more_body": True}
    end: Message = {"type": "http.request", "body": b"", "more_body": False}
    sent = await talk(app, [rest, rest, end], [(b"content-length", str(LARGEST_BODY + 1).encode())])
    assert sent[0]["status"] == 413
    packed = await talk(app, [rest, end], [(b"content-encoding", b"gzip")])
    assert packed[0]["status"] == 415


async def test_whoever_waits_to_be_asked_for_a_body_is_not_asked(app: FastAPI) -> None:
    headers = [(b"content-length", str(LARGEST_BODY + 1).encode()), (b"expect", b"100-continue")]
    assert (await talk(app, [], headers))[0]["status"] == 413


async def test_whoever_goes_away_gets_no_answer(app: FastAPI) -> None:
    assert await talk(app, [{"type": "http.disconnect"}], []) == []


async def test_a_body_has_a_time_to_arrive(app: FastAPI, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "BODY_WITHIN_S", 0.05)
    sent = await talk(app, [{"type": "http.request", "body": b"{", "more_body": True}], [])
    assert sent[0]["status"] == 408


async def talk(app: FastAPI, messages: list[Message], headers: list[tuple[bytes, bytes]]) -> list[Message]:
    """Speak ASGI: after the messages given nothing more comes in."""
    coming, sent = iter(messages), list[Message]()

    async def receive() -> Message:
        message = next(coming, None)
        if message is None:
            await asyncio.Event().wait()
        assert message is not None
        return message

    async def send(message: Message) -> None:
        sent.append(message)

    scope: Scope = {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": "POST",
        "path": "/v1/runs",
        "raw_path": b"/v1/runs",
        "query_string": b"",
        "root_path": "",
        "scheme": "http",
        "headers": headers,
        "client": ("127.0.0.1", 1),
        "server": ("127.0.0.1", 2),
    }
    await asyncio.wait_for(app(scope, receive, send), 10)
    return sent
