"""One suite over every write of every connector, against the imaginary outside world.

Observe, plan, apply, confirm; then once more, which must change nothing. The world's own ledger counts the writes.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx2
import pytest
from pydantic import JsonValue

from regie.core.effect import marker
from regie.core.errors import NotFound, OutcomeUnknown, Terminal, Throttled
from regie.core.plan import Change, NoChange, Pending, Receipt
from regie.kit.connector import Connector, Read, Seen, Write, provided
from regie.kit.session import Session
from regie_sandbox import chat, seed
from regie_sandbox.app import close, make_app

from .conftest import all_connectors

CONNECTORS = all_connectors()
JAN = "jan.janssen@example.com"
SALES = seed.object_id("groups", "Sales Team")
ENGINEERING = seed.object_id("groups", "Engineering")
MARKER = marker("0123456789abcdef" * 4)

# What is asked of the world, by capability, and how often it is written to; ITSM-1 is opened by hand first.
WANTS: dict[str, tuple[dict[str, JsonValue], int]] = {
    "identity.add_to_group": ({"user": JAN, "group": ENGINEERING}, 1),
    "identity.disable_account": ({"user": JAN}, 1),
    "identity.enable_account": ({"user": "karel.novak@example.com"}, 1),
    "identity.remove_from_group": ({"user": JAN, "group": SALES}, 1),
    "identity.revoke_sessions": ({"user": JAN}, 1),
    "message.send": ({"to": "certificates", "text": "Soon: <www> & Łukasz", "link": "https://example.com/?a=1&b=2"}, 1),
    "ticket.close": ({"ticket": "ITSM-1"}, 2),
    "ticket.comment": ({"ticket": "ITSM-1", "text": "Switched off:\n\n- the account\n- Łukasz's 日本 badge"}, 1),
    "ticket.open": (
        {"queue": "ITSM", "title": "Laptop of\nJan Janssen", "text": "Please collect.\nToday.", "kind": "Task"},
        1,
    ),
    "ticket.update": (
        {
            "ticket": "ITSM-1",
            "text": "Soon:\n\n- Łukasz\n- 日本",
            "priority": "High",
            "fields": {"last_day": "2026-12-01"},
        },
        1,
    ),
}
# The vendors that the imaginary world imitates; a connector for another is held to its recordings.
IMITATED = ("graph", "jira", "slack")
WRITES = [
    pytest.param(name, capability, id=f"{name}-{capability}")
    for name, found in CONNECTORS.items()
    if name in IMITATED
    for capability, entry in provided(found.connector).items()
    if entry.repeat is not None
]
each_write = pytest.mark.parametrize(("name", "capability"), WRITES)


class Clock:
    """The world's clock; moves when told to."""

    def __init__(self) -> None:
        self.now = datetime(2026, 11, 21, 12, 0, tzinfo=UTC)

    def __call__(self) -> datetime:
        return self.now

    async def pause(self, seconds: float) -> None:
        self.now += timedelta(seconds=seconds)


@dataclass
class Outside:
    client: httpx2.AsyncClient
    clock: Clock
    connectors: dict[str, Connector]

    def write(self, name: str, capability: str) -> Write[Any, Any]:
        found = self.connectors[name].implementation(capability)
        assert isinstance(found, Write)
        return found

    async def read(self, name: str, capability: str, **want: JsonValue) -> Any:
        found = self.connectors[name].implementation(capability)
        assert isinstance(found, Read)
        return await found.read(found.capability.wants.model_validate(want))

    async def effects(self) -> list[dict[str, Any]]:
        answer = (await self.client.get("/sandbox/ledger")).json()
        return list(answer["entries"])

    async def arm(self, **fault: JsonValue) -> None:
        assert (await self.client.post("/sandbox/faults", json=fault)).status_code == 201


