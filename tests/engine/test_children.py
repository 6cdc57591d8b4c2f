"""Children and events from outside, the same with every engine."""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import Callable

import pytest
from pydantic import JsonValue

from regie.core.audit import Actor, Event
from regie.core.children import child_id
from regie.core.errors import InvalidInput, RegieError
from regie.core.outside_event import OutsideEvent
from regie.core.run import RunState
from regie.core.status import RunStatus, StepStatus
from regie.crashpoints import CrashPoint, arm
from regie.engine.committing import GroupCommit
from regie.engine.live import LiveRun
from regie.store import audit, claims, liveness, run_lists, runs, timers, workers
from regie.store.keys import RunKey

from .stage import CATALOGUE, EVA, OPERATOR, RELEASE, PostgresStage, Stage, at_work, contract


def is_over(state: RunState) -> bool:
    return state.status.is_final


def holds_at(place: str) -> Callable[[RunState], bool]:
    """Whether a run waits at a place, and for nothing else."""
    return lambda state: state.status is RunStatus.WAITING and state.steps[place].status is StepStatus.WAITING


async def test_a_child_runs_and_its_parent_waits(stage: Stage) -> None:
    key = await stage.start("parent", word="Hello")
    state = await stage.until(key, is_over)
    assert state.status is RunStatus.DONE
    [child] = await stage.children(key)
    assert child.run == child_id(key.run, "child")
    assert state.steps["after"].output == {"value": f"done {child.run}"}
    # It has ended before its parent went on.
    theirs = await stage.engine.state(child)
    assert theirs.status is RunStatus.DONE
    assert theirs.steps["first"].output == {"value": "Hello"}
    assert theirs.facts.parent is not None
    assert (theirs.facts.parent.run, theirs.facts.parent.place) == (key.run, "child")
    assert theirs.facts.started_by == state.facts.started_by
    assert [note.words for note in state.steps["child"].effects] == ["on: false -> true"]


async def test_a_child_that_fails_fails_its_step(stage: Stage) -> None:
    key = await stage.start("parent_of_failing")
    state = await stage.until(key, is_over)
    assert state.steps["comfort"].output == {"value": "ChildFailed"}
    assert state.status is RunStatus.FAILED
    assert state.failure is not None
    assert state.failure.kind == "ChildFailed"
    assert state.failure.message.endswith("of things.refused failed: No.")
    assert len(await stage.children(key)) == 2


async def test_a_child_that_is_refused_is_a_result(stage: Stage) -> None:
    key = await stage.start("parent_of_asking")
    await stage.until(key, holds_at("child"))
    [child] = await stage.children(key)
    await stage.until(child, holds_at("approval"))
    await stage.decide(child, EVA, "refused")
    state = await stage.until(key, is_over)
    assert state.status is RunStatus.REFUSED
    assert state.steps["after"].output == {"value": "refused"}


async def test_children_in_branches_and_items_each_once(stage: Stage) -> None:
    key = await stage.start("family")
    state = await stage.until(key, is_over)
    assert state.status is RunStatus.DONE
    assert state.steps["count"].output == {"value": "5 done"}
    children = await stage.children(key)
    assert sorted(child.run for child in children) == sorted(
        child_id(key.run, place) for place in ("free", *(f"all[{number}]" for number in range(5)))
    )
    for number in range(5):
        [grandchild] = await stage.children(key._replace(run=child_id(key.run, f"all[{number}]")))
        theirs = await stage.engine.state(grandchild)
        assert theirs.steps["first"].output == {"value": str(number)}
        assert theirs.facts.parent is not None
        assert theirs.facts.parent.lineage == (f"things.family:all[{number}]", "things.parent:child")
    free = key._replace(run=child_id(key.run, "free"))
    assert (await stage.until(free, is_over)).status is RunStatus.DONE


@pytest.mark.slow
async def test_a_parent_that_is_cancelled_cancels_its_children_and_awaits_them(postgres: PostgresStage) -> None:
    async with at_work(postgres.worker()):
        await cancelled_with_its_children(postgres)


