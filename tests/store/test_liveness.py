"""Every run that is not over has something that will move it; what has nothing is named, woken once, then set aside."""

from __future__ import annotations

import pytest

from regie.core.audit import Actor, Event
from regie.core.run_commands import OpenApproval
from regie.core.run_events import Paused, Resumed
from regie.core.status import RunStatus
from regie.store import audit, claims, commits, inbox, liveness, run_lists, runs, surroundings
from regie.store.commits import StepCommit
from regie.store.database import Database
from regie.store.keys import RunKey
from regie.store.liveness import Sleeper

from .conftest import OPERATOR, Claim, Start

pytestmark = pytest.mark.slow


async def asleep(database: Database) -> list[Sleeper]:
    async with database.reading() as tx:
        return await liveness.asleep(tx)


async def sweep(database: Database, domain: str = "identity") -> liveness.Swept:
    async with database.transaction() as tx:
        return await liveness.sweep(tx, [domain])


async def events_of(database: Database, key: RunKey) -> list[Event]:
    async with database.reading() as tx:
        assert await audit.verify(tx, key) == []
        return [leaf.event for leaf in await audit.read(tx, key)]


async def park(database: Database, claim: Claim, status: RunStatus = RunStatus.WAITING, **more: object) -> None:
    claimed = await claim()
    step = StepCommit(state_json="{}", status=status, park_seen=claimed.inbox_n, **more)  # type: ignore[arg-type]  # any of its fields
    async with database.transaction() as tx:
        await commits.commit(tx, claimed.claim, step)


def opened(*approvers: str) -> OpenApproval:
    return OpenApproval(
        place="a",
        rung=1,
        rungs=1,
        question="Well?",
        plan=(),
        approvers=approvers,
        requester="",
        expires_after_s=60,
    )


async def test_what_will_move_a_run(database: Database, start: Start, claim: Claim) -> None:
    await start()
    assert await asleep(database) == [], "it is ready"
    claimed = await claim()
    assert await asleep(database) == [], "a worker has it"
    async with database.transaction() as tx:
        await claims.park(tx, claimed.claim, -1)
    await park(database, claim, timers_set={"wait:a:0": 60.0})
    assert await asleep(database) == [], "a timer will fire"
    await start()
    await park(database, claim, approvals=[opened("eva@example.com")])
    assert await asleep(database) == [], "somebody was asked"
    await start()
    await park(database, claim, RunStatus.PAUSED)
    assert await asleep(database) == [], "somebody has paused it"
    assert await sweep(database) == ([], [])


async def test_a_run_with_nothing_is_woken_once_and_then_set_aside(
    database: Database, start: Start, claim: Claim
) -> None:
    key = await start()
    await park(database, claim)
    [found] = await asleep(database)
    assert (found.key, found.set_aside) == (key, "")
    assert await sweep(database, "other") == ([], [])
    assert await sweep(database) == ([key], [])
    assert await sweep(database) == ([], []), "it is ready"
    claimed = await claim()
    async with database.transaction() as tx:
        await claims.park(tx, claimed.claim, claimed.inbox_n)
    assert await sweep(database) == ([], [key]), "it did nothing"
    [found] = await asleep(database)
    assert found.set_aside == liveness.STUCK
    assert await sweep(database) == ([], []), "it stays set aside"
    assert (await events_of(database, key))[-2:] == [Event.RUN_WOKEN, Event.RUN_SET_ASIDE]


async def test_what_is_set_aside_is_named_whatever_may_still_make_it_ready(
    database: Database, start: Start, claim: Claim
) -> None:
    key = await start()
    await park(database, claim, timers_set={"wait:a:0": 60.0}, approvals=[opened("eva@example.com")])
    async with database.transaction() as tx:
        await inbox.put(tx, key, [("d", '{"kind": "decided"}')], 0)
    claimed = await claim()
    async with database.transaction() as tx:
        await claims.set_aside(tx, claimed.claim, "SealBroken")
    assert [(found.key, found.set_aside) for found in await asleep(database)] == [(key, "SealBroken")]
    assert await sweep(database) == ([], [])


async def test_a_run_that_moved_in_between_is_woken_again(database: Database, start: Start, claim: Claim) -> None:
    key = await start()
    for _ in range(2):
        await park(database, claim)
        assert await sweep(database) == ([key], [])


