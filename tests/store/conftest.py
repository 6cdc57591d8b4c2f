"""A database with a release and a worker, and short ways to start and claim runs."""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest

from regie.core.audit import Actor
from regie.core.definition import Definition, Kind, Step
from regie.core.release import Release
from regie.core.tenant import Domain, Tenant
from regie.store import claims, releases, runs, workers
from regie.store.claims import Claimed
from regie.store.database import Database
from regie.store.keys import RunKey
from regie.store.runs import NewRun
from regie.store.workers import Worker

OPERATOR = Actor(type="operator", id="operator")

Start = Callable[..., Awaitable[RunKey]]
Claim = Callable[..., Awaitable[Claimed]]
MakeNew = Callable[..., NewRun]


@pytest.fixture
def release() -> Release:
    definition = Definition(
        workflow="identity.offboard_employee",
        title="Offboard an employee",
        owner="team:implementation",
        steps=(Step(place="close", id="close", kind=Kind.USES, uses="identity.disable_account", line=1, column=1),),
    )
    domain = Domain(domain="identity", title="Identity", owner="team:it", classification="personal")
    tenants = {
        slug: Tenant(tenant=slug, title=slug, domains=("identity",), connections={}) for slug in ("acme", "umbrella")
    }
    return Release(
        definitions={definition.workflow: definition},
        domains={"identity": domain},
        tenants=tenants,
        blocks={"identity.disable_account": ("identity.disable_account",)},
    )


@pytest.fixture
async def loaded(database: Database, release: Release) -> str:
    """Digest of a release that has been loaded."""
    async with database.transaction() as tx:
        assert await releases.put(tx, release, by=OPERATOR)
    return release.digest


@pytest.fixture
def make_new(loaded: str) -> MakeNew:
    def make(tenant: str = "acme", domain: str = "identity", trigger: str = "", **more: Any) -> NewRun:
        run = str(uuid.uuid4())
        given = {"workflow": "identity.offboard_employee", "state_json": '{"at": 0}', **more}
        return NewRun(
            key=RunKey(tenant, domain, run),
            release=loaded,
            definition_digest="0" * 64,
            trigger_key=trigger or f"trigger:{run}",
            started_by=Actor(type="person", id="jan.janssen@example.com"),
            **given,
        )

    return make


@pytest.fixture
def start(database: Database, make_new: MakeNew) -> Start:
    async def start_one(**given: Any) -> RunKey:
        async with database.transaction() as tx:
            return (await runs.start(tx, make_new(**given))).key

    return start_one


@pytest.fixture
async def worker(database: Database) -> AsyncIterator[Worker]:
    async with workers.registered(database, name="w1", domains=["identity"]) as registered:
        yield registered


@pytest.fixture
def claim(database: Database, worker: Worker) -> Claim:
    async def claim_one(domain: str = "identity") -> Claimed:
        async with database.transaction() as tx:
            claimed = (await claims.take(tx, worker.id, [domain], 1)).runs
        assert len(claimed) == 1, "no run is ready"
        return claimed[0]

    return claim_one
