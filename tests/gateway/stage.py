"""A gateway on a real database with an imaginary vendor, runs to act in, and hands to act with."""

import uuid
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from regie.core.audit import Actor
from regie.core.capabilities import identity, ticket
from regie.core.definition import Definition, ForEach, Kind, Step
from regie.core.plan import Planned, PlannedStep
from regie.core.release import Release
from regie.core.run import Parent
from regie.core.run_commands import OpenApproval
from regie.core.status import RunStatus
from regie.core.tenant import Connection, Domain, SecretRef, Tenant
from regie.gateway_client import GatewayClient, StepRef
from regie.store import approvals, audit, claims, commits, effects, releases, runs
from regie.store.database import Database
from regie.store.keys import RunKey

from .vendor import Vendor

JAN = identity.UserQuery(user="jan@example.com")
EVA = identity.UserQuery(user="eva@example.com")
OPERATOR = Actor(type="operator", id="ops@example.com")
APPROVER = "boss@example.com"

BLOCKS: dict[str, tuple[str, ...]] = {
    capability.name: (capability.name,)
    for capability in (
        identity.LIST_ACCESS,
        identity.FIND_MANAGER,
        identity.DISABLE_ACCOUNT,
        identity.ENABLE_ACCOUNT,
        identity.REVOKE_SESSIONS,
        identity.ADD_TO_GROUP,
        identity.REMOVE_FROM_GROUP,
        ticket.OPEN,
        ticket.COMMENT,
        ticket.READ,
    )
} | {"people.approve": ()}


def step(place: str, uses: str | None = None, **parts: Any) -> Step:
    """A step as the reader of definitions makes them."""
    kind = parts.pop("kind", Kind.USES)
    name = None if "/" in place else place
    return Step(place=place, id=name, kind=kind, uses=uses, line=1, column=1, **parts)


DEFINITION = Definition(
    workflow="identity.offboard_employee",
    title="Offboard",
    owner="team:implementation",
    steps=(
        step("look", "identity.list_access"),
        step("approval", "people.approve", arguments={"covers": ["close"]}),
        step(
            "close",
            kind=Kind.PARALLEL,
            steps=(
                step("close/0", "identity.disable_account"),
                step("close/1", "ticket.comment", for_each=ForEach(variable="x", items="input.xs")),
            ),
            on_error=(step("close/on-error/0", "ticket.comment"),),
        ),
        step("disable", "identity.disable_account", undo="identity.enable_account"),
        step("enable", "identity.enable_account"),
        step("revoke", "identity.revoke_sessions"),
        step("join", "identity.add_to_group"),
        step("leave", "identity.remove_from_group"),
        step("remind", "ticket.open"),
        step("say", "ticket.comment"),
        step("each", "ticket.comment", for_each=ForEach(variable="x", items="input.xs")),
        step(
            "people",
            kind=Kind.DO,
            for_each=ForEach(variable="x", items="input.xs"),
            steps=(
                step("ask", "people.approve", arguments={"covers": ["act"]}),
                step("act", "identity.disable_account"),
            ),
        ),
    ),
)


def connection(connector: str = "toy", *, domains: tuple[str, ...] = ("identity",), **settings: str) -> Connection:
    """A tenant's connection to the imaginary vendor."""
    return Connection(
        connector=connector,
        domains=domains,
        settings={
            "address": "https://api.example.com",
            "token_url": "https://login.example.com/token",
            **settings,
        },
        secrets={
            "client_secret": SecretRef(domain="identity", name="toy", field="client_secret"),
            "webhook": SecretRef(domain="identity", name="toy", field="webhook"),
        },
    )


def release_of(
    connections: dict[str, Connection],
    definition: Definition = DEFINITION,
    blocks: dict[str, tuple[str, ...]] = BLOCKS,
) -> Release:
    """A release with one workflow, two domains and two tenants."""
    domains = {
        name: Domain(domain=name, title=name, owner="team:implementation", classification="personal")
        for name in ("identity", "support")
    }
    tenants = {
        slug: Tenant(tenant=slug, title=slug, domains=("identity", "support"), connections=connections)
        for slug in ("acme", "globex")
    }
    return Release(definitions={definition.workflow: definition}, domains=domains, tenants=tenants, blocks=blocks)