@pytest.fixture
async def outside(tmp_path: Path) -> AsyncIterator[Outside]:
    clock = Clock()
    app = make_app(tmp_path, clock=clock)
    transport = httpx2.ASGITransport(app)
    control = httpx2.AsyncClient(transport=transport, base_url="http://sandbox.example.com")
    form = {
        "grant_type": "client_credentials",
        "client_id": seed.REGIE_APP.client_id,
        "client_secret": seed.REGIE_APP.client_secret,
        "scope": "https://graph.microsoft.com/.default",
    }
    token = (await control.post(f"/login/{seed.TENANT_ID}/oauth2/v2.0/token", data=form)).json()["access_token"]
    jira = httpx2.AsyncClient(
        transport=transport,
        base_url="http://sandbox.example.com/jira",
        auth=(seed.JIRA_ACCOUNT.email, seed.JIRA_ACCOUNT.api_token),
    )
    graph = httpx2.AsyncClient(
        transport=transport,
        base_url="http://sandbox.example.com/graph/v1.0",
        headers={"Authorization": f"Bearer {token}"},
    )
    slack = httpx2.AsyncClient(
        transport=transport,
        base_url="http://sandbox.example.com/slack/api",
        headers={"Authorization": f"Bearer {chat.REGIE_APP.bot_token}"},
    )
    settings: dict[str, dict[str, JsonValue]] = {
        "jira": {
            "fields": {"employee": seed.EMPLOYEE_FIELD, "last_day": seed.LAST_DAY_FIELD},
            "closing_transitions": ["Start progress", "Resolve"],
        },
        "slack": {
            "workspace": chat.TEAM,
            "app": chat.REGIE_APP.id,
            "channels": {each.name: each.id for each in chat.CHANNELS},
        },
    }
    clients = {"jira": jira, "graph": graph, "slack": slack}
    made: dict[str, Connector] = {
        name: CONNECTORS[name].connector(
            Session(client, vendor=CONNECTORS[name].manifest.title),
            CONNECTORS[name].manifest.effective(settings.get(name, {})),
        )
        for name, client in clients.items()
    }
    new = {"reporter": "nguyen.thao@example.com", "employee": JAN, "last_day": "2026-11-30"}
    assert (await control.post("/sandbox/tickets", json=new)).status_code == 201
    yield Outside(control, clock, made)
    for client in (control, *clients.values()):
        await client.aclose()
    await close(app)


async def make(outside: Outside, write: Write[Any, Any], want: Any, change: Change) -> Receipt:
    """Apply, and ask again until it is finished."""
    answer = await write.apply(want, change, MARKER)
    while isinstance(answer, Pending):
        await outside.clock.pause(answer.again_after_s)
        answer = await write.resume(want, answer.handle)
    return answer


async def planned(write: Write[Any, Any], want: Any, seen: Seen) -> Change:
    change = write.plan(want, seen)
    assert isinstance(change, Change)
    return change


def test_every_write_is_asked_for() -> None:
    assert {each.values[1] for each in WRITES} == set(WANTS)


@each_write
async def test_a_change_is_made_once_and_shows(outside: Outside, name: str, capability: str) -> None:
    write, (asked, writes) = outside.write(name, capability), WANTS[capability]
    want = write.capability.wants.model_validate(asked)
    seen = await write.observe(want, MARKER)
    change = await planned(write, want, seen)
    assert await outside.effects() == []  # looking and planning write nothing

    again = await planned(write, want, await write.observe(want, MARKER))
    assert again == write.plan(want, dict(seen)) == change
    assert again.digest == change.digest

    receipt = await make(outside, write, want, change)
    assert receipt.request_id
    confirmed = await write.confirm(want, receipt, MARKER)
    assert isinstance(write.plan(want, confirmed), NoChange)
    assert isinstance(write.gives(want, confirmed), write.capability.gives)
    done = await outside.effects()
    assert len(done) == writes
    assert all(each["changed"] for each in done)

    # A second run with an empty memory looks for itself.
    later = await write.observe_patiently(want, MARKER, outside.clock.pause)
    assert isinstance(write.plan(want, later), NoChange)
    assert write.gives(want, later) == write.gives(want, confirmed)
    assert len(await outside.effects()) == writes


