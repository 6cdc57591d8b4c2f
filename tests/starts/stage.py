"""A release whose workflows start in every way, with a web, a gateway, an imaginary vendor and workers' hands."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import httpx2
from pydantic import JsonValue

from regie.core.audit import Event
from regie.core.checking import validate
from regie.core.definition import Definition
from regie.core.release import Release
from regie.core.run import RunState
from regie.core.schedule import latest_until
from regie.core.tenant import Connection, Domain, SecretRef, Setting, Tenant
from regie.domains import load_catalogue
from regie.engine.postgres import PostgresEngine
from regie.gateway_client import GatewayClient
from regie.store import audit, polls, releases, run_lists, schedules
from regie.store.audit import Leaf
from regie.store.database import Database
from regie.store.runs import RunRow
from regie.store.schedules import Planned, ScheduleRow
from regie.worker.starting import Starter
from tests.leaves import read_outside

from ..gateway.vendor import Vendor  # noqa: TID252  tests are no installed package, so there is no absolute name
from ..web.stage import OPERATOR, FakeGateway  # noqa: TID252  same

CATALOGUE = load_catalogue()
NIGHTLY = "30 3 * * *"
AMSTERDAM = "Europe/Amsterdam"

TICKETED = """
start:
  ticket: { system: jira, project: ITSM, request_type: Offboarding }
"""
SCHEDULED = f"""
start:
  schedule: {{ cron: "{NIGHTLY}", zone: {AMSTERDAM} }}
"""
POLLED = """
start:
  poll:
    uses: identity.list_access
    with: { user: "${{ settings.watched }}" }
    every: 5m
    items: groups
    key: item.id
input:
  group: { type: text, from: item.name }
"""
ASKED = """
start:
  form: { who: role:hr }
input:
  employee: { type: email, title: Employee, help: The address they sign in with. }
  last_day: { type: date, title: Last day, required: false }
  kind: { type: choice, one-of: [leaves, moves], default: leaves }
  laptop: { type: boolean, title: Has a laptop }
  days: { type: integer, required: false }
  hours: { type: number, default: 1.5 }
  names: { type: list, required: false }
"""
TOLD = """
start:
  event: { name: employee.leave, where: { office: Delft }, if: event.days > 3 and settings.watched != '' }
input:
  employee: { type: email, from: event.person.email }
"""
OPEN = """
start: [ { form: { who: everyone } } ]
"""
WAYS = {
    "identity.ticketed": TICKETED,
    "identity.nightly": SCHEDULED,
    "identity.watch": POLLED,
    "identity.asked": ASKED,
    "identity.open": OPEN,
    "identity.told": TOLD,
}


def definition(workflow: str, start: str) -> Definition:
    """A workflow that ends at once."""
    text = f"workflow: {workflow}\ntitle: Do {workflow}\nowner: team:test\n{start}\nsteps: [ {{ end: done }} ]\n"
    return validate(text, f"{workflow}.yaml", CATALOGUE, {"watched": ""}, ("hr",))


def connection(connector: str) -> Connection:
    """A connection to the imaginary vendor, or one that deliveries come in by."""
    return Connection(
        connector=connector,
        domains=("identity",),
        settings={"address": "https://api.example.com", "token_url": "https://login.example.com/token"},
        secrets={name: SecretRef(domain="identity", name="toy", field=name) for name in ("client_secret", "webhook")},
    )


def release(ways: dict[str, str], *, tenants: Sequence[str] = ("acme",)) -> Release:
    """A release with these workflows, for some tenants."""
    watched = Setting(about="Whose groups are watched.", default="jan@example.com")
    return Release(
        definitions={workflow: definition(workflow, start) for workflow, start in ways.items()},
        domains={
            "identity": Domain(
                domain="identity",
                title="Identity",
                owner="team:it",
                classification="personal",
                settings={"watched": watched},
            )
        },
        tenants={
            slug: Tenant(
                tenant=slug,
                title=slug.title(),
                domains=("identity",),
                connections={"jira": connection("jira"), "directory": connection("toy")},
                roles={"hr": ("sam.stranger@example.com",), "staff": ("rik.requester@example.com",)},
            )
            for slug in tenants
        },
        blocks={name: tuple(need.name for need in block.needs) for name, block in CATALOGUE.items()},
    )


@dataclass
class Starts:
    """Hands to act with."""

    database: Database
    gateway: GatewayClient
    vendor: Vendor
    http: httpx2.AsyncClient
    deliveries: FakeGateway

    async def load(self, ways: dict[str, str], *, tenants: Sequence[str] = ("acme",)) -> None:
        """Make a release the current one."""
        async with self.database.transaction() as tx:
            await releases.put(tx, release(ways, tenants=tenants), by=OPERATOR)

    def starter(self) -> Starter:
        """What starts runs in one worker."""
        return Starter(self.database, CATALOGUE, lambda _: self.gateway, ["identity"], look_every_s=0.02)

    async def look(self, starter: Starter) -> None:
        """One look of a worker, and all that it asks."""
        await starter.look()
        await starter.settle()

    async def schedules(self) -> list[ScheduleRow]:
        async with self.database.reading() as tx:
            return await schedules.list_schedules(tx)

    async def now(self) -> datetime:
        async with self.database.transaction() as tx:
            return await schedules.take_turn(tx)

    async def be_away(self, away: timedelta) -> datetime:
        """Have every schedule planned as if nobody had been there since; the time that was planned first."""
        now = await self.now()
        planned = latest_until(NIGHTLY, AMSTERDAM, now - away, since=datetime(2020, 1, 1, tzinfo=UTC))
        assert planned is not None
        await self.plan(planned)
        return planned

    async def plan(self, planned: datetime) -> None:
        async with self.database.transaction() as tx:
            for row in await schedules.list_schedules(tx):
                await schedules.move(tx, Planned(row.key, planned, planned), ran_for=None, run=None)

    async def poll_again(self) -> None:
        """Have every poll due now, whoever holds it."""
        async with self.database.transaction() as tx:
            await tx.change("update regie.poll set next_at = clock_timestamp(), held_until = null", {})

    async def polls(self) -> list[polls.PollRow]:
        async with self.database.reading() as tx:
            return await polls.list_polls(tx)

    async def runs(self, workflow: str) -> list[RunRow]:
        async with self.database.reading() as tx:
            return await run_lists.list_runs(tx, workflow=workflow, limit=1000)

    async def given(self, workflow: str) -> list[dict[str, JsonValue]]:
        """What each run was given."""
        states = [await self.state(row) for row in await self.runs(workflow)]
        return sorted((state.facts.given for state in states), key=str)

    async def state(self, row: RunRow) -> RunState:
        return await PostgresEngine(self.database).state(row.key)

    async def outside(self, *events: Event) -> list[Leaf]:
        """Leaves that belong to no run, oldest first."""
        async with self.database.reading() as tx:
            leaves = await read_outside(tx, "acme", "identity", limit=1000)
        return [leaf for leaf in reversed(leaves) if leaf.event in events]

    async def leaves(self, row: RunRow) -> list[Event]:
        async with self.database.reading() as tx:
            assert await audit.verify(tx, row.key) == []
            return [leaf.event for leaf in await audit.read(tx, row.key)]
