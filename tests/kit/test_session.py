"""The one place where a vendor's answers become our errors."""

from __future__ import annotations

import asyncio
import json
import traceback
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import httpx2
import pytest
from hypothesis import given
from hypothesis import strategies as st

from regie.core.errors import (
    AuthFailed,
    Failure,
    InvalidInput,
    NotFound,
    OutcomeUnknown,
    Refused,
    RegieError,
    Terminal,
    Throttled,
    Unavailable,
)
from regie.kit.session import LARGEST_BODY, LONGEST_WAIT_S, Answer, Session, Wild, segment

SECRET = "the-secret-of-the-test"
BODY = "body-text"
Handler = Callable[[httpx2.Request], httpx2.Response]


def session(handler: Handler) -> Session:
    client = httpx2.AsyncClient(
        transport=httpx2.MockTransport(handler),
        base_url="https://vendor.example.com/api",
        headers={"Authorization": f"Bearer {SECRET}"},
    )
    return Session(client, vendor="Vendor", permissions=("thing:read", "thing:write"))


def answering(status: int, body: object = None, headers: dict[str, str] | None = None) -> Session:
    content = b"" if body is None else json.dumps(body).encode()
    return session(lambda _: httpx2.Response(status, content=content, headers=headers))


def failing(error: Exception) -> Session:
    def fail(_: httpx2.Request) -> httpx2.Response:
        raise error

    return session(fail)


async def read(subject: Session) -> Answer:
    return await subject.get("/things/1")


async def write(subject: Session) -> Answer:
    return await subject.post("/things", json={"password": BODY})


async def failure_of(subject: Session, *, writing: bool) -> RegieError:
    with pytest.raises(RegieError) as caught:
        await (write if writing else read)(subject)
    return caught.value


STATUSES: list[tuple[int, type[RegieError], type[RegieError]]] = [
    (301, Terminal, OutcomeUnknown),
    (303, Terminal, OutcomeUnknown),
    (400, Refused, Refused),
    (401, AuthFailed, AuthFailed),
    (403, AuthFailed, AuthFailed),
    (404, NotFound, NotFound),
    (408, Unavailable, OutcomeUnknown),
    (409, Refused, Refused),
    (410, NotFound, NotFound),
    (412, Refused, Refused),
    (418, Refused, Refused),
    (422, Refused, Refused),
    (429, Throttled, Throttled),
    (500, Unavailable, OutcomeUnknown),
    (502, Unavailable, OutcomeUnknown),
    (503, Unavailable, OutcomeUnknown),
    (504, Unavailable, OutcomeUnknown),
]


@pytest.mark.parametrize(("status", "on_read", "on_write"), STATUSES)
async def test_each_status_has_one_class(status: int, on_read: type[RegieError], on_write: type[RegieError]) -> None:
    assert type(await failure_of(answering(status), writing=False)) is on_read
    assert type(await failure_of(answering(status), writing=True)) is on_write


SENT = [httpx2.ReadTimeout("x"), httpx2.WriteTimeout("x"), httpx2.ReadError("x"), httpx2.RemoteProtocolError("x")]
NOT_SENT = [httpx2.ConnectError("x"), httpx2.ConnectTimeout("x"), httpx2.PoolTimeout("x")]


@pytest.mark.parametrize("error", SENT, ids=lambda each: type(each).__name__)
async def test_a_write_that_loses_its_answer_is_unknown(error: Exception) -> None:
    assert type(await failure_of(failing(error), writing=True)) is OutcomeUnknown
    assert type(await failure_of(failing(error), writing=False)) is Unavailable


@pytest.mark.parametrize("error", NOT_SENT, ids=lambda each: type(each).__name__)
async def test_a_write_that_never_left_may_be_repeated(error: Exception) -> None:
    assert type(await failure_of(failing(error), writing=True)) is Unavailable


async def test_our_own_errors_from_the_authentication_pass_through() -> None:
    error = AuthFailed("the login refused the client")
    assert await failure_of(failing(error), writing=True) is error


class Waiting(httpx2.Auth):
    """Waits for ever before it lets the n-th request go."""

    def __init__(self, before: int) -> None:
        self.before = before

    async def async_auth_flow(self, request: httpx2.Request) -> AsyncGenerator[httpx2.Request, httpx2.Response]:
        for _ in range(self.before):
            yield request
        await asyncio.Event().wait()


