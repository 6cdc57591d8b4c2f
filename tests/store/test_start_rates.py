"""How many runs of a domain begin in a length of time: never more than it says, shared by all, in order."""

from __future__ import annotations

import asyncio
import itertools
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from regie.core.errors import Throttled
from regie.core.run import Parent
from regie.core.tenant import Domain, Quota, StartRate
from regie.store import liveness, quotas, start_rates, timers
from regie.store.database import Database
from regie.store.keys import RunKey

from .conftest import Start

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
HOUR = timedelta(hours=1)


def rate(text: str) -> Quota:
    return Quota.model_validate({"start_rate": text})


async def allow(database: Database, quota: Quota) -> None:
    domain = Domain(domain="identity", title="Identity", owner="team:it", classification="internal", quota=quota)
    async with database.transaction() as tx:
        await quotas.keep(tx, {"identity": domain})


async def ready(database: Database) -> set[str]:
    async with database.reading() as tx:
        return {str(row["id"]) for row in await tx.rows("select id from regie.run where ready_at is not null")}


async def turns(database: Database) -> list[timedelta]:
    """How much later than now each run begins that is held back, rounded to a minute, soonest first."""
    async with database.reading() as tx:
        rows = await tx.rows("select due_at - clock_timestamp() as away from regie.timer order by due_at")
    return [timedelta(minutes=round(row["away"] / timedelta(minutes=1))) for row in rows]


def test_a_rate_is_written_in_words() -> None:
    assert rate("60 per 1m").start_rate == StartRate(runs=60, per_s=60)
    assert Quota.model_validate(rate("7 per 1h30m").model_dump(mode="json")) == rate("7 per 1h30m")
    assert start_rates.rate_in_words(StartRate(runs=7, per_s=5400)) == "7 runs per 1h30m"


@pytest.mark.parametrize("text", ["60", "60/1m", "many per 1m", "0 per 1m", "60 per minute", "-1 per 1m", 60])
def test_what_is_no_rate_is_refused(text: object) -> None:
    with pytest.raises(ValidationError):
        Quota.model_validate({"start_rate": text})


@given(
    st.integers(0, 40),
    st.lists(st.integers(0, 300), max_size=30).map(sorted),
    st.integers(1, 10),
    st.integers(1, 120),
)
def test_no_length_of_time_has_more_than_it_may(count: int, ago_s: list[int], runs: int, per_s: int) -> None:
    # Whatever began before has kept to the rate as well.
    began = start_rates.turns_for(len(ago_s), [], NOW - timedelta(seconds=300), StartRate(runs=runs, per_s=per_s))
    began = [at for at in began if at <= NOW]
    given_turns = start_rates.turns_for(count, began, NOW, StartRate(runs=runs, per_s=per_s))
    assert given_turns == sorted(given_turns)
    assert all(turn >= NOW for turn in given_turns)
    every = [*began, *given_turns]
    for first, last in zip(every, every[runs:], strict=False):
        assert last - first >= timedelta(seconds=per_s)
    assert start_rates.turns_for(count, began, NOW, None) == [NOW] * count


@pytest.mark.slow
async def test_what_is_too_much_begins_later_in_order_and_says_so(database: Database, start: Start) -> None:
    await allow(database, rate("2 per 1h"))
    keys = [await start() for _ in range(5)]
    assert await ready(database) == {key.run for key in keys[:2]}
    assert await turns(database) == [HOUR, HOUR, 2 * HOUR]
    async with database.reading() as tx:
        assert await liveness.asleep(tx) == []
        line = await quotas.in_line(tx, keys[4])
        [used] = await quotas.use(tx)
    assert isinstance(line, start_rates.HeldBack)
    assert line.in_words().endswith("its domain begins 2 runs per 1h")
    assert (used.held_back, used.waiting) == (3, 2)


@pytest.mark.slow
async def test_a_run_that_is_held_back_begins_when_its_turn_has_come(database: Database, start: Start) -> None:
    # Nobody's turn comes while they are started: that could take longer than a second.
    await allow(database, rate("1 per 1h"))
    keys = [await start() for _ in range(3)]
    assert len(await ready(database)) == 1
    await allow(database, rate("1 per 1s"))
    async with asyncio.timeout(10):
        while len(await ready(database)) < 3:
            async with database.transaction() as tx:
                await timers.fire_due(tx, ["identity"])
    async with database.reading() as tx:
        rows = await tx.rows(
            "select id, r.ready_at, s.at from regie.run r join regie.start_slot s on s.run = r.id order by s.at"
        )
    assert [str(row["id"]) for row in rows] == [key.run for key in keys]
    # A turn may be noticed late, and the next one on time.
    assert all(later["at"] - sooner["at"] >= timedelta(seconds=1) for sooner, later in itertools.pairwise(rows))
    assert all(row["ready_at"] >= row["at"] for row in rows)


@pytest.mark.slow
async def test_many_who_start_at_once_do_not_get_round_it_and_children_do_not_count(
    database: Database, start: Start
) -> None:
    await allow(database, rate("3 per 1h"))
    keys = await asyncio.gather(*(start() for _ in range(12)))
    assert len(await ready(database)) == 3
    assert await turns(database) == [HOUR] * 3 + [2 * HOUR] * 3 + [3 * HOUR] * 3
    parent = Parent(run=keys[0].run, place="child", lineage=("identity.offboard_employee:child",))
    child = await start(parent=parent)
    assert child.run in await ready(database)


@pytest.mark.slow
async def test_another_rate_gives_other_turns_and_none_lets_all_begin(database: Database, start: Start) -> None:
    await allow(database, rate("1 per 1h"))
    for _ in range(5):
        await start()
    assert await turns(database) == [HOUR, 2 * HOUR, 3 * HOUR, 4 * HOUR]
    await allow(database, rate("3 per 1h"))
    assert await turns(database) == [timedelta(), timedelta(), HOUR, HOUR]
    await allow(database, Quota())
    assert await turns(database) == [timedelta()] * 4
    later: RunKey = await start()
    assert later.run in await ready(database)


@pytest.mark.slow
async def test_what_is_held_back_counts_as_waiting_to_begin(database: Database, start: Start) -> None:
    await allow(database, Quota(waiting=2, start_rate=StartRate(runs=1, per_s=3600)))
    for _ in range(2):
        await start()
        async with database.reading() as tx:
            await quotas.require_room(tx, "identity")
    await start()
    async with database.reading() as tx:
        with pytest.raises(Throttled):
            await quotas.require_room(tx, "identity")