@each_write
async def test_what_a_dry_run_foresees_is_what_comes(outside: Outside, name: str, capability: str) -> None:
    write, (asked, _) = outside.write(name, capability), WANTS[capability]
    want = write.capability.wants.model_validate(asked)
    seen = await write.observe(want, MARKER)
    change = await planned(write, want, seen)
    foreseen = write.gives(want, write.foreseen(change, seen)).model_dump()
    confirmed = await write.confirm(want, await make(outside, write, want, change), MARKER)
    came = write.gives(want, confirmed).model_dump()
    # Ids and names that the vendor alone can choose are empty while only planned.
    assert {key: value for key, value in foreseen.items() if value != ""}.items() <= came.items()


# A marker stands against a repeat only where it is looked for, which the gateway does before it applies again.
REPEATABLE = [
    each
    for each in WRITES
    if each.values[1] not in {"message.send", "ticket.open", "ticket.comment", "identity.revoke_sessions"}
]


@pytest.mark.parametrize(("name", "capability"), REPEATABLE)
async def test_applying_twice_is_safe(outside: Outside, name: str, capability: str) -> None:
    write, (asked, _) = outside.write(name, capability), WANTS[capability]
    want = write.capability.wants.model_validate(asked)
    change = await planned(write, want, await write.observe(want, MARKER))
    await make(outside, write, want, change)
    changed = [each for each in await outside.effects() if each["changed"]]
    await make(outside, write, want, change)
    assert [each for each in await outside.effects() if each["changed"]] == changed


@pytest.mark.parametrize(
    "fault",
    [{"kind": "cut-after"}, {"kind": "status-after", "status": 503, "retry_after": "1"}],
    ids=lambda fault: str(fault["kind"]),
)
@each_write
async def test_a_lost_answer_is_settled_by_looking(
    outside: Outside, name: str, capability: str, fault: dict[str, JsonValue]
) -> None:
    write, (asked, _) = outside.write(name, capability), WANTS[capability]
    want = write.capability.wants.model_validate(asked)
    change = await planned(write, want, await write.observe(want, MARKER))
    before = len(await outside.effects())
    await outside.arm(method="POST|PUT|PATCH|DELETE", **fault)
    with pytest.raises(OutcomeUnknown):
        await write.apply(want, change, MARKER)
    assert len(await outside.effects()) == before + 1
    seen = await write.observe_patiently(want, MARKER, outside.clock.pause)
    if capability == "ticket.close":
        # Two steps make this change; the first one is done and the plan stays the approved one.
        change = await planned(write, want, seen)
        await make(outside, write, want, change)
        seen = await write.observe(want, MARKER)
    assert isinstance(write.plan(want, seen), NoChange)


@each_write
async def test_a_call_that_never_arrived_is_made_again(outside: Outside, name: str, capability: str) -> None:
    write, (asked, writes) = outside.write(name, capability), WANTS[capability]
    want = write.capability.wants.model_validate(asked)
    change = await planned(write, want, await write.observe(want, MARKER))
    await outside.arm(kind="cut", method="POST|PUT|PATCH|DELETE")
    with pytest.raises(OutcomeUnknown):
        await write.apply(want, change, MARKER)
    seen = await write.observe_patiently(want, MARKER, outside.clock.pause)
    assert write.plan(want, seen) == change
    await make(outside, write, want, change)
    assert len(await outside.effects()) == writes


@each_write
async def test_a_throttled_write_says_how_long_to_wait(outside: Outside, name: str, capability: str) -> None:
    write, (asked, _) = outside.write(name, capability), WANTS[capability]
    want = write.capability.wants.model_validate(asked)
    change = await planned(write, want, await write.observe(want, MARKER))
    await outside.arm(kind="status", status=429, retry_after="11", method="POST|PUT|PATCH|DELETE")
    with pytest.raises(Throttled) as caught:
        await write.apply(want, change, MARKER)
    assert caught.value.after_s == 11
    assert await outside.effects() == []