@pytest.mark.parametrize(
    ("authentication", "status", "kind"),
    [
        (Waiting(0), 200, Unavailable),
        (Waiting(1), 401, Unavailable),
        (Waiting(1), 200, OutcomeUnknown),
        (None, 0, OutcomeUnknown),
    ],
    ids=["never sent", "turned down", "answered", "silent"],
)
async def test_only_a_write_that_left_and_was_not_turned_down_may_have_happened(
    monkeypatch: pytest.MonkeyPatch, authentication: httpx2.Auth | None, status: int, kind: type[RegieError]
) -> None:
    monkeypatch.setattr("regie.kit.session.LONGEST_S", 0.05)

    async def handle(_: httpx2.Request) -> httpx2.Response:
        if not status:
            await asyncio.Event().wait()
        return httpx2.Response(status)

    transport, address = httpx2.MockTransport(handle), "https://vendor.example.com/api"
    async with httpx2.AsyncClient(transport=transport, base_url=address, auth=authentication) as client:
        assert type(await failure_of(Session(client, vendor="Vendor"), writing=True)) is kind


async def test_an_authentication_that_breaks_off_has_sent_nothing() -> None:
    class Broken(httpx2.Auth):
        async def async_auth_flow(self, request: httpx2.Request) -> AsyncGenerator[httpx2.Request, httpx2.Response]:
            raise httpx2.DecodingError("a token nobody can read")
            yield request

    client = httpx2.AsyncClient(base_url="https://vendor.example.com/api", auth=Broken())
    assert type(await failure_of(Session(client, vendor="Vendor"), writing=True)) is Unavailable


@pytest.mark.parametrize("content", [b"<html>", b'{"a":', b"\xff\xfe", b"[" * 100_000])
async def test_garbage_in_a_good_answer(content: bytes) -> None:
    subject = session(lambda _: httpx2.Response(200, content=content))
    assert type(await failure_of(subject, writing=False)) is Unavailable
    assert type(await failure_of(subject, writing=True)) is OutcomeUnknown


async def test_a_body_without_end_is_not_read_to_its_end() -> None:
    sent = 0

    async def endless() -> AsyncIterator[bytes]:
        nonlocal sent
        while True:
            sent += 1
            yield b" " * 65_536

    subject = session(lambda _: httpx2.Response(200, content=endless()))
    assert type(await failure_of(subject, writing=False)) is Unavailable
    assert sent <= LARGEST_BODY // 65_536 + 1
    assert type(await failure_of(subject, writing=True)) is OutcomeUnknown


async def test_a_failure_with_garbage_is_judged_by_its_status() -> None:
    subject = session(lambda _: httpx2.Response(404, content=b"<html>"))
    assert type(await failure_of(subject, writing=True)) is NotFound


@given(seconds=st.integers(0, 10**12))
async def test_retry_after_in_seconds(seconds: int) -> None:
    error = await failure_of(answering(429, headers={"Retry-After": str(seconds)}), writing=True)
    assert isinstance(error, Throttled)
    assert error.after_s == min(seconds, LONGEST_WAIT_S)


@given(seconds=st.integers(-100_000, 10**6))
async def test_retry_after_as_a_date_is_measured_on_the_vendors_clock(seconds: int) -> None:
    now = datetime(2031, 5, 4, 12, 0, tzinfo=UTC)
    until = format_datetime(now + timedelta(seconds=seconds), usegmt=True)
    headers = {"Retry-After": until, "Date": format_datetime(now, usegmt=True)}
    error = await failure_of(answering(503, headers=headers), writing=False)
    assert isinstance(error, Unavailable)
    assert error.after_s == min(max(seconds, 0), LONGEST_WAIT_S)


@pytest.mark.parametrize("status", [408, 500, 502, 503, 504])
async def test_a_wish_for_time_is_no_promise_that_a_write_did_nothing(status: int) -> None:
    error = await failure_of(answering(status, headers={"Retry-After": "7"}), writing=True)
    assert isinstance(error, OutcomeUnknown)
    assert error.after_s == 7


@given(text=st.text(st.characters(codec="ascii", exclude_categories=["Cc"])))
async def test_any_retry_after_is_survived(text: str) -> None:
    error = await failure_of(answering(429, headers={"Retry-After": text}), writing=False)
    assert isinstance(error, Throttled)
    assert error.after_s is None or 0 <= error.after_s <= LONGEST_WAIT_S


async def test_a_missing_retry_after_says_nothing() -> None:
    error = await failure_of(answering(429), writing=False)
    assert isinstance(error, Throttled)
    assert error.after_s is None


@pytest.mark.parametrize(
    ("body", "code"),
    [
        ({"error": {"code": "Request_BadRequest", "message": "m"}}, "Request_BadRequest"),
        ({"error": "invalid_grant", "error_description": "d"}, "invalid_grant"),
        ({"errorMessages": ["m"], "errors": {"summary": "m", "project": "m"}}, "summary,project"),
        ({"code": "THROTTLED"}, "THROTTLED"),
        ({"error": {"code": "words and spaces"}}, ""),
        ({"error": {"code": 7}}, ""),
        (["a"], ""),
        ("text", ""),
        (None, ""),
    ],
)
async def test_the_vendors_code_is_carried(body: object, code: str) -> None:
    error = await failure_of(answering(400, body), writing=True)
    assert isinstance(error, Refused)
    assert (error.code, error.status) == (code, 400)


