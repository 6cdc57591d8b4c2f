"""Children are paused and resumed with the parent that waits for them, the same with every engine."""

from __future__ import annotations

import asyncio
import random
from collections import Counter

import pytest

from regie.core.audit import Event
from regie.core.run import RunState
from regie.core.run_events import Paused, Resumed
from regie.core.status import RunStatus, StepStatus
from regie.store import audit, run_lists, runs
from regie.store.keys import RunKey

from .stage import EVA, OLE, OPERATOR, PostgresStage, Stage, at_work


def is_over(state: RunState) -> bool:
    return state.status.is_final


def is_paused(state: RunState) -> bool:
    return state.status is RunStatus.PAUSED


def is_asking(state: RunState) -> bool:
    return state.status is RunStatus.WAITING


async def family(stage: Stage) -> tuple[RunKey, RunKey]:
    """A parent that waits for a child that waits for a yes."""
    key = await stage.start("parent_of_asking")
    await stage.until(key, lambda state: "child" in state.steps)
    [child] = await stage.children(key)
    await stage.until(child, is_asking)
    return key, child


async def test_a_child_is_paused_and_resumed_with_its_parent(stage: Stage) -> None:
    key, child = await family(stage)
    await stage.pause(key)
    theirs = await stage.until(child, is_paused)
    assert theirs.paused is not None
    assert theirs.paused.parent == key.run
    await stage.decide(child, EVA, "approved")
    await stage.a_moment()
    assert is_paused(await stage.engine.state(child))
    await stage.resume(key)
    assert (await stage.until(child, is_over)).status is RunStatus.DONE
    assert (await stage.until(key, is_over)).status is RunStatus.DONE


@pytest.mark.parametrize("is_first", [True, False], ids=["before its parent", "after its parent"])
async def test_a_child_that_was_paused_by_itself_stays_so_when_its_parent_goes_on(
    stage: Stage, *, is_first: bool
) -> None:
    key, child = await family(stage)
    for each in (child, key) if is_first else (key, child):
        await stage.pause(each)
        await stage.until(child, is_paused)
    await stage.until(child, lambda state: state.paused_too is not None)
    await stage.resume(key)
    await stage.until(key, is_asking)
    theirs = await stage.until(child, lambda state: state.paused_too is None)
    assert is_paused(theirs)
    assert theirs.paused is not None
    assert theirs.paused.parent == ""
    await stage.decide(child, EVA, "approved")
    await stage.resume(child)
    assert (await stage.until(key, is_over)).status is RunStatus.DONE


async def test_a_child_that_is_resumed_by_itself_stays_paused_with_its_parent(stage: Stage) -> None:
    key, child = await family(stage)
    await stage.pause(child)
    await stage.pause(key)
    await stage.until(child, lambda state: state.paused_too is not None)
    await stage.resume(child)
    theirs = await stage.until(child, lambda state: state.paused_too is None)
    assert theirs.paused is not None
    assert theirs.paused.parent == key.run
    await stage.resume(key)
    await stage.until(child, is_asking)


async def test_a_paused_family_can_be_cancelled(stage: Stage) -> None:
    key, child = await family(stage)
    await stage.pause(key)
    await stage.until(child, is_paused)
    await stage.cancel(key)
    assert (await stage.until(child, is_over)).status is RunStatus.CANCELLED
    assert (await stage.until(key, is_over)).status is RunStatus.CANCELLED


