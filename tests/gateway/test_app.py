"""The gateway's door: who is let in, how errors leave, and that no secret ever does."""

import base64
import logging
import traceback
from typing import Any

import httpx2
import psycopg
import pytest
from fastapi import FastAPI

from regie.core.capabilities import identity, ticket
from regie.core.capability import Capability, Record
from regie.core.errors import RegieError, Terminal
from regie.gateway.identify import worker_of
from regie.gateway_client import GatewayClient, InboundEvent, StepRef
from regie.store import audit
from tests.leaves import read_outside

from .stage import EVA, JAN, Stage
from .vendor import CANARY, TOKEN_CANARY, WEBHOOK_CANARY, answers, dies_after, dies_before

pytestmark = pytest.mark.slow

QUESTIONS = ["/v1/call", "/v1/plan", "/v1/apply", "/v1/inbound/acme/directory"]


@pytest.fixture
async def http(gateway: FastAPI) -> httpx2.AsyncClient:
    return httpx2.AsyncClient(transport=httpx2.ASGITransport(gateway), base_url="http://gateway")


@pytest.mark.parametrize("path", QUESTIONS)
@pytest.mark.parametrize(
    "authorization", [None, "", "Bearer", "Bearer ", "Bearer wrong", "Basic eDp5", "bearer\twrong"]
)
async def test_without_a_known_token_nothing_is_answered(
    http: httpx2.AsyncClient, path: str, authorization: str | None
) -> None:
    headers = {} if authorization is None else {"Authorization": authorization}
    answer = await http.post(path, headers=headers, json={})

    assert answer.status_code == 401
    assert answer.headers["www-authenticate"] == "Bearer"
    assert answer.json()["failure"]["kind"] == "Denied"


async def test_health_is_told_to_anybody_and_says_nothing_else(http: httpx2.AsyncClient) -> None:
    answer = await http.get("/health")

    assert (answer.status_code, answer.json()) == (200, {"status": "ok"})


async def test_an_error_leaves_as_a_problem_document(
    stage: Stage, http: httpx2.AsyncClient, tokens: dict[str, str]
) -> None:
    run = await stage.start()
    stage.vendor.faults = [answers(429, **{"retry-after": "7"})]
    question = {
        "step": run.at("disable").model_dump(),
        "capability": "identity.disable_account",
        "want": {"user": JAN.user},
    }
    answer = await http.post(
        "/v1/apply", json=question, headers={"Authorization": f"Bearer {tokens[worker_of('identity')]}"}
    )

    assert answer.status_code == 429
    assert answer.headers["content-type"] == "application/problem+json"
    problem = answer.json()
    assert (problem["type"], problem["title"], problem["status"]) == ("urn:regie:error:Throttled", "Throttled", 429)
    assert problem["detail"] == problem["failure"]["message"]
    assert problem["failure"]["after_s"] == 7
    assert problem["failure"]["may_retry"] is True


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b'{"step": 1}', b'{"want": {"user": "told-nobody"}}'])
async def test_a_question_that_is_not_understood_is_not_repeated(
    http: httpx2.AsyncClient, tokens: dict[str, str], body: bytes
) -> None:
    headers = {"Authorization": f"Bearer {tokens[worker_of('identity')]}", "Content-Type": "application/json"}
    answer = await http.post("/v1/apply", content=body, headers=headers)

    assert answer.status_code == 422
    assert answer.json()["failure"]["kind"] == "InvalidInput"
    assert "told-nobody" not in answer.text


@pytest.mark.parametrize(
    ("method", "path", "status"), [("GET", "/", 404), ("GET", "/v1/call", 405), ("GET", "/docs", 404)]
)
async def test_what_is_not_asked_here_is_a_problem_too(
    http: httpx2.AsyncClient, method: str, path: str, status: int
) -> None:
    answer = await http.request(method, path)

    assert answer.status_code == status
    assert answer.json()["failure"]["kind"] == "InvalidInput"


async def test_a_fault_in_a_connector_is_told_without_what_it_held(stage: Stage) -> None:
    run = await stage.start()

    with pytest.raises(Terminal, match=r"broke: KeyError at vendor\.py:\d+") as caught:
        await stage.client.call(run.at("approval"), identity.FIND_MANAGER, JAN)

    assert CANARY not in str(caught.value)


