from __future__ import annotations

import asyncio
from datetime import timedelta

import pytest

from regie.core.audit import Event
from regie.core.schedule import next_after
from regie.store import schedules

from .stage import AMSTERDAM, NIGHTLY, SCHEDULED, Starts

pytestmark = pytest.mark.slow

SKIPPING = SCHEDULED.replace("} ", "}").replace("Amsterdam }", "Amsterdam, missed: skip }")
SPREAD = SCHEDULED.replace("Amsterdam }", "Amsterdam, spread: 1h }")
WORKFLOW = "identity.nightly"


async def test_a_schedule_begins_with_its_next_time_for_every_tenant(starts: Starts) -> None:
    await starts.load({WORKFLOW: SCHEDULED}, tenants=("acme", "globex"))
    before = await starts.now()
    await starts.look(starts.starter())
    rows = await starts.schedules()
    assert [row.key.tenant for row in rows] == ["acme", "globex"]
    assert {row.next_at for row in rows} == {next_after(NIGHTLY, AMSTERDAM, before)}
    assert {row.due_at for row in rows} == {row.next_at for row in rows}
    assert await starts.runs(WORKFLOW) == []


@pytest.mark.row("schedule-missed")
async def test_after_a_long_absence_one_run_makes_up_for_all(starts: Starts) -> None:
    await starts.load({WORKFLOW: SCHEDULED})
    starter = starts.starter()
    await starts.look(starter)
    planned = await starts.be_away(timedelta(days=30))
    for _ in range(3):
        await starts.look(starter)
    [run] = await starts.runs(WORKFLOW)
    assert (run.started_by.type, run.started_by.id) == ("engine", "schedule")
    [row] = await starts.schedules()
    assert row.last_run == run.key.run
    assert row.last_at is not None
    assert run.trigger_key == f"schedule:{WORKFLOW}:{row.last_at:%Y-%m-%dT%H:%M:%SZ}"
    assert row.next_at == next_after(NIGHTLY, AMSTERDAM, await starts.now())
    assert await starts.leaves(run) == [Event.TRIGGER_ACCEPTED, Event.RUN_STARTED]
    [missed] = await starts.outside(Event.TRIGGER_MISSED)
    told = missed.fields["schedule"]
    assert told == {
        "workflow": WORKFLOW,
        "since": planned.isoformat(),
        "until": row.last_at.isoformat(),
        "policy": "run-once",
    }


async def test_missed_runs_can_be_left_out(starts: Starts) -> None:
    # Twelve hours from any time at which the schedule is due, whenever this test runs.
    now = await starts.now()
    daily = f"0 {(now.hour + 12) % 24} * * *"
    await starts.load({WORKFLOW: SKIPPING.replace(NIGHTLY, daily).replace(AMSTERDAM, "UTC")})
    starter = starts.starter()
    await starts.look(starter)
    late = next_after(daily, "UTC", now - timedelta(days=3))
    assert late is not None
    await starts.plan(late)
    await starts.look(starter)
    assert await starts.runs(WORKFLOW) == []
    [missed] = await starts.outside(Event.TRIGGER_MISSED)
    told = missed.fields["schedule"]
    assert isinstance(told, dict)
    assert (told["policy"], told["since"]) == ("skip", late.isoformat())
    [row] = await starts.schedules()
    assert (row.last_run, row.next_at) == (None, next_after(daily, "UTC", now))


async def test_what_is_hardly_late_is_not_missed(starts: Starts) -> None:
    # Once a day: another minute that begins meanwhile is not another time.
    now = await starts.now()
    daily = f"{now.minute} {now.hour} * * *"
    await starts.load({WORKFLOW: SKIPPING.replace(NIGHTLY, daily).replace(AMSTERDAM, "UTC")})
    starter = starts.starter()
    await starts.look(starter)
    await starts.plan(now.replace(second=0, microsecond=0))
    await starts.look(starter)
    assert len(await starts.runs(WORKFLOW)) == 1
    assert await starts.outside(Event.TRIGGER_MISSED) == []