RELEASE = release_of({"directory": connection()})


@dataclass
class Run:
    """A run held by a worker."""

    database: Database
    claim: claims.Claim

    @property
    def key(self) -> RunKey:
        return self.claim.key

    def at(self, place: str, *, fence: int | None = None) -> StepRef:
        key = self.key
        held = self.claim.fence if fence is None else fence
        return StepRef(tenant=key.tenant, domain=key.domain, run=key.run, place=place, fence=held)

    async def leaves(self) -> list[str]:
        """Events of effects and denials, in order."""
        async with self.database.reading() as tx:
            found = await audit.read(tx, self.key)
            assert await audit.verify(tx, self.key) == []
        return [leaf.event for leaf in found if leaf.event.partition(":")[0] in {"effect", "capability"}]

    async def effects(self) -> list[effects.Effect]:
        async with self.database.reading() as tx:
            return await effects.list_effects(tx, self.key)

    async def state(self) -> str:
        [row] = await self.effects()
        return row.state.value


@dataclass
class Stage:
    """Everything a test acts with."""

    database: Database
    client: GatewayClient
    vendor: Vendor
    worker: str
    other_domain: GatewayClient
    web: GatewayClient
    started: list[RunKey] = field(default_factory=list)

    async def start(
        self, *, ticket: str = "", dry: bool = False, tenant: str = "acme", parent: Parent | None = None
    ) -> Run:
        """A new run, held by the worker."""
        async with self.database.transaction() as tx:
            release = await releases.current(tx)
            key = RunKey(tenant, "identity", str(uuid.uuid4()))
            [definition] = release.definitions.values()
            await runs.start(
                tx,
                runs.NewRun(
                    key=key,
                    workflow=definition.workflow,
                    release=release.digest,
                    definition_digest=definition.digest,
                    trigger_key=key.run,
                    started_by=OPERATOR,
                    state_json="{}",
                    ticket=ticket,
                    dry=dry,
                    parent=parent,
                ),
            )
        return await self.claim(key)

    async def claim(self, key: RunKey) -> Run:
        async with self.database.transaction() as tx:
            [claimed] = (await claims.take(tx, self.worker, ["identity"], 1)).runs
        assert claimed.claim.key == key
        return Run(self.database, claimed.claim)

    async def pass_on(self, run: Run) -> Run:
        """Let go of a run and claim it again: the fence is another then."""
        async with self.database.transaction() as tx:
            # An inbox that looks unread keeps the run ready.
            await claims.park(tx, run.claim, -1)
        return await self.claim(run.key)

    async def ask(
        self,
        run: Run,
        planned: Sequence[tuple[str, Planned]],
        *,
        decision: str | None = "approved",
        place: str = "approval",
        approvers: tuple[str, ...] = (APPROVER,),
    ) -> Run:
        """Have a plan approved, refused or left open."""
        plan = tuple(PlannedStep(place=place, uses="x", planned=each) for place, each in planned)
        asked = OpenApproval(
            place=place,
            rung=1,
            rungs=1,
            question="Really?",
            plan=plan,
            approvers=approvers,
            requester="",
            expires_after_s=3600,
        )
        async with self.database.transaction() as tx:
            committed = await commits.commit(
                tx, run.claim, commits.StepCommit(state_json="{}", status=RunStatus.RUNNING, approvals=[asked])
            )
        if decision is not None:
            async with self.database.transaction() as tx:
                await approvals.decide(
                    tx,
                    run.key,
                    approvals.approval_id(run.key, place),
                    person=APPROVER,
                    decision="approved" if decision == "approved" else "refused",
                )
        return Run(self.database, committed.claim)

    async def finish(self, run: Run) -> None:
        async with self.database.transaction() as tx:
            await commits.commit(tx, run.claim, commits.StepCommit(state_json="{}", status=RunStatus.DONE))
