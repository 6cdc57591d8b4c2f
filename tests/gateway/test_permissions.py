"""What a workflow needs at vendors is derived; each of it is needed: without it a step fails in the imaginary world."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx2
import pytest
from pydantic import JsonValue

from regie import connectors as connector_folders
from regie.core.definition import ChildRun, Definition, Kind
from regie.core.errors import AuthFailed, InvalidInput
from regie.core.plan import Change, NoChange, Pending
from regie.core.release import Release
from regie.core.tenant import Connection, Domain, Tenant
from regie.domains import load_catalogue
from regie.gateway.permissions import Needed, allowances, needed_by
from regie.kit.connector import Read, provided
from regie.kit.discovery import connectors_in
from regie.kit.session import Session
from regie.workspace.loading import load_release
from regie_sandbox import seed
from regie_sandbox.app import close, make_app

from .stage import step

OFFBOARD = "identity.offboard_employee"
CONNECTORS = connectors_in(connector_folders)
JAN = "jan.janssen@example.com"
WANTS: dict[str, dict[str, JsonValue]] = {
    "identity.add_to_group": {"user": JAN, "group": seed.object_id("groups", "Engineering")},
    "identity.disable_account": {"user": JAN},
    "identity.enable_account": {"user": "karel.novak@example.com"},
    "identity.find_manager": {"user": JAN},
    "identity.list_access": {"user": JAN},
    "identity.remove_from_group": {"user": JAN, "group": seed.object_id("groups", "Sales Team")},
    "identity.revoke_sessions": {"user": JAN},
    "ticket.close": {"ticket": "ITSM-1"},
    "ticket.comment": {"ticket": "ITSM-1", "text": "Switched off."},
    "ticket.open": {"queue": "ITSM", "title": "Laptop", "text": "Please collect.", "kind": "Task"},
    "ticket.read": {"ticket": "ITSM-1"},
    "ticket.update": {"ticket": "ITSM-1", "priority": "High"},
}
IMITATED = {"graph": "graph_roles", "jira": "jira_scopes"}
"""The vendors whose permissions the imaginary world enforces, and the rule that says what is allowed there."""


def release(*more: Definition, **connections: str) -> Release:
    """The shipped workflows and these, for one tenant with these connections."""
    loaded = load_release(None, load_catalogue())
    mine = {name: Connection(connector=each, domains=("identity", "cloud")) for name, each in connections.items()}
    tenant = Tenant(tenant="acme", title="Acme", domains=("identity", "cloud"), connections=mine)
    domain = Domain(domain="cloud", title="Cloud", owner="team:cloud", classification="internal")
    return Release.model_validate(
        {
            **loaded.model_dump(),
            "tenants": {"acme": tenant},
            "domains": {**loaded.domains, "cloud": domain},
            "definitions": {**loaded.definitions, **{each.workflow: each for each in more}},
        }
    )


def derived() -> list[Needed]:
    return needed_by(release(directory="graph", desk="jira"), OFFBOARD, "acme")


def test_each_step_is_listed_with_what_its_capability_declares() -> None:
    found = derived()
    for each in found:
        offer = provided(CONNECTORS[each.connector].connector)[each.capability]
        assert each.permissions == tuple(sorted(offer.permissions))
    by_place = {(each.place, each.capability): each.connection for each in found}
    assert by_place["start", "ticket.read"] == "desk"
    assert ("approval", "identity.find_manager") in by_place
    assert {each.capability for each in found} >= {"identity.disable_account", "ticket.comment", "ticket.close"}
    told = {each.connection: each for each in allowances(found)}
    assert told["desk"].permissions == ("read:jira-work", "write:jira-work")
    assert "User.RevokeSessions.All" in told["directory"].permissions
    assert "application roles" in told["directory"].permissions_are


def test_what_nobody_serves_is_said_and_what_is_around_the_steps_then_left_out() -> None:
    found = needed_by(release(directory="graph"), OFFBOARD, "acme")
    unserved = {each.capability for each in found if not each.connection}
    assert "ticket.comment" in unserved
    assert "start" not in {each.place for each in found}


def test_an_iam_policy_has_a_statement_for_each_step_and_children_count() -> None:
    child = Definition(
        workflow="cloud.publish",
        title="Publish",
        owner="team:cloud",
        steps=(step("set", "dns.set_record", undo="dns.remove_record"),),
    )
    parent = child.model_copy(
        update={
            "workflow": "cloud.order",
            "steps": (step("publish", kind=Kind.RUN, run=ChildRun(workflow="cloud.publish")),),
        }
    )
    found = needed_by(release(child, parent, zone="route53"), "cloud.order", "acme")
    assert [(each.workflow, each.place) for each in found] == [("cloud.publish", "set"), ("cloud.publish", "set/undo")]
    [allowance] = allowances(found)
    policy: Any = allowance.policy
    assert policy["Version"] == "2012-10-17"
    assert [each["Sid"] for each in policy["Statement"]] == ["CloudPublishSet", "CloudPublishSetUndo"]
    for each in policy["Statement"]:
        assert each["Action"] == sorted(provided(CONNECTORS["route53"].connector)["dns.set_record"].permissions)
    assert set(allowance.permissions) == {action for each in policy["Statement"] for action in each["Action"]}


def test_what_there_is_not_is_refused() -> None:
    with pytest.raises(InvalidInput, match="no workflow"):
        needed_by(release(), "identity.nothing", "acme")
    with pytest.raises(InvalidInput, match="no tenant"):
        needed_by(release(), OFFBOARD, "nobody")


class Clock:
    """The world's; it moves when told to."""

    now = datetime(2026, 11, 21, 12, 0, tzinfo=UTC)

    def __call__(self) -> datetime:
        return self.now

    def forward(self, seconds: float) -> None:
        self.now += timedelta(seconds=seconds)