async def test_a_403_names_the_missing_permission() -> None:
    error = await failure_of(answering(403), writing=True)
    assert error.hint is not None
    assert "thing:read, thing:write" in error.hint
    other = await failure_of(answering(403).needing(("other:do",)), writing=False)
    assert other.hint is not None
    assert "other:do" in other.hint


@pytest.mark.parametrize("status", [200, 301, 400, 401, 403, 404, 409, 429, 500, 503])
@pytest.mark.parametrize("writing", [False, True])
async def test_errors_carry_no_secret_no_header_and_no_body(status: int, *, writing: bool) -> None:
    def handler(request: httpx2.Request) -> httpx2.Response:
        return httpx2.Response(status, content=f"{{said {SECRET} {BODY}".encode(), headers={"X-Note": SECRET})

    subject = session(handler)
    with pytest.raises(RegieError) as caught:
        await (write if writing else read)(subject)
    error = caught.value
    told = "".join(traceback.format_exception(error)) + repr(error) + Failure.of(error).model_dump_json()
    assert SECRET not in told
    assert BODY not in told
    assert error.__context__ is None


async def test_credentials_never_go_to_another_host() -> None:
    asked: list[httpx2.URL] = []

    def handler(request: httpx2.Request) -> httpx2.Response:
        asked.append(request.url)
        return httpx2.Response(200, json={})

    subject = session(handler)
    for url in ("https://evil.example.net/x", "http://vendor.example.com/api/x", "https://vendor.example.com:8443/x"):
        with pytest.raises(Terminal, match="another host"):
            await subject.get(url)
    assert asked == []
    await subject.get("https://vendor.example.com/api/things?$skiptoken=a%2Fb")
    await subject.get("//evil.example.net/things")
    assert [each.host for each in asked] == ["vendor.example.com"] * 2
    assert asked[0].query == b"$skiptoken=a%2Fb"


async def test_the_query_of_a_link_stays_out_of_errors() -> None:
    with pytest.raises(NotFound) as caught:
        await answering(404).get("https://vendor.example.com/api/things?token=abc")
    assert "abc" not in str(caught.value)


async def test_named_statuses_are_answers() -> None:
    answer = await answering(404, {"error": {}}).get("/things/1", accept={404})
    assert answer.status == 404


@pytest.mark.parametrize("name", ["request-id", "Atl-Traceid", "X-Request-Id"])
async def test_the_vendors_request_id_is_kept(name: str) -> None:
    assert (await read(answering(200, {}, {name: "abc-1"}))).request_id == "abc-1"
    assert (await read(answering(200, {}, {name: "<b>no id</b>"}))).request_id == ""


async def test_an_empty_body_is_nothing() -> None:
    assert (await write(answering(204))).json is None


async def test_half_a_character_in_an_answer_is_replaced() -> None:
    found = await read(answering(200, {"summary": "X \ud83d", "display": "\U0001f600"}))
    assert found.json == {"summary": "X \ufffd", "display": "\U0001f600"}


async def test_text_that_is_not_quite_unicode_is_sent() -> None:
    bodies: list[bytes] = []

    def handler(request: httpx2.Request) -> httpx2.Response:
        bodies.append(request.content)
        assert request.headers["content-type"] == "application/json"
        return httpx2.Response(204)

    await session(handler).put("/things/1", json={"text": "half \ud83d"})
    assert json.loads(bodies[0]) == {"text": "half \ud83d"}


class Thing(Wild):
    id: str


async def test_an_unknown_shape_is_unknown_only_after_a_write() -> None:
    subject = answering(200, {"id": 7, "note": BODY})
    with pytest.raises(Terminal) as on_read:
        (await read(subject)).read_as(Thing)
    with pytest.raises(OutcomeUnknown) as on_write:
        (await write(subject)).read_as(Thing)
    for caught in (on_read, on_write):
        assert "id" in str(caught.value)
        assert caught.value.__context__ is None
    assert (await read(answering(200, {"id": "a", "more": 1}))).read_as(Thing).id == "a"


@given(text=st.text(st.characters(exclude_categories=["Cs"])))
def test_a_segment_stays_one_segment(text: str) -> None:
    if text in {"", ".", ".."}:
        with pytest.raises(InvalidInput):
            segment(text)
    else:
        path = httpx2.URL(f"https://vendor.example.com/a/{segment(text)}/b").raw_path.decode()
        assert path.count("/") == 3
        assert httpx2.URL(f"https://vendor.example.com/{segment(text)}").path == f"/{text}"
