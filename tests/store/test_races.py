"""What only shows when two do it at once: wake-ups, chains, decisions against time-outs."""

from __future__ import annotations

import asyncio
import random
import uuid
from collections.abc import Awaitable, Callable
from dataclasses import replace

import pytest

from regie.core.audit import Actor, Event, Fact
from regie.core.errors import Denied
from regie.core.outside_event import OutsideEvent
from regie.core.plan import Change, FieldChange, PlannedStep
from regie.core.run import Parent
from regie.core.run_commands import AwaitEvent, CloseApproval, OpenApproval
from regie.core.status import RunStatus
from regie.engine.committing import GroupCommit
from regie.store import approvals, audit, claims, commits, events, inbox, run_lists, runs
from regie.store.approvals import DecidedMeanwhile, approval_id
from regie.store.claims import Claimed
from regie.store.commits import Committed, Kin, StepCommit
from regie.store.database import Database, Transaction
from regie.store.keys import RunKey
from regie.store.runs import NewRun
from regie.store.workers import Worker

pytestmark = pytest.mark.slow

Start = Callable[..., Awaitable[RunKey]]
Claim = Callable[..., Awaitable[Claimed]]
MakeNew = Callable[..., NewRun]

RACES = 2_000


async def test_no_wake_up_is_lost_between_parking_and_delivering(
    database: Database, start: Start, worker: Worker
) -> None:
    """Each event arrives while its run parks; a run that sleeps with an event in its inbox would sleep for ever."""
    lanes = 4
    keys = [await start() for _ in range(lanes)]
    chance = random.Random(7)  # noqa: S311  varies the order of two racers

    async def take() -> list[Claimed]:
        async with database.transaction() as tx:
            return (await claims.take(tx, worker.id, ["identity"], lanes)).runs

    async def race(number: int, held: Claimed) -> None:
        async def park() -> None:
            await asyncio.sleep(chance.random() / 2_000)
            async with database.transaction() as tx:
                await claims.park(tx, held.claim, held.inbox_n)

        async def deliver() -> None:
            await asyncio.sleep(chance.random() / 2_000)
            async with database.transaction() as tx:
                assert await inbox.deliver(tx, held.claim.key, f"event:{number}", "{}")

        await asyncio.gather(park(), deliver())

    woken = 0
    for number in range(RACES // lanes):
        claimed = await take()
        assert sorted(each.claim.key for each in claimed) == sorted(keys), f"asleep after round {number}"
        woken += sum(each.inbox_n == number for each in claimed)
        await asyncio.gather(*(race(number, each) for each in claimed))
    assert woken == RACES


async def test_a_chain_stays_whole_with_several_writers(database: Database, start: Start, claim: Claim) -> None:
    key = await start()
    held = await claim()

    async def write(name: str, count: int) -> None:
        actor = Actor(type="gateway", id=name)
        for _ in range(count):
            async with database.transaction() as tx:
                await audit.append(tx, key, [Fact(event=Event.EFFECT_INTENDED, actor=actor)] * 2)

    async def commit(count: int) -> None:
        handle = held.claim
        fact = Fact(event=Event.STEP_FINISHED, actor=Actor(type="worker", id="w"))
        for _ in range(count):
            async with database.transaction() as tx:
                step = StepCommit(state_json="{}", status=RunStatus.RUNNING, facts=[fact])
                handle = (await commits.commit(tx, handle, step)).claim

    await asyncio.gather(write("a", 30), write("b", 30), commit(30))
    async with database.reading() as tx:
        leaves = await audit.read(tx, key)
        assert await audit.verify(tx, key) == []
    assert len(leaves) == 2 + 60 + 60 + 30
    assert [leaf.run_seq for leaf in leaves] == list(range(1, 153))
    times = [leaf.fields["at"] for leaf in leaves]
    assert times == sorted(times, key=str)
    assert len({leaf.fields["nonce"] for leaf in leaves}) == len(leaves)


async def test_a_decision_and_a_time_out_never_both_win(database: Database, start: Start, worker: Worker) -> None:
    place, boss = "approval", "an.devries@example.com"
    change = Change(
        capability="identity.disable_account",
        target="user:1",
        title="Jan Janssen",
        fields=(FieldChange(field="enabled", before=True, after=False),),
    )
    ask = OpenApproval(
        place=place,
        rung=1,
        rungs=1,
        question="Offboard?",
        plan=(PlannedStep(place="close", uses="identity.disable_account", planned=change),),
        approvers=(boss,),
        requester="jan.janssen@example.com",
        expires_after_s=1,
    )
    outcomes = {"approved": 0, "timeout": 0}
    chance = random.Random(7)  # noqa: S311  varies the order of two racers
    for _ in range(100):
        key = await start()
        async with database.transaction() as tx:
            (held,) = (await claims.take(tx, worker.id, ["identity"], 1)).runs
            asked = await commits.commit(
                tx, held.claim, StepCommit(state_json="{}", status=RunStatus.WAITING, approvals=[ask])
            )

        async def decide(key: RunKey) -> bool:
            await asyncio.sleep(chance.random() / 500)
            try:
                async with database.transaction() as tx:
                    await approvals.decide(tx, key, approval_id(key, place), person=boss, decision="approved")
            except Denied:
                return False
            return True

        async def run_out(handle: claims.Claim) -> bool:
            await asyncio.sleep(chance.random() / 500)
            over = StepCommit(
                state_json="{}", status=RunStatus.REFUSED, approvals=[CloseApproval(place=place, decision="timeout")]
            )
            try:
                async with database.transaction() as tx:
                    await commits.commit(tx, handle, over)
            except DecidedMeanwhile:
                return False
            return True

        decided, ran_out = await asyncio.gather(decide(key), run_out(asked.claim))
        assert decided is not ran_out
        async with database.reading() as tx:
            (approval,) = await approvals.of_run(tx, key)
            row = await runs.get(tx, key)
            granted = await approvals.granted(tx, key)
            leaves = [leaf.event for leaf in await audit.read(tx, key)]
            arrived = await inbox.unconsumed(tx, key)
            assert await audit.verify(tx, key) == []
        assert row is not None
        assert approval.status == ("approved" if decided else "timeout")
        assert bool(granted) is decided
        assert (Event.APPROVAL_GRANTED in leaves) is decided
        assert [event.key for event in arrived] == ([f"decision:{approval.id}"] if decided else [])
        assert row.status is (RunStatus.WAITING if decided else RunStatus.REFUSED)
        outcomes[approval.status] += 1
    assert min(outcomes.values()) > 0, outcomes


async def test_gateway_calls_of_one_run_do_not_lock_each_other_out(
    database: Database, start: Start, claim: Claim
) -> None:
    """Two calls of parallel branches write a row of the run first and its chain afterwards."""
    key = await start()
    await claim()

    async def call(number: int) -> None:
        async with database.transaction() as tx:
            await tx.change(
                """insert into regie.effect (tenant, domain, attempt_key, run, place, effect_key, capability, target,
                                             change_digest, state, fence)
                   values (%(tenant)s, %(domain)s, %(k)s, %(run)s, 'p', 'e', 'c', 't', '', 'intended', 1)""",
                {**key._asdict(), "k": str(number)},
            )
            await asyncio.sleep(0.001)
            await audit.append(tx, key, [Fact(event=Event.EFFECT_INTENDED, actor=Actor(type="gateway", id="g"))])

    await asyncio.gather(*(call(number) for number in range(24)))
    async with database.reading() as tx:
        assert await audit.verify(tx, key) == []


def child_of(parent: RunKey) -> Parent:
    return Parent(run=parent.run, place="child", lineage=("identity.offboard_employee:child",))


def end_of_a_child(parent: RunKey) -> StepCommit:
    return StepCommit(state_json="{}", status=RunStatus.DONE, kin=Kin(told=(parent, "child:child", "{}")))


async def held_by(database: Database, worker: Worker, most: int) -> dict[RunKey, Claimed]:
    async with database.transaction() as tx:
        return {each.claim.key: each for each in (await claims.take(tx, worker.id, ["identity"], most)).runs}


@pytest.mark.parametrize("is_child_first", [True, False])
async def test_a_parent_hears_in_one_transaction_of_its_child_and_of_what_had_come(
    database: Database, start: Start, worker: Worker, make_new: MakeNew, *, is_child_first: bool
) -> None:
    parent, stranger = await start(), await start()
    told = OutsideEvent(tenant="acme", domain="identity", id="one", name="contract.sign", data={})
    async with database.transaction() as tx:
        child = (await runs.start(tx, make_new(parent=child_of(parent)))).key
        await events.publish(tx, told, Actor(type="operator", id="hr-system"))
    held = await held_by(database, worker, 3)
    wanted = {
        child: end_of_a_child(parent),
        parent: StepCommit(
            state_json="{}", status=RunStatus.WAITING, awaits=[AwaitEvent(place="it", event="contract.sign", where={})]
        ),
        stranger: StepCommit(state_json="{}", status=RunStatus.RUNNING),
    }
    order = list(wanted) if is_child_first else [parent, child, stranger]
    group = GroupCommit(database)
    outcomes = await asyncio.gather(*(group.commit(held[key].claim, wanted[key]) for key in order))
    assert {outcome.claim.key: outcome.inbox_n for outcome in outcomes} == {child: 0, parent: 2, stranger: 0}
    async with database.reading() as tx:
        arrived = await inbox.unconsumed(tx, parent)
    assert [event.n for event in arrived] == [1, 2]
    assert {event.key for event in arrived} == {"child:child", "event:it"}


async def test_what_cannot_be_written_costs_the_others_of_its_group_nothing(
    database: Database, start: Start, worker: Worker
) -> None:
    keys = [await start() for _ in range(3)]
    held = await held_by(database, worker, 3)
    written = StepCommit(state_json="{}", status=RunStatus.RUNNING)
    # The database refuses a number that small with an error of its own.
    refused = replace(written, park_seen=-(2**70))
    group = GroupCommit(database)
    outcomes = await asyncio.gather(
        *(group.commit(held[key].claim, refused if key == keys[1] else written) for key in keys),
        return_exceptions=True,
    )
    assert [isinstance(outcome, Committed) for outcome in outcomes] == [True, False, True]


async def test_whoever_locks_the_runs_of_a_ticket_is_in_no_deadlock_with_a_child_that_ends(
    database: Database, worker: Worker, make_new: MakeNew
) -> None:
    low, high = sorted(str(uuid.uuid4()) for _ in range(2))
    parent, child = RunKey("acme", "identity", high), RunKey("acme", "identity", low)
    async with database.transaction() as tx:
        await runs.start(tx, replace(make_new(ticket="ITSM-1"), key=parent))
    async with database.transaction() as tx:
        await runs.start(tx, replace(make_new(ticket="ITSM-1", parent=child_of(parent)), key=child))
    held = await held_by(database, worker, 2)

    async def end() -> None:
        async with database.transaction() as tx:
            await commits.commit_all(tx, [(held[child].claim, end_of_a_child(parent))], is_last=True)

    async def withdraw() -> list[str]:
        async with database.transaction() as tx:
            rows = await run_lists.unfinished_of_ticket(tx, "acme", ["identity"], "ITSM-1")
        return [row.key.run for row in rows]

    async with database.transaction() as tx:
        await runs.state_of(tx, child, lock=True)
        # Both are about to lock the two runs, one after the other, and meet at the child.
        ending = asyncio.create_task(end())
        await waiting_for_locks(tx, 1)
        withdrawing = asyncio.create_task(withdraw())
        await waiting_for_locks(tx, 2)
    await ending
    assert await withdrawing in ([high], [high, low])


async def waiting_for_locks(tx: Transaction, number: int) -> None:
    """Wait until so many others wait for a lock."""
    async with asyncio.timeout(10):
        while True:
            row = await tx.row("select count(distinct pid) as n from pg_locks where not granted")
            if row is not None and row["n"] >= number:
                return
            await asyncio.sleep(0.01)
