"""A run that a fault throws out is tried again, later each time, and set aside in the end."""

from __future__ import annotations

import pytest

from regie.core.audit import Event
from regie.core.errors import FencedOut
from regie.core.status import RunStatus
from regie.store import audit, claims, commits, dropped, liveness, runs
from regie.store.commits import StepCommit
from regie.store.database import Database
from regie.store.keys import RunKey

from .conftest import OPERATOR, Claim, Start

pytestmark = pytest.mark.slow


async def drop(database: Database, claim: claims.Claim) -> float | None:
    async with database.transaction() as tx:
        return await dropped.drop(tx, claim)


async def bring_back(database: Database, *, after_s: float, domain: str = "identity") -> int:
    """What a worker finds so many seconds later."""
    async with database.transaction() as tx:
        await tx.change("update regie.run set again_at = again_at - make_interval(secs => %(s)s)", {"s": after_s})
        return await dropped.bring_back(tx, [domain])


async def is_ready(database: Database, key: RunKey) -> bool:
    async with database.reading() as tx:
        row = await tx.row("select ready_at from regie.run where id = %(run)s", key._asdict())
    assert row is not None
    return row["ready_at"] is not None


async def test_each_pause_is_longer_and_in_the_end_it_is_set_aside(
    database: Database, start: Start, claim: Claim
) -> None:
    key = await start()
    pauses: list[float] = []
    while (pause_s := await drop(database, (await claim()).claim)) is not None:
        pauses.append(pause_s)
        async with database.reading() as tx:
            assert await liveness.asleep(tx) == [], "it will be tried again"
            [found] = await dropped.list_dropped(tx)
        assert (found.key, found.times) == (key, len(pauses))
        assert found.again_at is not None
        assert await bring_back(database, after_s=pause_s - 1) == 0, "not yet"
        assert await bring_back(database, after_s=1, domain="other") == 0
        assert not await is_ready(database, key)
        assert await bring_back(database, after_s=0) == 1
        assert await is_ready(database, key)
    assert pauses == [2, 4, 8, 16, 32, 60, 60]
    async with database.reading() as tx:
        assert await dropped.list_dropped(tx) == []
        [sleeper] = await liveness.asleep(tx)
        assert await audit.verify(tx, key) == []
        leaves = await audit.read(tx, key)
    assert (sleeper.key, sleeper.set_aside) == (key, dropped.FAULT)
    assert leaves[-1].event is Event.RUN_SET_ASIDE
    assert await bring_back(database, after_s=1000) == 0


async def test_whoever_wakes_it_gives_it_one_chance(database: Database, start: Start, claim: Claim) -> None:
    key = await start()
    while await drop(database, (await claim()).claim) is not None:
        await bring_back(database, after_s=60)
    async with database.transaction() as tx:
        assert await runs.wake(tx, key, OPERATOR)
    assert await drop(database, (await claim()).claim) is None


async def test_a_run_that_moved_on_counts_anew(database: Database, start: Start, claim: Claim) -> None:
    await start()
    for _ in range(dropped.MOST_TIMES - 1):
        await drop(database, (await claim()).claim)
        await bring_back(database, after_s=60)
    claimed = await claim()
    async with database.transaction() as tx:
        committed = await commits.commit(tx, claimed.claim, StepCommit(state_json="{}", status=RunStatus.RUNNING))
    async with database.reading() as tx:
        assert await dropped.list_dropped(tx) == []
    assert await drop(database, committed.claim) == dropped.FIRST_PAUSE_S


async def test_what_arrives_in_its_pause_is_a_reason_to_try_at_once(
    database: Database, start: Start, claim: Claim
) -> None:
    key = await start()
    await drop(database, (await claim()).claim)
    async with database.transaction() as tx:
        assert await runs.wake(tx, key, OPERATOR)
    assert (await claim()).claim.key == key
    assert await bring_back(database, after_s=60) == 0, "a worker has it"


async def test_nobody_drops_what_another_has(database: Database, start: Start, claim: Claim) -> None:
    await start()
    first = (await claim()).claim
    await drop(database, first)
    with pytest.raises(FencedOut):
        await drop(database, first)
    await bring_back(database, after_s=60)
    second = (await claim()).claim
    with pytest.raises(FencedOut):
        await drop(database, first)
    assert await drop(database, second) == 2 * dropped.FIRST_PAUSE_S