async def test_an_approval_of_nobody_wakes_nothing(database: Database, start: Start, claim: Claim) -> None:
    key = await start()
    await park(database, claim, approvals=[opened()])
    assert [found.key for found in await asleep(database)] == [key]


async def test_a_person_wakes_what_was_set_aside(database: Database, start: Start, claim: Claim) -> None:
    key = await start()
    claimed = await claim()
    async with database.transaction() as tx:
        await claims.set_aside(tx, claimed.claim, "SealBroken")
    [found] = await asleep(database)
    assert found.set_aside == "SealBroken"
    assert await sweep(database) == ([], [])
    async with database.transaction() as tx:
        assert await runs.wake(tx, key, OPERATOR)
        assert not await runs.wake(tx, key, OPERATOR), "it is ready"
    assert (await events_of(database, key))[-1] is Event.RUN_WOKEN
    assert (await claim()).claim.key == key
    async with database.transaction() as tx:
        assert not await runs.wake(tx, key, OPERATOR), "a worker has it"


async def test_pauses_are_counted_and_lifted_in_turn(database: Database, start: Start) -> None:
    key = await start()
    who = Actor(type="person", id="eva@example.com")
    async with database.transaction() as tx:
        assert not await runs.resume(tx, key, who, Resumed(by=who.id))
        for number in (1, 2):
            paused = Paused(by=who.id, reason=f"{number}")
            assert await runs.pause(tx, key, who, paused)
            assert not await runs.pause(tx, key, who, Paused(by="ole@example.com"))
            assert await runs.pause_of(tx, key) == paused
            assert await runs.resume(tx, key, who, Resumed(by=who.id))
            assert await runs.pause_of(tx, key) is None
    assert (await events_of(database, key))[-4:] == [Event.RUN_PAUSED, Event.RUN_RESUMED] * 2


async def test_a_commit_that_has_not_heard_of_a_pause_is_not_written(
    database: Database, start: Start, claim: Claim
) -> None:
    key = await start()
    claimed = await claim()
    who = Actor(type="person", id="eva@example.com")
    async with database.transaction() as tx:
        await runs.pause(tx, key, who, Paused(by=who.id))
    step = StepCommit(state_json='{"at": 1}', status=RunStatus.RUNNING, heard=claimed.inbox_n)
    with pytest.raises(inbox.SteeredMeanwhile):
        async with database.transaction() as tx:
            await commits.commit(tx, claimed.claim, step)
    heard = StepCommit(state_json='{"at": 1}', status=RunStatus.PAUSED, heard=1, consumed=["pause:1"])
    async with database.transaction() as tx:
        await commits.commit(tx, claimed.claim, heard)


async def test_a_run_is_late_once_its_time_is_over_and_stays_so(database: Database, start: Start, claim: Claim) -> None:
    late = await start(finish_within_s=0.000001)
    early = await start(finish_within_s=3600.0)
    never = await start()
    async with database.reading() as tx:
        rows = {row.key: row for row in await run_lists.list_runs(tx)}
        assert [row.key for row in await run_lists.list_runs(tx, is_late=True)] == [late]
    assert (rows[late].is_late, rows[early].is_late, rows[never].is_late) == (True, False, False)
    assert rows[never].finish_by is None
    for _ in range(3):
        await park(database, claim, RunStatus.DONE)
    async with database.reading() as tx:
        assert [row.key for row in await run_lists.list_runs(tx, is_late=True)] == [late]


async def test_runs_that_repeat_each_other_stand_for_the_same(database: Database, start: Start, claim: Claim) -> None:
    first = await start()
    repeats = runs.Repeated(run=first.run, first_run=first.run, from_step="close", kept=1, kept_sha256="0" * 64)
    second = await start(repeats=repeats, timers={"stop:run:0": 60.0})
    async with database.reading() as tx:
        assert await run_lists.reruns(tx, first) == [second.run]
        timers = await tx.rows("select timer from regie.timer where run = %(run)s", {"run": second.run})
    assert [row["timer"] for row in timers] == ["stop:run:0"]
    assert (await events_of(database, first))[-1] is Event.RUN_REPEATED
    for expected in (first, second):
        claimed = await claim()
        async with database.reading() as tx:
            held = (await surroundings.asked(tx, claimed.claim.key, claimed.claim.fence, [])).held
        assert (claimed.claim.key, held.intent) == (expected, first.run)
