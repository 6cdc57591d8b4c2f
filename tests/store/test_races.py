"""What only shows when two do it at once: wake-ups, chains, decisions against time-outs."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable

import pytest

from regie.core.audit import Actor, Event, Fact
from regie.core.errors import Denied
from regie.core.plan import Change, FieldChange, PlannedStep
from regie.core.run import CloseApproval, OpenApproval, RunStatus
from regie.store import approvals, audit, claims, commits, inbox, runs
from regie.store.approvals import DecidedMeanwhile, approval_id
from regie.store.claims import Claimed
from regie.store.commits import StepCommit
from regie.store.database import Database
from regie.store.keys import RunKey
from regie.store.workers import Worker

pytestmark = pytest.mark.slow

Start = Callable[..., Awaitable[RunKey]]
Claim = Callable[..., Awaitable[Claimed]]

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
