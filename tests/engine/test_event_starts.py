"""Runs that start because something has happened, the same with every engine."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest
from pydantic import JsonValue

from regie.core.audit import Actor, Event
from regie.core.event_starts import LONGEST_CHAIN
from regie.core.outside_event import OutsideEvent
from regie.core.run import RunState
from regie.core.status import RunStatus
from regie.store import run_lists, runs
from regie.store.keys import RunKey
from tests.leaves import read_outside

from .stage import EVA, OPERATOR, InlineStage, PostgresStage, Stage, at_work, wants

PROGRAM = Actor(type="operator", id="hr-system")


def is_over(state: RunState) -> bool:
    return state.status.is_final


def happened(event_id: str, **data: JsonValue) -> OutsideEvent:
    return OutsideEvent(tenant="acme", domain="things", id=event_id, name="thing.happen", data=data)


async def started(stage: Stage, workflow: str = "started") -> list[RunKey]:
    """Every run of a workflow, the oldest first."""
    if isinstance(stage, InlineStage):
        return [key for key, run in stage.inline._runs.items() if run.facts.workflow == f"things.{workflow}"]
    assert isinstance(stage, PostgresStage)
    async with stage.database.reading() as tx:
        rows = await run_lists.list_runs(tx, workflow=f"things.{workflow}", limit=100)
    return [row.key for row in reversed(rows)]


async def until_started(stage: Stage, count: int, workflow: str = "started") -> list[RunKey]:
    async with asyncio.timeout(20):
        while len(found := await started(stage, workflow)) < count:
            await stage.a_moment()
    return found


async def test_an_event_starts_a_run_with_its_data_as_input(stage: Stage) -> None:
    assert await stage.engine.publish(happened("e-1", kind="good", count=2, word="Hello"), PROGRAM)
    [key] = await until_started(stage, 1)
    state = await stage.until(key, is_over)
    assert (state.status, state.steps["first"].output) == (RunStatus.DONE, {"value": "Hello"})
    assert state.facts.cause is not None
    assert (state.facts.cause.event, state.facts.cause.run, state.facts.started_by) == ("e-1", "", "hr-system")


@pytest.mark.parametrize("data", [{"kind": "bad", "count": 2}, {"count": 2}, {"kind": "good", "count": 1}])
async def test_an_event_that_does_not_fit_starts_nothing(stage: Stage, data: dict[str, JsonValue]) -> None:
    assert await stage.engine.publish(happened("e-1", **data), PROGRAM)
    await stage.a_moment()
    assert await started(stage) == []


async def test_an_event_that_the_condition_cannot_be_asked_of_starts_a_run_that_says_so(stage: Stage) -> None:
    await stage.engine.publish(happened("e-1", kind="good", count="many"), PROGRAM)
    [key] = await until_started(stage, 1)
    state = await stage.until(key, is_over)
    assert state.status is RunStatus.FAILED
    assert state.failure is not None
    assert state.failure.message.startswith("The event thing.happen e-1 does not fit the `if` of this start")
    assert stage.script.places(key) == []


@pytest.mark.parametrize("is_at_once", [False, True], ids=["one after the other", "all at once"])
async def test_the_same_event_told_five_times_starts_one_run(stage: Stage, *, is_at_once: bool) -> None:
    event = happened("e-1", kind="good", count=2)
    telling = [stage.engine.publish(event, PROGRAM) for _ in range(5)]
    told = await asyncio.gather(*telling) if is_at_once else [await each for each in telling]
    assert sorted(told) == [False] * 4 + [True]
    [key] = await until_started(stage, 1)
    await stage.until(key, is_over)
    await stage.a_moment()
    assert await started(stage) == [key]


async def test_a_run_starts_another_by_what_it_publishes(stage: Stage) -> None:
    key = await stage.start("telling", word="Hello")
    assert (await stage.until(key, is_over)).status is RunStatus.DONE
    [theirs] = await until_started(stage, 1)
    state = await stage.until(theirs, is_over)
    assert state.steps["first"].output == {"value": "Hello"}
    cause = state.facts.cause
    assert cause is not None
    assert (cause.run, cause.lineage) == (key.run, ("things.telling",))


async def test_a_dry_run_tells_nobody(stage: Stage) -> None:
    key = await stage.start("telling", dry=True)
    state = await stage.until(key, is_over)
    assert state.steps["tell"].output == {"id": ""}
    await stage.a_moment()
    assert await started(stage) == []


async def test_a_workflow_that_starts_itself_comes_to_an_end_and_says_why(stage: Stage) -> None:
    await stage.start("telling_itself", word="Hello")
    keys = await until_started(stage, LONGEST_CHAIN + 1, "telling_itself")
    states = [await stage.until(key, is_over) for key in keys]
    assert [state.status for state in states] == [*[RunStatus.DONE] * LONGEST_CHAIN, RunStatus.FAILED]
    last = states[-1]
    assert last.failure is not None
    assert last.failure.message.startswith("No more than 8 runs can stand in a row")
    assert last.input == {"word": "Hello"}
    await stage.a_moment()
    assert len(await started(stage, "telling_itself")) == LONGEST_CHAIN + 1


@pytest.mark.slow
async def test_what_a_run_publishes_is_in_the_log_and_who_asked_for_it_is_the_requester(
    postgres: PostgresStage,
) -> None:
    async with at_work(postgres.worker(), postgres.worker(name="other")):
        request = await a_request_of(postgres, EVA)
        [theirs] = await until_started(postgres, 1)
        state = await postgres.until(theirs, is_over)
        assert (state.requester, state.facts.started_by) == (EVA, EVA)
        async with postgres.database.reading() as tx:
            row = await runs.get(tx, theirs)
            outside = [leaf for leaf in await read_outside(tx, "acme", "things") if leaf.event.startswith("event")]
        assert row is not None
        assert row.corr == request.run
        [leaf] = outside
        assert leaf.event == Event.EVENT_PUBLISHED


async def a_request_of(stage: PostgresStage, person: str) -> RunKey:
    request = replace(wants("telling", "of-eva"), started_by=Actor(type="person", id=person))
    return (await stage.engine.start(request)).key


@pytest.mark.slow
async def test_an_event_told_while_no_worker_lives_starts_its_run_at_once(postgres: PostgresStage) -> None:
    await postgres.engine.publish(happened("e-1", kind="good", count=2), OPERATOR)
    assert len(await started(postgres)) == 1