async def test_no_secret_leaves_the_gateway_and_no_person_enters_the_log(
    stage: Stage,
    gateway: FastAPI,
    tokens: dict[str, str],
    *,
    database_url: str,
    caplog: pytest.LogCaptureFixture,
    capfd: pytest.CaptureFixture[str],
) -> None:
    caplog.set_level(logging.DEBUG)
    told: list[str] = []

    class Overheard(httpx2.ASGITransport):
        async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
            answer = await super().handle_async_request(request)
            told.append(f"{answer.headers!r} {(await answer.aread())!r}")
            return answer

    run = await stage.start()
    faults = [
        answers(400),
        answers(401),
        answers(403),
        answers(404),
        answers(500),
        answers(429, **{"retry-after": "0"}),
        dies_before,
        dies_after,
    ]
    async with GatewayClient("http://g", tokens[worker_of("identity")], transport=Overheard(gateway)) as client:
        for fault in faults:
            stage.vendor.enabled |= {JAN.user: True, EVA.user: True}
            stage.vendor.faults = [fault]
            asked = await stage.start()
            steps: list[tuple[str, Capability[Any, Any], Record]] = [
                ("disable", identity.DISABLE_ACCOUNT, JAN),
                ("revoke", identity.REVOKE_SESSIONS, EVA),
                ("say", ticket.COMMENT, ticket.Comment(ticket="ITSM-1", text="Hello")),
            ]
            for place, capability, want in steps:
                try:
                    told.append(repr(await client.apply(asked.at(place), capability, want)))
                except RegieError as error:
                    told.append("".join(traceback.format_exception(error)))
        reads: list[tuple[str, Capability[Any, Any]]] = [
            ("approval", identity.FIND_MANAGER),
            ("look", identity.LIST_ACCESS),
        ]
        for place, read in reads:
            try:
                told.append(repr(await client.call(run.at(place), read, JAN)))
            except RegieError as error:
                told.append("".join(traceback.format_exception(error)))

    written = _everything_in(database_url)
    said = "\n".join([*told, *capfd.readouterr(), caplog.text, written])
    for canary in (CANARY, TOKEN_CANARY, WEBHOOK_CANARY, *tokens.values()):
        assert canary not in said
        assert base64.b64encode(canary.encode()).decode().rstrip("=") not in said
    assert "vendor.py" in said  # the fault was logged
    async with stage.database.reading() as tx:
        leaves = await audit.read(tx, run.key) + await read_outside(tx, "acme", "identity")
    assert not [leaf for leaf in leaves if b"jan@" in leaf.raw or b"Hello" in leaf.raw]


def _everything_in(database_url: str) -> str:
    """Every row of every table, as text; bytes as far as they are text."""
    parts: list[str] = []
    with psycopg.connect(database_url) as connection:
        tables = connection.execute(
            "select format('%I.%I', schemaname, tablename) from pg_tables where schemaname in ('regie', 'audit')"
        ).fetchall()
        assert len(tables) > 10
        for (table,) in tables:
            for row in connection.execute(f"select * from {table}").fetchall():  # noqa: S608  names from the catalogue
                parts += [bytes(cell).decode("latin-1") if isinstance(cell, bytes) else str(cell) for cell in row]
    return "\n".join(parts)


async def test_a_long_delivery_is_cut_off_while_it_comes_in(
    stage: Stage, gateway: FastAPI, tokens: dict[str, str]
) -> None:
    sent = 0

    async def endless() -> object:
        nonlocal sent
        while sent < 64:
            sent += 1
            yield b"x" * 65536

    async with httpx2.AsyncClient(transport=httpx2.ASGITransport(gateway), base_url="http://gateway") as http:
        answer = await http.post(
            "/v1/inbound/acme/directory",
            content=endless(),  # type: ignore[arg-type]  # an async generator of bytes
            headers={"Authorization": f"Bearer {tokens['web']}"},
        )

    assert answer.status_code == 413


def test_words_of_the_talk_are_closed() -> None:
    for word in (StepRef, InboundEvent):
        with pytest.raises(ValueError, match="extra"):
            word.model_validate({"extra": 1})