async def cancelled_with_its_children(stage: PostgresStage) -> None:
    key = await stage.start("parent_of_holding")
    child, waiting, free = (key._replace(run=child_id(key.run, place)) for place in ("child", "waiting", "free"))
    grandchild = key._replace(run=child_id(waiting.run, "child"))
    assert {await stage.script.held.get(), await stage.script.held.get()} == {child.run, free.run}
    await stage.until(waiting, holds_at("child"))
    await stage.until(grandchild, holds_at("signed"))
    await stage.cancel(key)
    # All that only waits has ended; the work that is out in one child is awaited.
    for over in (grandchild, waiting):
        assert (await stage.until(over, is_over)).status is RunStatus.CANCELLED
    assert (await stage.until(key, lambda state: "waiting" in state.order)).status is RunStatus.WAITING
    stage.script.let_go(child.run)
    state = await stage.until(key, is_over)
    assert state.status is RunStatus.CANCELLED
    assert state.steps["child"].status is StepStatus.CANCELLED
    theirs = await stage.engine.state(child)
    assert (theirs.status, theirs.steps["it"].status) == (RunStatus.CANCELLED, StepStatus.DONE)
    assert theirs.cancelled is not None
    assert theirs.cancelled.by == "ole@example.com"
    stage.script.let_go(free.run)
    assert (await stage.until(free, is_over)).status is RunStatus.DONE


async def test_a_waiting_child_is_cancelled_with_its_parent(stage: Stage) -> None:
    key = await stage.start("parent_of_waiting")
    await stage.until(key, holds_at("child"))
    await stage.cancel(key)
    assert (await stage.until(key, is_over)).status is RunStatus.CANCELLED
    [child] = await stage.children(key)
    assert (await stage.engine.state(child)).status is RunStatus.CANCELLED


async def test_a_child_that_is_cancelled_by_itself_fails_its_step(stage: Stage) -> None:
    key = await stage.start("parent_of_waiting")
    await stage.until(key, holds_at("child"))
    [child] = await stage.children(key)
    await stage.cancel(child)
    state = await stage.until(key, is_over)
    assert state.status is RunStatus.FAILED
    assert state.failure is not None
    assert state.failure.kind == "ChildFailed"
    assert "was cancelled" in state.failure.message


async def test_a_dry_run_has_dry_children(stage: Stage) -> None:
    key = await stage.start("family", dry=True)
    assert (await stage.until(key, is_over)).status is RunStatus.DONE
    for child in await stage.children(key):
        assert (await stage.until(child, is_over)).facts.dry


# --- events from outside ----------------------------------------------------------------------------------------------


async def test_an_event_with_the_wanted_fields_moves_who_waits_for_it(stage: Stage) -> None:
    key, other = await stage.start("waits_for_event", word="Ann"), await stage.start("waits_for_event", word="Bo")
    for waiting in (key, other):
        await stage.until(waiting, holds_at("signed"))
    near: list[dict[str, JsonValue]] = [{}, {"who": "Ann"}, {"who": "Ann", "pages": 3}, {"who": "Ann", "pages": "2"}]
    for number, data in enumerate(near):
        assert await stage.engine.publish(contract(f"near-{number}", **data), OPERATOR)
    assert await stage.engine.publish(contract("it", who="Ann", pages=2.0, more=[1]), OPERATOR)
    state = await stage.until(key, is_over)
    assert state.steps["signed"].output == {
        "timed_out": False,
        "event": {"who": "Ann", "pages": 2, "more": [1]},
    }
    assert state.steps["after"].output == {"value": {"who": "Ann", "pages": 2, "more": [1]}}
    assert holds_at("signed")(await stage.engine.state(other))


async def test_an_event_counts_once_by_its_id(stage: Stage) -> None:
    assert await stage.engine.publish(contract("one", who="Ann"), OPERATOR)
    assert not await stage.engine.publish(contract("one", who="Ann"), OPERATOR)
    with pytest.raises(InvalidInput, match="another event"):
        await stage.engine.publish(contract("one", who="Bo"), OPERATOR)


