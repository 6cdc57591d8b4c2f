"""What every engine does the same: in memory for tests and simulation, over PostgreSQL for real."""

from __future__ import annotations

import asyncio
import contextlib
import uuid
from collections.abc import Callable

import pytest

from regie.core.errors import Denied, InvalidInput
from regie.core.run import RunState
from regie.core.run_events import Begun, Decided, TimerFired
from regie.core.status import RunStatus, StepStatus
from regie.engine.port import RerunRequest, StartRequest
from regie.store.keys import RunKey

from .stage import EVA, OLE, OPERATOR, Asked, Stage, wants


def is_over(state: RunState) -> bool:
    return state.status.is_final


def is_asking(state: RunState) -> bool:
    approval = state.steps.get("approval")
    return approval is not None and approval.status.value == "waiting"


def is_asking_on_the_last_rung(state: RunState) -> bool:
    approval = state.steps["approval"].approval if is_asking(state) else None
    return approval is not None and approval.rung == 1


async def test_a_trigger_starts_one_run_however_often_it_comes(stage: Stage) -> None:
    first = await stage.engine.start(wants("five", "same"))
    second = await stage.engine.start(wants("five", "same"))
    other = await stage.engine.start(wants("five", "other"))
    assert first.is_new
    assert (second.key, second.is_new) == (first.key, False)
    assert other.key != first.key
    await stage.until(first.key, is_over)
    assert len(stage.script.places(first.key)) == 5


async def test_a_run_goes_through_its_steps_to_the_end(stage: Stage) -> None:
    key = await stage.start("five", word="Hello")
    state = await stage.until(key, is_over)
    assert state.status is RunStatus.DONE
    assert stage.script.places(key) == ["first", "1", "2/0", "2/1", "last"]
    assert state.steps["last"].output == {"value": "Hello again"}
    assert state.facts.id == key.run
    assert state.facts.settings["first_within"] == "8h"


async def test_steps_that_reach_nothing_outside_come_to_the_same_as_others(stage: Stage) -> None:
    key = await stage.start("thoughts")
    state = await stage.until(key, is_over)
    assert state.status is RunStatus.DONE
    assert state.steps["sum"].output == {"value": 4}
    assert (state.steps["1"].attempt, state.steps["1"].tries) == (3, 2)


async def test_a_failure_that_passes_is_tried_again_after_a_while(stage: Stage) -> None:
    key = await stage.start("flaky")
    state = await stage.until(key, is_over)
    assert state.status is RunStatus.DONE
    assert (state.steps["it"].attempt, state.steps["it"].tries) == (3, 2)


async def test_a_failure_that_does_not_pass_ends_the_run(stage: Stage) -> None:
    key = await stage.start("never")
    state = await stage.until(key, is_over)
    assert state.status is RunStatus.FAILED
    assert state.failure is not None
    assert state.failure.kind == "Unavailable"
    assert state.steps["it"].tries == 3


async def test_a_refusal_ends_the_run_at_once(stage: Stage) -> None:
    key = await stage.start("refused")
    state = await stage.until(key, is_over)
    assert state.status is RunStatus.FAILED
    assert stage.script.places(key) == ["it"]


async def test_a_run_that_fails_takes_back_what_it_changed(stage: Stage) -> None:
    key = await stage.start("undone")
    state = await stage.until(key, is_over)
    assert state.status is RunStatus.FAILED
    undone = [place for place in state.order if "/undo" in place]
    done = [place for place in state.order if place in {"all[0]", "all[1]"}]
    assert undone == [*(place.replace("all", "all/undo") for place in reversed(done)), "one/undo"]
    assert [state.steps[place].status.value for place in undone] == ["failed", "failed", "done"]
    assert state.steps["one/undo"].attempt == 3


async def test_a_handled_failure_lets_the_run_go_on(stage: Stage) -> None:
    key = await stage.start("rescued")
    state = await stage.until(key, is_over)
    assert state.status is RunStatus.DONE
    assert state.steps["comfort"].output == {"value": "Refused"}
    assert stage.script.places(key) == ["it", "comfort", "1"]


async def test_what_takes_effect_later_is_asked_about_later(stage: Stage) -> None:
    key = await stage.start("later")
    state = await stage.until(key, is_over)
    assert state.steps["it"].output == {"value": {"job": 7}}
    assert state.steps["it"].attempt == 2


async def test_two_hundred_items_and_a_branch_beside_them(stage: Stage) -> None:
    key = await stage.start("many")
    state = await stage.until(key, is_over)
    assert state.status is RunStatus.DONE
    assert state.steps["count"].output == {"value": 200}
    assert [state.steps[f"all[{number}]"].output for number in (0, 199)] == [{"value": 0}, {"value": 199}]
    assert set(stage.script.calls.values()) == {1}
    assert len(stage.script.calls) == 202


