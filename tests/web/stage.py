"""A web on a real database with an imaginary gateway; people with accounts; runs and approvals to look at."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field

import httpx2

from regie.core.audit import Actor
from regie.core.definition import Definition, InputField, InputType, Kind, Step
from regie.core.effect import EffectNote, EffectState
from regie.core.errors import Denied, Failure, InvalidInput, RegieError
from regie.core.plan import Change, FieldChange, NoChange, PlannedStep
from regie.core.release import Release
from regie.core.run import RunState, StepState
from regie.core.run_commands import OpenApproval
from regie.core.run_events import TimerFired
from regie.core.starts import TicketStart
from regie.core.status import RunStatus, StepStatus
from regie.core.tenant import Connection, Domain, Tenant
from regie.engine.port import StartRequest
from regie.engine.postgres import PostgresEngine
from regie.gateway_client import GatewayClient, InboundEvent
from regie.store import accounts, approvals, claims, commits, effects, inbox, run_lists, workers
from regie.store.commits import StepCommit
from regie.store.database import Database
from regie.store.effects import Intent
from regie.store.keys import RunKey
from regie.store.steps import StepRow
from regie.store.workers import Worker
from regie.web.identify import WaysIn

TOKEN = "operator-token-of-this-installation"
PASSWORD = "een lang wachtwoord: mét dubbele punt"
OPERATOR = Actor(type="operator", id="operator")
LOCAL = WaysIn(has_local_accounts=True)
OFFBOARD = "identity.offboard_employee"
AS_OPERATOR = {"Authorization": f"Bearer {TOKEN}"}

OLGA = "olga.operator@example.com"
ANA = "ana.approver@example.com"
BEN = "ben.bouwman@example.com"
RIK = "rik.requester@example.com"
SAM = "sam.stranger@example.com"
PEOPLE = {OLGA: ("operator",), ANA: (), BEN: (), RIK: (), SAM: ("hr",)}


def definition(workflow: str, *, request_type: str = "Offboarding", system: str = "jira") -> Definition:
    return Definition(
        workflow=workflow,
        title=f"Do {workflow}",
        owner="team:implementation",
        start=(TicketStart(system=system, project="ITSM", request_type=request_type),),
        input=(
            InputField(name="employee", type=InputType.EMAIL, source="ticket.fields.employee"),
            InputField(name="count", type=InputType.NUMBER, required=False),
        ),
        steps=(
            Step(place="approval", id="approval", kind=Kind.USES, uses="people.approve", line=1, column=1),
            Step(place="close", id="close", kind=Kind.USES, uses="identity.disable_account", line=2, column=1),
        ),
    )


def connection(connector: str = "jira", *domains: str) -> Connection:
    return Connection(connector=connector, domains=domains or ("identity",))


def make_release(*more: Definition) -> Release:
    """Three domains; acme has two of them, umbrella one."""
    definitions = (definition(OFFBOARD), definition("finance.pay_invoice", request_type="Invoice"), *more)
    return Release(
        definitions={each.workflow: each for each in definitions},
        domains={
            name: Domain(domain=name, title=name, owner="team:it", classification="personal")
            for name in ("identity", "hr", "finance")
        },
        tenants={
            "acme": Tenant(
                tenant="acme",
                title="Acme",
                domains=("identity", "hr"),
                connections={
                    "jira": connection("jira", "identity", "hr"),
                    "narrow": connection(),
                    "other": connection("toy"),
                },
            ),
            "umbrella": Tenant(
                tenant="umbrella", title="Umbrella", domains=("identity",), connections={"jira": connection()}
            ),
        },
        blocks={"identity.disable_account": ("identity.disable_account",)},
    )


@dataclass
class FakeGateway(GatewayClient):
    """Finds genuine what is signed with the word `good`, and reads it as what it says."""

    error: RegieError | None = None
    seen: list[tuple[str, str, bytes, dict[str, str]]] = field(default_factory=list)
    domains: tuple[str, ...] = ("identity", "hr")

    async def inbound(self, tenant: str, connection: str, body: bytes, headers: dict[str, str]) -> InboundEvent:
        self.seen.append((tenant, connection, body, headers))
        if self.error is not None:
            raise self.error
        if headers.get("x-hub-signature") != "good":
            raise Denied("the webhook's X-Hub-Signature does not fit its body")
        try:
            event = json.loads(body)
        except ValueError:
            raise InvalidInput("The delivery is genuine and no JSON.") from None
        return InboundEvent(delivery=headers.get("x-delivery", "d-1"), domains=self.domains, event=event)


def ticket_created(ticket: str = "ITSM-1", **more: str) -> dict[str, str]:
    return {
        "kind": "ticket_created",
        "event": "jira:issue_created",
        "ticket": ticket,
        "project": "ITSM",
        "request_type": "Offboarding",
        "title": "Offboard Zoë Ünal-Ødegård 王小明",
        "reason": "",
        **more,
    }


CHANGE = Change(
    capability="identity.disable_account",
    target="user:42",
    title="Jan Janssen",
    fields=(FieldChange(field="accountEnabled", before=True, after=False),),
)
PLAN = (
    PlannedStep(place="close", uses="identity.disable_account", planned=CHANGE),
    PlannedStep(
        place="leave",
        uses="identity.remove_from_group",
        planned=NoChange(capability="identity.remove_from_group", target="user:42", because="not a member"),
    ),
)


@dataclass
class Stage:
    """Hands to act with."""

    database: Database
    gateway: FakeGateway
    http: httpx2.AsyncClient

    async def start(
        self, tenant: str = "acme", *, by: Actor = OPERATOR, trigger: str = "t", ticket: str = ""
    ) -> RunKey:
        """A run, straight through the engine."""
        engine = PostgresEngine(self.database)
        request = StartRequest(tenant=tenant, workflow=OFFBOARD, trigger_key=trigger, started_by=by, ticket=ticket)
        return (await engine.start(request)).key

    async def move(self, key: RunKey, worker: Worker, step: StepCommit) -> None:
        """Commit one step of a run as a worker does, and let go of it."""
        async with self.database.transaction() as tx:
            for claimed in (await claims.take(tx, worker.id, [key.domain], 100)).runs:
                if claimed.claim.key == key:
                    await commits.commit(tx, claimed.claim, step)
                else:
                    await claims.park(tx, claimed.claim, claimed.inbox_n)

    async def ask(
        self,
        key: RunKey,
        *approvers: str,
        requester: str = RIK,
        within_s: float = 3600,
        place: str = "approval",
        plan: tuple[PlannedStep, ...] = PLAN,
    ) -> str:
        """Bring a run to where it waits for people; the approval's id."""
        state = await PostgresEngine(self.database).state(key)
        waiting = state.model_copy(
            update={
                "status": RunStatus.WAITING,
                "requester": requester,
                "steps": {place: StepState(status=StepStatus.WAITING)},
            }
        )
        opened = OpenApproval(
            place=place,
            rung=1,
            rungs=2,
            question="Offboard Zoë Ünal?",
            plan=plan,
            approvers=approvers,
            requester=requester,
            expires_after_s=within_s,
        )
        async with workers.registered(self.database, name="w", domains=[key.domain]) as worker:
            await self.move(
                key,
                worker,
                StepCommit(
                    state_json=waiting.model_dump_json(),
                    status=RunStatus.WAITING,
                    requester=requester,
                    approvals=[opened],
                    park_seen=0,
                ),
            )
        return approvals.approval_id(key, place)

    async def finish(self, key: RunKey) -> None:
        """Bring a run to its end: one step done, one failed, with a row in the ledger."""
        state = await PostgresEngine(self.database).state(key)
        failure = Failure(kind="WorldMoved", message="The world moved.")
        note = EffectNote(
            capability=CHANGE.capability, target=CHANGE.target, words=CHANGE.in_words(), changed=True, digest="ab"
        )
        over = state.model_copy(
            update={
                "status": RunStatus.FAILED,
                "failure": failure,
                "steps": {
                    **state.steps,
                    "close": StepState(status=StepStatus.DONE, attempt=2, effects=(note,)),
                    "stray": StepState(status=StepStatus.FAILED, attempt=1, failure=failure),
                },
                "order": ("close", "stray"),
            }
        )
        attempts: Sequence[StepRow] = [
            StepRow(
                place="close",
                attempt=attempt,
                uses="identity.disable_account",
                status=StepStatus.DONE,
                queued_ago_s=3,
                started_ago_s=2,
                ended_ago_s=1,
            )
            for attempt in (1, 2)
        ]
        async with workers.registered(self.database, name="w", domains=[key.domain]) as worker:
            async with self.database.transaction() as tx:
                # Wakes the run where it sleeps.
                await inbox.deliver(tx, key, "timer:x", TimerFired(timer="x").model_dump_json())
                intent = Intent(
                    key=key,
                    place="close",
                    attempt_key="a" * 64,
                    effect_key="e" * 64,
                    capability=CHANGE.capability,
                    target=CHANGE.target,
                    fence=1,
                    change=CHANGE,
                )
                await effects.intend(tx, intent)
                await effects.settle(tx, key, "a" * 64, EffectState.RECEIVED, fence=1)
            await self.move(
                key,
                worker,
                StepCommit(state_json=over.model_dump_json(), status=RunStatus.FAILED, steps=attempts),
            )

    async def state(self, key: RunKey) -> RunState:
        return await PostgresEngine(self.database).state(key)

    async def count_runs(self) -> int:
        async with self.database.reading() as tx:
            return sum((await run_lists.count_by_status(tx)).values())

    async def add_people(self) -> None:
        await add_people(self.database)


async def add_people(database: Database) -> None:
    """Local accounts for all of them; nothing here depends on what a check of a password costs."""
    async with database.transaction() as tx:
        for address, roles in PEOPLE.items():
            await accounts.add(
                tx,
                address=address,
                display_name=address,
                password=PASSWORD,
                roles=roles,
                by=OPERATOR,
                cost=accounts.OF_A_MACHINE,
            )
