"""A run that has made as many changes as it may asks people for more, the same with every engine."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from regie.core.limit import asking_place
from regie.core.run import ApprovalPhase, RunState
from regie.core.status import RunStatus, StepStatus
from regie.store import audit, liveness

from .stage import EVA, OLE, PostgresStage, Stage, at_work

FIRST, SECOND = asking_place(1), asking_place(2)


def is_over(state: RunState) -> bool:
    return state.status.is_final


def asks_at(place: str) -> Callable[[RunState], bool]:
    """Whether the run waits for people at a place, and nothing else is to be done."""

    def holds(state: RunState) -> bool:
        step = state.steps.get(place)
        is_asking = step is not None and step.approval is not None and step.approval.phase is ApprovalPhase.ASKING
        return is_asking and state.status is RunStatus.WAITING and state.steps["beside"].status is StepStatus.DONE

    return holds


async def test_a_yes_lets_the_run_make_as_many_changes_again(stage: Stage) -> None:
    key = await stage.start("limited")
    state = await stage.until(key, asks_at(FIRST))
    approval = state.steps[FIRST].approval
    assert approval is not None
    assert "has made all 2 changes that it may make. So far 2 more steps are known" in approval.given.question
    # The fourth was out when it began to ask, so nobody knew that it would wait as well.
    assert {step.place for step in approval.plan} == {"all[2]", "all[4]"}
    assert [state.steps[f"all[{number}]"].status for number in range(4)] == [
        *[StepStatus.DONE] * 2,
        *[StepStatus.WAITING] * 2,
    ]
    stage.script.allowance[key.run] = 4
    await stage.decide(key, EVA, "approved", FIRST)
    state = await stage.until(key, asks_at(SECOND))
    stage.script.allowance[key.run] = 6
    await stage.decide(key, EVA, "approved", SECOND)
    state = await stage.until(key, is_over)
    assert state.status is RunStatus.DONE
    assert sorted(stage.script.spent[key.run]) == [f"all[{number}]" for number in range(5)]
    assert state.steps["after"].status is StepStatus.DONE


async def test_a_no_ends_the_run_with_the_answer_and_takes_back_what_it_did(stage: Stage) -> None:
    key = await stage.start("limited")
    await stage.until(key, asks_at(FIRST))
    await stage.decide(key, EVA, "refused", FIRST)
    state = await stage.until(key, is_over)
    assert state.status is RunStatus.FAILED
    assert state.failure is not None
    assert state.failure.kind == "LimitReached"
    assert state.failure.message == f"This run may make no more changes. {EVA} was asked for more and refused."
    assert {place for place in state.steps if "undo" in place} == {"all/undo[0]", "all/undo[1]"}
    assert "after" not in state.steps
    assert "all/on-error/0" not in state.steps


async def test_silence_on_every_rung_is_a_no(stage: Stage) -> None:
    key = await stage.start("limited")
    await stage.until(key, asks_at(FIRST))
    state = await stage.until(key, is_over)
    assert state.status is RunStatus.FAILED
    assert state.failure is not None
    assert state.failure.message.endswith("Nobody who was asked for more has answered in time.")
    approval = state.steps[FIRST].approval
    assert approval is not None
    assert approval.asked == (EVA, OLE)
    asked = await stage.asked(key)
    assert asked is not None
    assert asked.status == "timeout"


async def test_a_run_that_asks_can_be_paused_and_cancelled(stage: Stage) -> None:
    key = await stage.start("limited")
    await stage.until(key, asks_at(FIRST))
    await stage.pause(key)
    await stage.until(key, lambda state: state.status is RunStatus.PAUSED)
    stage.script.allowance[key.run] = 4
    await stage.decide(key, EVA, "approved", FIRST)
    await stage.a_moment()
    assert len(stage.script.spent[key.run]) == 2
    await stage.resume(key)
    await stage.until(key, asks_at(SECOND))
    await stage.cancel(key)
    state = await stage.until(key, is_over)
    assert (state.status, len(stage.script.spent[key.run])) == (RunStatus.CANCELLED, 4)


@pytest.mark.slow
async def test_another_worker_goes_on_with_a_run_that_asks_and_nothing_holds_it_meanwhile(
    postgres: PostgresStage,
) -> None:
    async with at_work(postgres.worker()):
        key = await postgres.start("limited")
        await postgres.until(key, asks_at(FIRST))
    async with postgres.database.transaction() as tx:
        assert await liveness.asleep(tx) == []
    postgres.script.allowance[key.run] = 10
    await postgres.decide(key, EVA, "approved", FIRST)
    async with at_work(postgres.worker(name="other")):
        assert (await postgres.until(key, is_over)).status is RunStatus.DONE
    async with postgres.database.reading() as tx:
        assert await audit.verify(tx, key) == []
        told = [leaf.event for leaf in await audit.read(tx, key)]
    assert [event for event in told if event.startswith("approval")] == ["approval:requested", "approval:granted"]