@pytest.mark.slow
async def test_an_event_that_came_after_the_start_meets_a_wait_that_begins_later(postgres: PostgresStage) -> None:
    async with at_work(postgres.worker()):
        await met_by_an_earlier_event(postgres)


async def met_by_an_earlier_event(stage: PostgresStage) -> None:
    await stage.engine.publish(contract("too early", number=0), OPERATOR)
    key = await stage.start("event_came_before")
    assert await stage.script.held.get() == key.run
    await stage.engine.publish(contract("first", number=1), OPERATOR)
    await stage.engine.publish(contract("second", number=2), OPERATOR)
    stage.script.let_go(key.run)
    state = await stage.until(key, is_over)
    assert state.steps["signed"].output == {"timed_out": False, "event": {"number": 1}}


async def test_silence_until_the_deadline_is_a_result(stage: Stage) -> None:
    key = await stage.start("waits_too_long")
    await stage.until(key, holds_at("signed"))
    state = await stage.until(key, is_over)
    assert state.status is RunStatus.DONE
    assert state.steps["signed"].output == {"timed_out": True, "event": {}}
    assert state.steps["after"].output == {"value": True}
    assert await stage.engine.publish(contract("late", who="nobody"), OPERATOR)
    assert await stage.until(key, is_over) == state


async def test_several_waits_and_timers_in_one_run(stage: Stage) -> None:
    key = await stage.start("waits_for_many")
    await stage.until(key, holds_at("0/0/0[2]"))
    await stage.engine.publish(contract("two", page=2), OPERATOR)
    met = {"0/0/0[1]", "0/1", "0/2"}
    state = await stage.until(key, lambda state: met | {"0/0/1[1]"} <= set(state.order))
    assert {place for place in state.order if "/" in place} <= met | {"0/0[1]", "0/0/1[1]", "0/3"}
    for page in (1, 3):
        await stage.engine.publish(contract(f"page {page}", page=page), OPERATOR)
    state = await stage.until(key, is_over)
    assert state.status is RunStatus.DONE
    assert stage.script.places(key).count("0/0/1[1]") == 1


@pytest.mark.parametrize(("tenant", "domain"), [("nobody", "things"), ("acme", "nothing")])
async def test_an_event_for_nobody_is_refused(stage: Stage, tenant: str, domain: str) -> None:
    event = OutsideEvent(tenant=tenant, domain=domain, id="one", name="contract.sign")
    with pytest.raises(InvalidInput):
        await stage.engine.publish(event, OPERATOR)


# --- crashes ----------------------------------------------------------------------------------------------------------


class Crash(BaseException):
    """What ends a worker in these tests; nothing in the engine catches it."""


async def lives_until_it_crashes(stage: PostgresStage, point: CrashPoint, passes: int) -> bool:
    """One worker's life: it takes what is ready, moves it, and dies at a point. Whether there was anything to do."""

    def end() -> None:
        raise Crash

    async with workers.registered(stage.database, name="doomed", domains=["things"]) as worker:
        async with stage.database.transaction() as tx:
            await workers.rescue(tx)
            await timers.fire_due(tx, ["things"])
            claimed = (await claims.take(tx, worker.id, ["things"], 3)).runs
        actor = Actor(type="worker", id=worker.id)
        arm(f"{point}:{passes}", end=end)
        try:
            for each in claimed:
                await LiveRun(GroupCommit(stage.database), each, RELEASE, CATALOGUE, stage.script, actor).live()
        except Crash:
            pass
        finally:
            arm("")
    return bool(claimed)


async def leaves_of(stage: PostgresStage, key: RunKey) -> list[audit.Leaf]:
    async with stage.database.reading() as tx:
        assert await audit.verify(tx, key) == []
        return await audit.read(tx, key)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(6))
