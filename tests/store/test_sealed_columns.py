"""Whoever reads the whole database learns neither states nor inputs, outputs, plans, comments or events."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import psycopg
import pytest
from psycopg import sql

from regie.core.audit import Actor
from regie.core.effect import EffectState
from regie.core.errors import Failure
from regie.core.outside_event import OutsideEvent
from regie.core.plan import Change, FieldChange, PlannedStep, Receipt
from regie.core.run_commands import OpenApproval
from regie.core.status import RunStatus, StepStatus
from regie.store import accounts, approvals, commits, effects, events, inbox, polls
from regie.store.approvals import approval_id
from regie.store.claims import Claimed
from regie.store.commits import StepCommit
from regie.store.database import Database
from regie.store.effects import Intent
from regie.store.keys import RunKey
from regie.store.schedules import StartKey
from regie.store.steps import StepRow

pytestmark = pytest.mark.slow

Start = Callable[..., Awaitable[RunKey]]
Claim = Callable[..., Awaitable[Claimed]]

CANARY = "canary-7f3a91"
SEALED = frozenset(
    {"state", "output", "failure", "inbox", "question", "plan", "comment"}
    | {"event", "change", "receipt", "handle", "observed", "account", "cursor", "poll"}
)


async def test_no_plaintext_of_what_is_sealed(
    database: Database, database_url: str, loaded: str, start: Start, claim: Claim
) -> None:
    def canary(name: str) -> str:
        assert name in SEALED
        return f"{CANARY}-{name}"

    key = await start(state_json=f'{{"secret": "{canary("state")}"}}')
    change = Change(
        capability="identity.disable_account",
        target="user:1",
        title=canary("change"),
        fields=(FieldChange(field="mail", before=canary("change"), after=None),),
    )
    plan_step = PlannedStep(
        place="close", uses="identity.disable_account", planned=change.model_copy(update={"title": canary("plan")})
    )
    ask = OpenApproval(
        place="approval",
        rung=1,
        rungs=1,
        question=canary("question"),
        plan=(plan_step,),
        approvers=("an.devries@example.com",),
        requester="jan.janssen@example.com",
        expires_after_s=60,
    )
    async with database.transaction() as tx:
        await inbox.deliver(tx, key, "event", f'"{canary("inbox")}"')
    held = await claim()
    step = StepRow(
        place="read",
        attempt=1,
        uses="ticket.read",
        status=StepStatus.FAILED,
        output_json=f'"{canary("output")}"',
        failure=Failure(kind="Terminal", message=canary("failure")),
    )
    commit = StepCommit(
        state_json=f'"{canary("state")}"', status=RunStatus.WAITING, steps=[step], approvals=[ask], park_seen=1
    )
    intent = Intent(
        key=key,
        place="close",
        attempt_key="a",
        effect_key="e",
        capability="identity.disable_account",
        target="user:1",
        fence=1,
        change=change,
    )
    async with database.transaction() as tx:
        await commits.commit(tx, held.claim, commit)
        await approvals.decide(
            tx,
            key,
            approval_id(key, "approval"),
            person="an.devries@example.com",
            decision="approved",
            comment=canary("comment"),
        )
        told = OutsideEvent(
            tenant=key.tenant, domain=key.domain, id="e", name="contract.sign", data={"who": canary("event")}
        )
        await events.publish(tx, told, Actor(type="operator", id="operator"))
        await effects.intend(tx, intent)
        await effects.settle(
            tx,
            key,
            "a",
            EffectState.RECEIVED,
            fence=1,
            receipt=Receipt(request_id=canary("receipt")),
            handle=canary("handle"),
            observed=canary("observed"),
        )
        await accounts.add(
            tx,
            address="a@example.com",
            display_name="A",
            password=canary("account"),
            roles=[],
            by=Actor(type="operator", id="operator"),
        )
        watch = StartKey("acme", "identity", "identity.watch", "0" * 64)
        await polls.keep(tx, ["identity"], ["identity"], [watch])
        [polled] = await polls.claim(tx, ["identity"], release=loaded, hold_s=60, most=1)
        await polls.answered(tx, polled.claim, cursor=canary("cursor"), again_s=0)
        [polled] = await polls.claim(tx, ["identity"], release=loaded, hold_s=60, most=1)
        assert polled.cursor == canary("cursor")
        await polls.failed(tx, polled.claim, Failure(kind="Terminal", message=canary("poll")), again_s=0)
    found = _search(database_url, CANARY)
    assert found == []
    # The search itself finds what lies in the clear: texts, lists of texts, leaves, JSON.
    for known in ("an.devries@example.com", "jan.janssen@example.com", "run:started", "identity.offboard_employee"):
        assert _search(database_url, known), known


def test_the_stored_release_is_sealed(database_url: str, loaded: str) -> None:
    assert _search(database_url, loaded)
    assert _search(database_url, "Offboard an employee") == []


def _search(url: str, text: str) -> list[str]:
    """Every column of every table in which a text can be read, bytes included."""
    found = []
    with psycopg.connect(url) as connection:
        tables = connection.execute(
            "select schemaname, tablename from pg_tables where schemaname in ('regie', 'audit')"
        ).fetchall()
        assert len(tables) >= 15
        for schema, table in tables:
            cursor = connection.execute(sql.SQL("select * from {}").format(sql.Identifier(schema, table)))
            assert cursor.description is not None
            for row in cursor:
                for column, value in zip(cursor.description, row, strict=True):
                    readable = value if isinstance(value, bytes) else str(value).encode()
                    if text.encode() in readable:
                        found.append(f"{schema}.{table}.{column.name}")
    return found