class World(httpx2.AsyncClient):
    """The imaginary world and its clock."""

    clock: Clock


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    clock = Clock()
    app = make_app(tmp_path, clock=clock)
    client = World(transport=httpx2.ASGITransport(app), base_url="http://sandbox.example.com")
    client.clock = clock
    new = {"reporter": "nguyen.thao@example.com", "employee": JAN, "last_day": "2026-11-30"}
    assert (await client.post("/sandbox/tickets", json=new)).status_code == 201
    yield client
    await client.aclose()
    await close(app)


async def attempt(world: World, connector: str, capability: str, permissions: set[str]) -> NoChange | Change | None:
    """Do a capability as an account that has these permissions and no others; what it takes, for a write.

    Raises:
        AuthFailed: The vendor wants another one.
    """
    rule = {IMITATED[connector]: sorted(permissions)}
    (await world.patch("/sandbox/rules", json=rule)).raise_for_status()
    known = CONNECTORS[connector]
    signed_in: dict[str, Any] = {"auth": (seed.JIRA_ACCOUNT.email, seed.JIRA_ACCOUNT.api_token)}
    path = "/jira"
    settings: dict[str, JsonValue] = {"closing_transitions": ["Start progress", "Resolve"]}
    if connector == "graph":
        form = {
            "grant_type": "client_credentials",
            "client_id": seed.REGIE_APP.client_id,
            "client_secret": seed.REGIE_APP.client_secret,
            "scope": "https://graph.microsoft.com/.default",
        }
        token = (await world.post(f"/login/{seed.TENANT_ID}/oauth2/v2.0/token", data=form)).json()["access_token"]
        signed_in, path, settings = {"headers": {"Authorization": f"Bearer {token}"}}, "/graph/v1.0", {}
    base = f"http://sandbox.example.com{path}"
    async with httpx2.AsyncClient(transport=world._transport, base_url=base, **signed_in) as client:
        session = Session(client, vendor=known.manifest.title)
        done = known.connector(session, known.manifest.effective(settings)).implementation(capability)
        want = done.capability.wants.model_validate(WANTS[capability])
        if isinstance(done, Read):
            await done.read(want)
            return None
        marker = "regie-0123456789abcdef0123"
        planned = done.plan(want, await done.observe(want, marker))
        if isinstance(planned, Change):
            answer = await done.apply(want, planned, marker)
            while isinstance(answer, Pending):
                world.clock.forward(answer.again_after_s)
                answer = await done.resume(want, answer.handle)
            await done.confirm(want, answer, marker)
        return planned


DEGRADES = {("graph", "identity.revoke_sessions", "AuditLog.Read.All")}
"""Without it the step revokes every time, since nobody can tell whether a session is alive; see the test below."""


@pytest.mark.parametrize("connector", IMITATED)
async def test_what_is_declared_is_enough_and_without_any_one_of_it_the_step_fails(
    world: World, connector: str
) -> None:
    went = set()
    for capability, offer in provided(CONNECTORS[connector].connector).items():
        declared = set(offer.permissions)
        for lacks in declared:
            # What an earlier attempt may have revoked is alive again.
            (await world.post(f"/sandbox/people/{JAN}/sign-in")).raise_for_status()
            world.clock.forward(5)
            try:
                await attempt(world, connector, capability, declared - {lacks})
            except AuthFailed:
                continue
            went.add((connector, capability, lacks))
        await attempt(world, connector, capability, declared)
    assert went == {each for each in DEGRADES if each[0] == connector}


async def test_without_reports_of_sign_ins_sessions_always_count_as_alive(world: World) -> None:
    capability = "identity.revoke_sessions"
    declared = set(provided(CONNECTORS["graph"].connector)[capability].permissions)
    await attempt(world, "graph", capability, declared)
    assert isinstance(await attempt(world, "graph", capability, declared), NoChange)
    assert isinstance(await attempt(world, "graph", capability, declared - {"AuditLog.Read.All"}), Change)