async def test_wherever_workers_die_each_child_is_started_once_and_its_end_is_told_once(
    postgres: PostgresStage, seed: int
) -> None:
    chance = random.Random(seed)  # noqa: S311  chooses where workers die
    key, failing = await postgres.start("family"), await postgres.start("parent_of_failing")
    lives = 0
    while not (is_over(await postgres.engine.state(key)) and is_over(await postgres.engine.state(failing))):
        point = chance.choice([CrashPoint.BEFORE_COMMIT, CrashPoint.AFTER_COMMIT])
        await lives_until_it_crashes(postgres, point, chance.randint(1, 4))
        lives += 1
        assert lives < 500
    while await lives_until_it_crashes(postgres, CrashPoint.IN_TIMER, 99):
        pass
    assert (await postgres.engine.state(key)).status is RunStatus.DONE
    family = await postgres.children(key)
    assert len(family) == 6
    grandchildren = [each for child in family for each in await postgres.children(child)]
    assert len(grandchildren) == 5
    assert len(await postgres.children(failing)) == 2
    async with postgres.database.reading() as tx:
        assert sum((await run_lists.count_by_status(tx)).values()) == 2 + 6 + 5 + 2
    for run in (key, failing, *family, *grandchildren):
        leaves = await leaves_of(postgres, run)
        started = [leaf for leaf in leaves if leaf.event is Event.RUN_STARTED]
        ended = [str(leaf.fields["step"]) for leaf in leaves if leaf.event.noun == "step"]
        assert len(started) == 1
        assert len(set(ended)) == len(ended), "no step ends twice"
    [start] = [leaf for leaf in await leaves_of(postgres, family[0]) if leaf.event is Event.RUN_STARTED]
    assert start.fields["parent"] == {"run": key.run, "place": (await row_of(postgres, family[0])).parent_place}


async def row_of(stage: PostgresStage, key: RunKey) -> runs.RunRow:
    async with stage.database.reading() as tx:
        row = await runs.get(tx, key)
    assert row is not None
    return row


@pytest.mark.slow
async def test_a_parent_that_waits_is_held_by_nobody_and_shares_what_its_child_has(postgres: PostgresStage) -> None:
    async with at_work(postgres.worker(slots=1)):
        key = await postgres.start("parent_of_waiting")
        await postgres.until(key, holds_at("child"))
        [child] = await postgres.children(key)
        await postgres.until(child, holds_at("signed"))
        await postgres.until(await postgres.start("five"), is_over)
        theirs, ours = await row_of(postgres, child), await row_of(postgres, key)
        assert ours.owner is None
        async with postgres.database.reading() as tx:
            assert await liveness.asleep(tx) == []
        assert (theirs.release, theirs.corr, theirs.started_by, theirs.parent) == (
            ours.release,
            ours.corr,
            ours.started_by,
            key.run,
        )
        await postgres.cancel(key)
        await postgres.until(key, is_over)
    cancelled = [leaf for leaf in await leaves_of(postgres, child) if leaf.event is Event.RUN_CANCELLED]
    assert [leaf.fields["parent"] for leaf in cancelled] == [{"run": key.run}]


@pytest.mark.slow
async def test_who_is_cancelled_while_a_child_ends_hears_of_both(postgres: PostgresStage) -> None:
    """Parents are locked before children, whoever writes: no pair of them waits for each other."""
    async with at_work(postgres.worker(), postgres.worker()):
        keys = [await postgres.start("family") for _ in range(12)]
        for number, key in enumerate(keys):
            await asyncio.sleep(0.01 * (number % 3))
            with contextlib.suppress(RegieError):
                await postgres.cancel(key)
        for key in keys:
            state = await postgres.until(key, is_over)
            assert state.status in (RunStatus.CANCELLED, RunStatus.DONE)
            for child in await postgres.children(key):
                assert (await postgres.until(child, is_over)).status in (RunStatus.CANCELLED, RunStatus.DONE)
                await leaves_of(postgres, child)
            await leaves_of(postgres, key)