async def test_a_run_waits_for_a_while_and_until_a_moment(stage: Stage) -> None:
    key = await stage.start("waits")
    state = await stage.until(key, lambda state: "pause" in state.steps)
    assert (state.status, state.steps["pause"].status) == (RunStatus.WAITING, StepStatus.WAITING)
    state = await stage.until(key, is_over)
    assert state.status is RunStatus.DONE
    assert stage.script.places(key) == ["1/3", "2"]


async def test_a_yes_lets_the_run_go_on(stage: Stage) -> None:
    key = await stage.start("approve")
    await stage.until(key, is_asking)
    assert await stage.asked(key) == Asked("open", 1, (EVA,))
    await stage.decide(key, EVA, "approved")
    state = await stage.until(key, is_over)
    assert state.status is RunStatus.DONE
    assert state.steps["approval"].output == {"decision": "approved", "by": EVA, "comment": "", "rung": 1}
    assert await stage.asked(key) == Asked("approved", 1, (EVA,))
    assert stage.script.places(key) == ["approval", "approval", "done"]


async def test_a_no_is_an_orderly_end(stage: Stage) -> None:
    key = await stage.start("approve")
    await stage.until(key, is_asking)
    await stage.decide(key, EVA, "refused")
    state = await stage.until(key, is_over)
    assert state.status is RunStatus.REFUSED
    assert state.steps["said_no"].output == {"value": "refused"}


async def test_on_silence_the_next_rung_is_asked_and_then_silence_is_a_no(stage: Stage) -> None:
    key = await stage.start("silent_in_the_end")
    await stage.until(key, is_asking_on_the_last_rung)
    assert await stage.asked(key) == Asked("open", 2, (EVA, OLE))
    state = await stage.until(key, is_over)
    assert state.status is RunStatus.REFUSED
    assert state.steps["said_no"].output == {"value": "timeout"}
    assert await stage.asked(key) == Asked("timeout", 2, (EVA, OLE))


async def test_an_event_counts_once_and_what_does_not_belong_changes_nothing(stage: Stage) -> None:
    key = await stage.start("approve")
    await stage.until(key, is_asking)
    before = await stage.engine.state(key)
    nobody = Decided(place="approval", decision="approved", by="stranger@example.com")
    assert await stage.engine.deliver(key, "one", nobody)
    assert not await stage.engine.deliver(key, "one", nobody)
    assert await stage.engine.deliver(key, "two", Begun())
    assert await stage.engine.deliver(key, "three", TimerFired(timer="rung:approval:7"))
    assert await stage.engine.deliver(key, "four", TimerFired(timer="nonsense"))
    await stage.until(key, is_asking)
    assert await stage.engine.state(key) == before
    await stage.decide(key, EVA, "approved")
    assert (await stage.until(key, is_over)).status is RunStatus.DONE
    over = await stage.engine.state(key)
    await stage.engine.deliver(key, "late", Decided(place="approval", decision="refused", by=EVA))
    assert await stage.until(key, is_over) == over


@pytest.mark.parametrize(
    ("workflow", "holds"), [("approve", is_asking), ("waits", lambda state: "pause" in state.steps)]
)
async def test_a_run_that_waits_is_cancelled_at_once(
    stage: Stage, workflow: str, holds: Callable[[RunState], bool]
) -> None:
    key = await stage.start(workflow)
    await stage.until(key, holds)
    begun = stage.script.places(key)
    await stage.cancel(key)
    state = await stage.until(key, is_over)
    assert state.status is RunStatus.CANCELLED
    assert stage.script.places(key) == begun
    if (asked := await stage.asked(key)) is not None:
        assert asked.status == "cancelled"


async def test_a_run_is_cancelled_before_it_begins(stage: Stage) -> None:
    for key in [await stage.start_cancelled("five") for _ in range(5)]:
        assert (await stage.until(key, is_over)).status is RunStatus.CANCELLED


async def test_a_paused_run_begins_nothing_until_it_is_resumed(stage: Stage) -> None:
    key = await stage.start_paused("five")
    await stage.until(key, lambda state: state.status is RunStatus.PAUSED)
    await stage.a_moment()
    assert stage.script.places(key) == []
    await stage.resume(key)
    state = await stage.until(key, is_over)
    assert (state.status, len(stage.script.places(key))) == (RunStatus.DONE, 5)


async def test_what_people_answer_while_a_run_is_paused_counts_when_it_is_resumed(stage: Stage) -> None:
    key = await stage.start("silent")
    await stage.until(key, is_asking)
    await stage.pause(key)
    await stage.until(key, lambda state: state.status is RunStatus.PAUSED)
    await stage.decide(key, EVA, "approved")
    await stage.a_moment()
    assert (await stage.engine.state(key)).status is RunStatus.PAUSED
    await stage.resume(key)
    state = await stage.until(key, is_over)
    assert state.status is RunStatus.DONE
    output = state.steps["approval"].output
    assert isinstance(output, dict)
    assert (output["decision"], output["by"]) == ("approved", EVA)