async def test_many_workers_at_once_start_each_once(starts: Starts) -> None:
    tenants = [f"tenant-{number}" for number in range(12)]
    await starts.load({WORKFLOW: SCHEDULED}, tenants=tenants)
    workers = [starts.starter() for _ in range(5)]
    await asyncio.gather(*(starts.look(worker) for worker in workers))
    assert len(await starts.schedules()) == len(tenants)
    await starts.be_away(timedelta())
    await asyncio.gather(*(starts.look(worker) for worker in workers))
    assert sorted(run.key.tenant for run in await starts.runs(WORKFLOW)) == sorted(tenants)
    # Not even when the row says the same time once more.
    await starts.be_away(timedelta())
    await asyncio.gather(*(starts.look(worker) for worker in workers))
    assert len(await starts.runs(WORKFLOW)) == len(tenants)


async def test_a_new_release_changes_what_is_planned(starts: Starts) -> None:
    await starts.load({WORKFLOW: SCHEDULED}, tenants=("acme", "globex"))
    starter, other = starts.starter(), starts.starter()
    await starts.look(starter)
    await starts.look(other)
    was = (await starts.schedules())[0]
    # Another time is another schedule; the same one keeps what it knows.
    await starts.load({WORKFLOW: SCHEDULED.replace(NIGHTLY, "0 5 * * *")})
    await starts.look(starter)
    [row] = await starts.schedules()
    assert row.key.tenant == "acme"
    assert row.key.start != was.key.start
    assert row.next_at == next_after("0 5 * * *", AMSTERDAM, await starts.now())
    await starts.load({WORKFLOW: "start: []"})
    await starts.look(other)
    assert await starts.schedules() == []


async def test_a_planned_time_survives_a_release_that_changes_something_else(starts: Starts) -> None:
    await starts.load({WORKFLOW: SCHEDULED})
    starter = starts.starter()
    await starts.look(starter)
    await starts.be_away(timedelta(days=3))
    await starts.load({WORKFLOW: SCHEDULED, "identity.open": "start: { form: { who: everyone } }"})
    await starts.look(starter)
    assert len(await starts.runs(WORKFLOW)) == 1


async def test_what_was_planned_under_an_older_release_is_dropped_not_started(starts: Starts) -> None:
    await starts.load({WORKFLOW: SCHEDULED})
    slow = starts.starter()
    await starts.look(slow)
    await starts.be_away(timedelta(days=1))
    await starts.load({WORKFLOW: "start: []"})
    # A worker that has not seen the new release yet.
    assert await slow._scheduler.fire()
    assert await starts.runs(WORKFLOW) == []
    assert await starts.schedules() == []


async def test_tenants_are_spread(starts: Starts) -> None:
    tenants = [f"tenant-{number}" for number in range(20)]
    await starts.load({WORKFLOW: SPREAD}, tenants=tenants)
    starter = starts.starter()
    await starts.look(starter)
    rows = await starts.schedules()
    distances = {(row.due_at - row.next_at).total_seconds() for row in rows}
    assert len(distances) > 10
    assert all(0 <= distance < 3600 for distance in distances)
    # The trigger is the scheduled time all the same.
    async with starts.database.transaction() as tx:
        for row in rows:
            last = row.next_at - timedelta(days=1)
            moved = schedules.Planned(row.key, last, last + (row.due_at - row.next_at))
            await schedules.move(tx, moved, ran_for=None, run=None)
    await starts.look(starter)
    triggers = {run.trigger_key for run in await starts.runs(WORKFLOW)}
    assert len(triggers) <= 2


@pytest.mark.row("schedule-not-startable")
async def test_a_schedule_that_cannot_be_started_does_not_stop_the_others(starts: Starts) -> None:
    await starts.load({WORKFLOW: SCHEDULED}, tenants=("acme", "globex"))
    starter = starts.starter()
    await starts.look(starter)
    await starts.be_away(timedelta(days=1))
    async with starts.database.transaction() as tx:
        await tx.change(
            """create function regie.refuse() returns trigger language plpgsql as $$
               begin raise exception 'no' using errcode = '22000'; end $$""",
            {},
        )
        await tx.change(
            """create trigger refuse before insert on regie.run for each row when (new.tenant = 'acme')
               execute function regie.refuse()""",
            {},
        )
    await starts.look(starter)
    assert [run.key.tenant for run in await starts.runs(WORKFLOW)] == ["globex"]
    late = {row.key.tenant: row for row in await starts.schedules()}["acme"]
    assert late.due_at > await starts.now()
    assert late.next_at < await starts.now()