async def test_a_person_is_read_whole_over_many_pages(outside: Outside) -> None:
    anna = await outside.read("graph", "identity.list_access", user=seed.PAGED_PERSON)
    assert len(anna.groups) == seed.PAGED_GROUPS + 2
    assert [each.name for each in anna.rule_groups] == ["All of Engineering"]
    assert all(each.assigned for each in anna.groups)


@pytest.mark.parametrize(
    ("user", "name", "manager"),
    [
        ("zoe.dubois@example.com", "Zoë Dubois", "piet.devries@example.com"),
        ("LUKASZ.NOWAK@example.com", "Łukasz Nowak", "mehmet.yildiz@example.com"),
        ("sofia.almeida@example.com", "Sofia Almeida", ""),
    ],
)
async def test_people_and_their_managers(outside: Outside, user: str, name: str, manager: str) -> None:
    assert (await outside.read("graph", "identity.list_access", user=user)).display_name == name
    assert (await outside.read("graph", "identity.find_manager", user=user)).user == manager


@pytest.mark.parametrize("user", ["nobody@example.com", "a b?c#d@example.com", "'; --", "日本@example.com"])
async def test_nobody_is_not_found_by_name(outside: Outside, user: str) -> None:
    for capability in ("identity.list_access", "identity.find_manager"):
        with pytest.raises(NotFound, match="There is no account"):
            await outside.read("graph", capability, user=user)
    write = outside.write("graph", "identity.disable_account")
    with pytest.raises(NotFound, match="There is no account"):
        await write.observe(write.capability.wants.model_validate({"user": user}), MARKER)


async def test_a_ticket_is_read_with_its_fields(outside: Outside) -> None:
    ticket = await outside.read("jira", "ticket.read", ticket="ITSM-1")
    assert (ticket.queue, ticket.request_type, ticket.is_done) == ("ITSM", "Offboarding", False)
    assert ticket.reporter.email == "nguyen.thao@example.com"
    assert ticket.fields == {"employee": JAN, "last_day": "2026-11-30"}
    with pytest.raises(NotFound, match="There is no ticket ITSM-99"):
        await outside.read("jira", "ticket.read", ticket="ITSM-99")


async def test_a_ticket_of_somebody_who_hides_their_address_is_read_without_it(outside: Outside) -> None:
    await outside.client.patch("/sandbox/rules", json={"jira_hidden_addresses": ["nguyen.thao@example.com"]})
    ticket = await outside.read("jira", "ticket.read", ticket="ITSM-1")
    assert (ticket.reporter.display_name, ticket.reporter.email) == ("Thảo Nguyễn", "")


async def test_sessions_come_alive_with_a_new_sign_in(outside: Outside) -> None:
    write = outside.write("graph", "identity.revoke_sessions")
    want = write.capability.wants.model_validate({"user": JAN})
    for _ in range(2):
        change = await planned(write, want, await write.observe(want, MARKER))
        await make(outside, write, want, change)
        assert isinstance(write.plan(want, await write.observe(want, MARKER)), NoChange)
        await outside.clock.pause(60)
        await outside.client.post(f"/sandbox/people/{JAN}/sign-in")
        await outside.clock.pause(60)


async def test_a_group_that_a_rule_fills_refuses(outside: Outside) -> None:
    write = outside.write("graph", "identity.add_to_group")
    want = write.capability.wants.model_validate({"user": JAN, "group": seed.object_id("groups", "All of Engineering")})
    change = await planned(write, want, await write.observe(want, MARKER))
    with pytest.raises(Terminal):
        await write.apply(want, change, MARKER)
    assert await outside.effects() == []
