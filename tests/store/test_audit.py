"""Leaves: written with what they describe or not at all, chained per run, and any change to the chain is found."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import replace
from datetime import UTC, datetime

import psycopg
import pytest
import rfc8785
from hypothesis import given
from hypothesis import strategies as st
from psycopg import sql
from pydantic import JsonValue

from regie.core import audit as leaves_of
from regie.core.audit import Actor, Event, Fact
from regie.core.errors import AuditBroken, InvalidInput, Unavailable
from regie.core.status import RunStatus, StepStatus
from regie.store import approvals, audit, commits, runs, steps
from regie.store.audit import Leaf
from regie.store.claims import Claimed
from regie.store.commits import StepCommit
from regie.store.database import Database
from regie.store.keys import RunKey
from regie.store.steps import StepRow
from tests.leaves import read_outside

Start = Callable[..., Awaitable[RunKey]]
Claim = Callable[..., Awaitable[Claimed]]

GATEWAY = Actor(type="gateway", id="gateway")
MOMENT = datetime(2026, 1, 1, tzinfo=UTC)


def fact(event: Event = Event.EFFECT_INTENDED, **detail: JsonValue) -> Fact:
    return Fact(event=event, actor=GATEWAY, detail=detail)


def chain(count: int) -> list[Leaf]:
    """A whole chain, made in memory."""
    made: list[Leaf] = []
    for number in range(1, count + 1):
        closing = {"count": count} if number == count else {}
        circumstances = leaves_of.Circumstances(at="2026-01-01T00:00:00Z", tenant="acme", domain="identity", run="r")
        position = leaves_of.Position(f"e{number}", "00" * 16, number, made[-1].hash if made else "")
        written = fact(Event.RUN_CLOSED if closing else Event.STEP_FINISHED, **closing)
        made.append(Leaf(position.entry_id, number, leaves_of.encode_leaf(written, circumstances, position), MOMENT))
    return made


def test_a_whole_chain_has_no_faults() -> None:
    assert audit.check_chain(chain(5)) == []
    assert audit.check_chain([]) == []


@given(st.data())
def test_any_mutation_of_a_chain_is_found(data: st.DataObject) -> None:
    whole = chain(6)
    at = data.draw(st.integers(0, 5), label="at")
    kind = data.draw(st.sampled_from(["drop", "double", "swap", "alter", "renumber"]), label="kind")
    broken = list(whole)
    match kind:
        case "drop":
            # Nothing follows the last leaf: the run's row keeps its number and hash, which `verify` compares.
            del broken[min(at, 4)]
        case "double":
            broken.insert(at, whole[at])
        case "swap":
            other = data.draw(st.integers(0, 5).filter(lambda n: n != at), label="other")
            broken[at], broken[other] = broken[other], broken[at]
        case "alter":
            at = min(at, 4)
            broken[at] = replace(whole[at], raw=whole[at].raw.replace(b"gateway", b"gatewax"))
        case "renumber":
            broken[at] = replace(whole[at], run_seq=whole[at].run_seq + 1)
    assert audit.check_chain(broken)


@pytest.mark.slow
async def test_leaves_are_canonical_and_say_where_they_belong(database: Database, start: Start) -> None:
    key = await start(ticket="ITSM-7")
    async with database.transaction() as tx:
        await audit.append(tx, key, [fact(capability="identity.disable_account", text="é")])
    async with database.reading() as tx:
        written = await audit.read(tx, key)
        assert await audit.read(tx, key._replace(tenant="umbrella")) == []
        row = await tx.row("select origin from audit.log where tenant = 'acme'")
    assert row is not None
    assert row["origin"].startswith("audit.regie-")
    assert row["origin"].endswith("/acme/identity")
    last = written[-1]
    assert rfc8785.dumps(last.fields) == last.raw
    assert last.fields["capability"] == "identity.disable_account"
    assert last.fields["run_prev"] == written[-2].hash
    assert last.fields["at"] == last.at.isoformat(timespec="microseconds").replace("+00:00", "Z")
    assert (last.fields["tenant"], last.fields["domain"], last.fields["run"]) == key


@pytest.mark.slow
async def test_facts_outside_runs_have_no_place_in_a_chain(database: Database) -> None:
    async with database.transaction() as tx:
        await audit.append_outside(tx, "acme", "identity", [fact(Event.TRIGGER_REFUSED, reason="signature")])
        await audit.append_outside(tx, "acme", "identity", [fact(Event.CAPABILITY_DENIED)])
        await audit.append_outside(tx, "umbrella", "identity", [fact(Event.CAPABILITY_DENIED)])
    async with database.reading() as tx:
        found = await read_outside(tx, "acme", "identity")
    assert [leaf.event for leaf in found] == [Event.CAPABILITY_DENIED, Event.TRIGGER_REFUSED]
    assert [leaf.run_seq for leaf in found] == [0, 0]
    assert "run_seq" not in found[0].fields


@pytest.mark.slow
async def test_a_fact_about_no_run_is_refused(database: Database) -> None:
    with pytest.raises(InvalidInput):
        async with database.transaction() as tx:
            await audit.append(tx, RunKey("acme", "identity", "0d4e8a06-2d7c-4d4c-8d1f-0c9f5f1b2a11"), [fact()])


@pytest.mark.slow
@pytest.mark.parametrize("why", ["no table", "no room in a leaf", "no place for a float", "number taken"])
@pytest.mark.parametrize("is_caught", [False, True])
async def test_without_its_leaf_nothing_is_written(
    *, database: Database, database_url: str, start: Start, claim: Claim, why: str, is_caught: bool
) -> None:
    key = await start()
    held = await claim()
    detail: dict[str, JsonValue] = {}
    async with await psycopg.AsyncConnection.connect(database_url) as owner:
        match why:
            case "no table":
                await owner.execute("alter table audit.intake rename to gone")
            case "no room in a leaf":
                detail = {"text": "x" * 70_000}
            case "no place for a float":
                detail = {"seconds": 1.5}
            case "number taken":
                await owner.execute(
                    """insert into audit.intake (entry_id, log_id, run_id, run_seq, leaf)
                       select gen_random_uuid(), log_id, run_id, 3, leaf from audit.intake where run_seq = 1"""
                )
    step = StepRow(place="read", attempt=1, uses="ticket.read", status=StepStatus.DONE)
    commit = StepCommit(
        state_json="{}", status=RunStatus.RUNNING, steps=[step], facts=[fact(Event.EFFECT_INTENDED, **detail)]
    )

    async def do_commit() -> None:
        async with database.transaction() as tx:
            try:
                await commits.commit(tx, held.claim, commit)
            except AuditBroken:
                if not is_caught:
                    raise

    async def do_append() -> None:
        async with database.transaction() as tx:
            await steps.write(tx, [(key, 1, [step])])
            await audit.append(tx, key, [fact(Event.EFFECT_INTENDED, **detail)])

    for act in (do_commit, do_append):
        with pytest.raises(AuditBroken):
            await act()
    async with database.reading() as tx:
        row = await runs.get(tx, key)
        assert await steps.list_steps(tx, key) == []
        assert await approvals.of_run(tx, key) == []
    assert row is not None
    assert (row.seq, row.audit_n, row.owner) == (0, 2, (await _worker_of(database)))


@pytest.mark.slow
@pytest.mark.parametrize("code", ["53100", "53200", "58030"])
async def test_a_full_disk_does_not_break_the_log_and_the_same_leaf_is_taken_later(
    database: Database, database_url: str, start: Start, code: str
) -> None:
    key = await start()

    async def append() -> None:
        async with database.transaction() as tx:
            await audit.append(tx, key, [fact(Event.EFFECT_INTENDED)])

    async with await psycopg.AsyncConnection.connect(database_url, autocommit=True) as owner:
        await owner.execute(
            sql.SQL(
                "create function no_room() returns trigger language plpgsql as "
                "$$ begin raise exception 'no room' using errcode = {}; end $$"
            ).format(sql.Literal(code))
        )
        await owner.execute(
            "create trigger no_room before insert on audit.intake for each row execute function no_room()"
        )
        with pytest.raises(Unavailable):
            await append()
        await owner.execute("drop function no_room cascade")
    await append()


async def _worker_of(database: Database) -> str:
    async with database.reading() as tx:
        row = await tx.row("select id from regie.worker")
    assert row is not None
    return str(row["id"])


@pytest.mark.slow
@pytest.mark.parametrize(
    "tamper",
    [
        "delete from audit.intake where run_seq = (select max(run_seq) from audit.intake)",
        "delete from audit.intake where run_seq = 1",
        "update audit.intake set leaf = overlay(leaf placing 'X'::bytea from 20) where run_seq = 2",
        "update audit.intake set run_seq = 9 where run_seq = 2",
        "update regie.run set audit_n = audit_n + 1",
        "update regie.run set audit_head = sha256(audit_head)",
    ],
)
async def test_verifying_finds_what_a_database_owner_changes(
    database: Database, database_url: str, start: Start, tamper: bytes | str
) -> None:
    key = await start()
    async with database.transaction() as tx:
        await audit.append(tx, key, [fact(), fact()])
        assert await audit.verify(tx, key) == []
    async with await psycopg.AsyncConnection.connect(database_url) as owner:
        await owner.execute(tamper.encode() if isinstance(tamper, str) else tamper)
    async with database.reading() as tx:
        assert await audit.verify(tx, key)