@pytest.mark.slow
async def test_grandchildren_are_paused_and_detached_ones_are_not(postgres: PostgresStage) -> None:
    async with at_work(postgres.worker()):
        key = await postgres.start("parent_of_holding")
        await postgres.until(key, lambda state: len(state.steps) >= 4)
        by_place = {each.parent_place: each.key for each in await rows_of(postgres, key)}
        for place in ("child", "free"):
            await postgres.until(by_place[place], lambda state: "it" in state.steps)
        await postgres.until(by_place["waiting"], is_asking)
        [grandchild] = await postgres.children(by_place["waiting"])
        await postgres.until(grandchild, is_asking)
        await postgres.pause(key)
        for each in (by_place["waiting"], grandchild):
            await postgres.until(each, is_paused)
        # Work of the child is out: it has heard of the pause, and takes it in when that is back.
        async with postgres.database.reading() as tx:
            assert await runs.pause_of(tx, by_place["child"]) == Paused(by=OLE, parent=key.run)
            assert await runs.pause_of(tx, by_place["free"]) is None
        assert await said(postgres, grandchild) == {Event.RUN_PAUSED: 1}
        postgres.script.let_go(by_place["free"].run)
        postgres.script.let_go(by_place["child"].run)
        assert (await postgres.until(by_place["free"], is_over)).status is RunStatus.DONE
        held = await postgres.until(by_place["child"], lambda state: state.steps["it"].status is StepStatus.DONE)
        assert (held.status, "after" in held.steps) == (RunStatus.PAUSED, False)
        await postgres.resume(key)
        assert (await postgres.until(by_place["child"], is_over)).status is RunStatus.DONE
        await postgres.until(grandchild, is_asking)
        assert await said(postgres, grandchild) == {Event.RUN_PAUSED: 1, Event.RUN_RESUMED: 1}
        await postgres.cancel(key)
        await postgres.until(key, is_over)


@pytest.mark.slow
async def test_families_that_are_paused_at_any_moment_do_everything_once_and_begin_nothing_meanwhile(
    postgres: PostgresStage,
) -> None:
    chance = random.Random(7)  # noqa: S311  nothing is kept secret
    async with at_work(postgres.worker(slots=4), postgres.worker(slots=4, name="other")):
        keys = [await postgres.start("family") for _ in range(4)]
        for _ in range(6):
            await asyncio.sleep(chance.random() * 0.15)
            steered = [key for key in keys if await steer(postgres, key, is_pause=True)]
            for key in steered:
                await postgres.until(key, lambda state: state.status in (RunStatus.PAUSED, RunStatus.DONE))
                for child in await postgres.children(key):
                    if not (await awaited(postgres, key, child)):
                        continue
                    await postgres.until(child, lambda state: is_paused(state) or state.status is RunStatus.DONE)
            for key in steered:
                await steer(postgres, key, is_pause=False)
        for key in keys:
            assert (await postgres.until(key, is_over)).status is RunStatus.DONE
            for child in await postgres.children(key):
                assert (await postgres.until(child, is_over)).status is RunStatus.DONE
                async with postgres.database.reading() as tx:
                    assert await audit.verify(tx, child) == []
    assert set(postgres.script.calls.values()) == {1}


async def awaited(stage: PostgresStage, key: RunKey, child: RunKey) -> bool:
    """Whether the parent waits for the child, who is not detached."""
    steps = (await stage.engine.state(key)).steps.values()
    return any(
        step.child is not None and step.child.run == child.run and step.status is StepStatus.WAITING for step in steps
    )


async def steer(stage: PostgresStage, key: RunKey, *, is_pause: bool) -> bool:
    async with stage.database.transaction() as tx:
        state = RunState.model_validate_json(await runs.state_of(tx, key, lock=True))
        if state.status.is_final:
            return False
        if is_pause:
            return await runs.pause(tx, key, OPERATOR, Paused(by="cli"))
        return await runs.resume(tx, key, OPERATOR, Resumed(by="cli"))


async def rows_of(stage: PostgresStage, key: RunKey) -> list[runs.RunRow]:
    async with stage.database.reading() as tx:
        return await run_lists.children_of(tx, key)


async def said(stage: PostgresStage, key: RunKey) -> Counter[str]:
    """How often a run's log says that it was paused and resumed."""
    async with stage.database.reading() as tx:
        leaves = await audit.read(tx, key)
    return Counter(leaf.event for leaf in leaves if leaf.event in (Event.RUN_PAUSED, Event.RUN_RESUMED))