async def test_a_run_can_be_paused_again_and_be_cancelled_while_it_is(stage: Stage) -> None:
    key = await stage.start("approve")
    await stage.until(key, is_asking)
    for _ in range(2):
        await stage.pause(key)
        await stage.until(key, lambda state: state.status is RunStatus.PAUSED)
        await stage.resume(key)
        await stage.until(key, lambda state: state.status is RunStatus.WAITING)
    await stage.pause(key)
    await stage.cancel(key)
    state = await stage.until(key, is_over)
    assert state.status is RunStatus.CANCELLED
    assert (asked := await stage.asked(key)) is not None
    assert asked.status == "cancelled"


async def test_a_run_that_takes_too_long_as_a_whole_fails_and_takes_back_what_it_did(stage: Stage) -> None:
    key = await stage.start("short")
    state = await stage.until(key, is_over)
    assert state.status is RunStatus.FAILED
    assert state.failure is not None
    assert state.failure.kind == "TimedOut"
    assert (state.steps["too_long"].status, state.steps["it/undo"].status) == (StepStatus.CANCELLED, StepStatus.DONE)


async def test_a_run_is_repeated_from_a_step_on_once_for_each_request(stage: Stage) -> None:
    first = await stage.start("halfway", word="Hello")
    await stage.until(first, is_over)
    wanted = RerunRequest(key=first, from_step="two", trigger_key="again", started_by=OPERATOR)
    started = await stage.engine.rerun(wanted)
    assert (await stage.engine.rerun(wanted)) == (started.key, False)
    state = await stage.until(started.key, is_over)
    assert (state.facts.rerun_of, state.facts.rerun_from) == (first.run, "two")
    assert stage.script.places(started.key) == ["two"]
    assert (state.steps["one"].kept, state.steps["one"].output) == (True, {"value": "Hello"})
    assert state.status is RunStatus.FAILED


async def test_a_run_that_is_not_over_is_not_repeated(stage: Stage) -> None:
    key = await stage.start("approve")
    with pytest.raises(InvalidInput, match="is not over"):
        await stage.engine.rerun(RerunRequest(key=key, from_step="approval", trigger_key="again", started_by=OPERATOR))
    nowhere = RunKey(key.tenant, key.domain, str(uuid.uuid4()))
    with pytest.raises(InvalidInput, match="no run"):
        await stage.engine.rerun(
            RerunRequest(key=nowhere, from_step="approval", trigger_key="again", started_by=OPERATOR)
        )


async def test_a_dry_run_asks_nobody(stage: Stage) -> None:
    key = await stage.start("approve", dry=True)
    state = await stage.until(key, is_over)
    assert state.status is RunStatus.DONE
    assert await stage.asked(key) is None
    assert stage.script.places(key) == ["approval", "done"]


async def test_work_that_breaks_fails_its_step_and_no_other_run(stage: Stage) -> None:
    broken, fine = await stage.start("broken"), await stage.start("five")
    state = await stage.until(broken, is_over)
    assert state.failure is not None
    assert state.failure.kind == "Terminal"
    assert "ZeroDivisionError" in state.failure.message
    assert (await stage.until(fine, is_over)).status is RunStatus.DONE


async def test_runs_do_not_wait_for_one_another(stage: Stage) -> None:
    waiting = await stage.start("approve")
    await stage.until(waiting, is_asking)
    others = [await stage.start("five") for _ in range(10)]
    states = await asyncio.gather(*(stage.until(other, is_over) for other in others))
    assert {state.status for state in states} == {RunStatus.DONE}
    assert not is_over(await stage.engine.state(waiting))


@pytest.mark.parametrize(
    "request_",
    [
        StartRequest(tenant="acme", workflow="things.none", trigger_key="t", started_by=OPERATOR),
        StartRequest(tenant="nobody", workflow="things.five", trigger_key="t", started_by=OPERATOR),
    ],
)
async def test_what_does_not_exist_cannot_be_started(stage: Stage, request_: StartRequest) -> None:
    with pytest.raises(InvalidInput):
        await stage.engine.start(request_)


async def test_wrong_input_ends_the_run_and_says_why(stage: Stage) -> None:
    key = await stage.start("five", wrod="Hello")
    state = await stage.until(key, is_over)
    assert state.failure is not None
    assert state.failure.kind == "InvalidInput"
    assert "did you mean word?" in state.failure.message


async def test_a_run_that_does_not_exist_can_neither_be_seen_nor_told_anything(stage: Stage) -> None:
    nowhere = RunKey("acme", "things", str(uuid.uuid4()))
    with pytest.raises(InvalidInput):
        await stage.engine.state(nowhere)
    with pytest.raises(InvalidInput):
        await stage.engine.deliver(nowhere, "one", Begun())


async def test_nobody_else_can_decide(stage: Stage) -> None:
    key = await stage.start("approve")
    await stage.until(key, is_asking)
    with contextlib.suppress(Denied):  # an engine with a door says so at the door
        await stage.decide(key, OLE, "approved")
    asked = await stage.asked(key)
    assert asked is not None
    assert asked.status == "open"
    assert is_asking(await stage.until(key, is_asking))
