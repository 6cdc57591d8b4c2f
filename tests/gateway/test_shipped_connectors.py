"""The shipped connectors through the gateway, against the imaginary world: planned, approved, done once, and again."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx2
import pytest

from regie.core.capabilities import identity, ticket
from regie.core.capability import Capability, Record
from regie.core.definition import Definition
from regie.core.errors import Throttled, Unavailable
from regie.core.plan import Change
from regie.core.tenant import Connection, SecretRef
from regie.gateway.app import make_gateway
from regie.gateway.identify import Callers, worker_of
from regie.gateway.vault import VaultFile
from regie.gateway_client import ApplyAnswer
from regie.store import releases, workers
from regie.store.database import Database
from regie_sandbox import seed
from regie_sandbox.app import close, make_app
from regie_sandbox.rules import Rules

from .conftest import alive, client_of
from .stage import BLOCKS, OPERATOR, Run, Stage, release_of, step
from .vendor import Vendor

pytestmark = pytest.mark.slow

JAN = identity.UserQuery(user="jan.janssen@example.com")
WORLD = "http://world.example"
SECRETS = {
    SecretRef(domain="identity", name="jira-token"): seed.JIRA_ACCOUNT.api_token,
    SecretRef(domain="identity", name="jira-webhook"): "webhook-secret",
    SecretRef(domain="identity", name="graph-client"): seed.REGIE_APP.client_secret,
}
JIRA_TOKEN, WEBHOOK, GRAPH_SECRET = SECRETS
CONNECTIONS = {
    "jira": Connection(
        connector="jira",
        domains=("identity",),
        settings={
            "site": f"{WORLD}/jira",
            "email": seed.JIRA_ACCOUNT.email,
            "fields": {"employee": seed.EMPLOYEE_FIELD},
            "closing_transitions": ["Start progress", "Resolve"],
        },
        secrets={"api_token": JIRA_TOKEN, "webhook": WEBHOOK},
    ),
    "graph": Connection(
        connector="graph",
        domains=("identity",),
        settings={
            "address": f"{WORLD}/graph/v1.0",
            "token_url": f"{WORLD}/login/{seed.TENANT_ID}/oauth2/v2.0/token",
            "client_id": seed.REGIE_APP.client_id,
        },
        secrets={"client_secret": GRAPH_SECRET},
    ),
}
DEFINITION = Definition(
    workflow="identity.offboard_employee",
    title="Offboard",
    owner="team:implementation",
    steps=(
        step("look", "identity.list_access"),
        step("approval", "people.approve", arguments={"covers": ["disable"]}),
        step("disable", "identity.disable_account"),
        step("revoke", "identity.revoke_sessions"),
        step("leave", "identity.remove_from_group"),
        step("say", "ticket.comment"),
        step("finish", "ticket.close"),
    ),
)


class Outside:
    """The imaginary world, and the hand above it."""

    def __init__(self, http: httpx2.AsyncClient) -> None:
        self.http = http

    async def ticket(self) -> str:
        body = {"reporter": "piet.devries@example.com", "employee": JAN.user, "last_day": "2026-11-30"}
        answer = await self.http.post("/sandbox/tickets", json=body)
        return str(answer.json()["key"])

    async def writes(self) -> int:
        return len((await self.http.get("/sandbox/ledger")).json()["entries"])

    async def fault(self, **fault: Any) -> None:
        answer = await self.http.post("/sandbox/faults", json=fault)
        assert answer.status_code == 201, answer.text


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[httpx2.AsyncBaseTransport]:
    app = make_app(tmp_path / "world", rules=Rules(graph_revoke_delay_seconds=0.05, jira_index_delay_seconds=0))
    yield httpx2.ASGITransport(app)
    await close(app)


@pytest.fixture
async def outside(world: httpx2.AsyncBaseTransport) -> AsyncIterator[Outside]:
    async with httpx2.AsyncClient(transport=world, base_url=WORLD) as http:
        yield Outside(http)


@pytest.fixture
async def stage(
    database: Database, tmp_path: Path, tokens: dict[str, str], world: httpx2.AsyncBaseTransport
) -> AsyncIterator[Stage]:
    vault = VaultFile.create(tmp_path / "vault")
    for reference, value in SECRETS.items():
        vault.put("acme", reference, value)
    release = release_of(CONNECTIONS, DEFINITION, {**BLOCKS, "ticket.close": ("ticket.close",)})
    async with database.transaction() as tx:
        await releases.put(tx, release, by=OPERATOR)
    gateway = make_gateway(
        database, vault, Callers(lambda: tokens), transport_for=lambda address: world, rereads_s=(0.05, 0.1)
    )
    async with (
        alive(gateway),
        client_of(gateway, tokens[worker_of("identity")]) as client,
        client_of(gateway, tokens["web"]) as web,
        workers.registered(database, name="test", domains=["identity"]) as worker,
    ):
        yield Stage(database, client, Vendor(), worker.id, client, web)


async def settle(
    stage: Stage, run: Run, place: str, capability: Capability[Any, Any], want: Record
) -> ApplyAnswer[Any]:
    """Ask until it is not pending any more, as an engine does."""
    answer = await stage.client.apply(run.at(place), capability, want)
    async with asyncio.timeout(20):
        while answer.state == "pending":
            await asyncio.sleep(0.05)
            answer = await stage.client.apply(run.at(place), capability, want, answer.handle)
    return answer


async def offboard(stage: Stage, key: str) -> list[str]:
    """All of it for one ticket; how each step went."""
    run = await stage.start(ticket=key)
    access = await stage.client.call(run.at("look"), identity.LIST_ACCESS, JAN)
    planned = (await stage.client.plan(run.at("disable"), identity.DISABLE_ACCOUNT, JAN)).planned
    run = await stage.ask(run, [("disable", planned)])
    went: list[str] = [(await settle(stage, run, "disable", identity.DISABLE_ACCOUNT, JAN)).state]
    went.append((await settle(stage, run, "revoke", identity.REVOKE_SESSIONS, JAN)).state)
    if access.groups:
        membership = identity.Membership(user=JAN.user, group=access.groups[0].id)
        went.append((await settle(stage, run, "leave", identity.REMOVE_FROM_GROUP, membership)).state)
    said = ticket.Comment(ticket=key, text="Done.")
    went.append((await settle(stage, run, "say", ticket.COMMENT, said)).state)
    went.append((await settle(stage, run, "finish", ticket.CLOSE, ticket.Closing(ticket=key))).state)
    assert set(await run.leaves()) <= {"effect:intended", "effect:received", "effect:unchanged"}
    return went


async def test_a_person_is_offboarded_and_the_same_ticket_again_changes_nothing(stage: Stage, outside: Outside) -> None:
    key = await outside.ticket()

    assert await offboard(stage, key) == ["received"] * 5
    written = await outside.writes()
    again = await offboard(stage, key)

    # The second run takes the person out of one more group; everything else is as wanted.
    assert again == ["unchanged", "unchanged", "received", "unchanged", "unchanged"]
    assert await outside.writes() == written + 1


@pytest.mark.parametrize("kind", ["cut", "cut-after", "status", "garbage"])
async def test_a_connection_cut_in_a_write_neither_loses_nor_doubles_it(
    stage: Stage, outside: Outside, kind: str
) -> None:
    key = await outside.ticket()
    run = await stage.start(ticket=key)
    said = ticket.Comment(ticket=key, text="Hello")
    before = await outside.writes()
    await outside.fault(kind=kind, method="POST", path="comment", status=500)

    try:
        answer = await stage.client.apply(run.at("say"), ticket.COMMENT, said)
    except Unavailable:
        answer = await stage.client.apply((await stage.pass_on(run)).at("say"), ticket.COMMENT, said)

    assert answer.state == "received"
    assert await outside.writes() == before + 1


async def test_a_throttled_write_is_tried_later_and_done_once(stage: Stage, outside: Outside) -> None:
    run = await stage.start(dry=True)
    planned = (await stage.client.plan(run.at("disable"), identity.DISABLE_ACCOUNT, JAN)).planned
    assert isinstance(planned, Change)
    assert planned.in_words() == "Jan Janssen (jan.janssen@example.com): enabled true -> false"
    run = await stage.ask(await stage.start(), [("disable", planned)])
    await outside.fault(kind="status", status=429, method="PATCH", path="/graph/v1.0/users", retry_after="1")
    before = await outside.writes()

    with pytest.raises(Throttled) as caught:
        await stage.client.apply(run.at("disable"), identity.DISABLE_ACCOUNT, JAN)
    assert caught.value.after_s == 1
    async with asyncio.timeout(10):
        while True:
            try:
                answer = await stage.client.apply(run.at("disable"), identity.DISABLE_ACCOUNT, JAN)
                break
            except Throttled as error:
                await asyncio.sleep(error.after_s or 0)

    assert answer.state == "received"
    assert await outside.writes() == before + 1
