"""Two sides may hold a run up, itself and its parent: which of them counts, and what the children hear."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from regie.core.run import ChildState, StepState
from regie.core.run_commands import PauseChild, ResumeChild
from regie.core.run_events import Paused, Resumed
from regie.core.status import StepStatus

from .trial import Trial


def trial_with_child() -> Trial:
    trial = Trial("- wait: 3d")
    waits = StepState(status=StepStatus.WAITING, child=ChildState(run="theirs", workflow="identity.other"))
    over = StepState(status=StepStatus.DONE, child=ChildState(run="free", workflow="identity.other"))
    trial.state = trial.state.model_copy(update={"steps": {**trial.state.steps, "c": waits, "d": over}})
    return trial


@given(st.lists(st.tuples(st.booleans(), st.sampled_from(["", "above"]))))
def test_a_run_is_held_up_as_long_as_one_side_holds_it_and_its_children_hear_of_each_change(
    steering: list[tuple[bool, str]],
) -> None:
    trial = trial_with_child()
    holding: set[str] = set()
    heard = 0
    for is_pause, parent in steering:
        was = bool(holding)
        trial.take((Paused if is_pause else Resumed)(by="ole", parent=parent))
        holding = holding | {parent} if is_pause else holding - {parent}
        heard += was != bool(holding)
        assert (trial.status == "paused") == bool(holding)
        told = [*trial.said(PauseChild), *trial.said(ResumeChild)]
        assert len(told) == heard
        assert {command.run for command in told if isinstance(command, PauseChild | ResumeChild)} <= {"theirs"}
    assert {hold.parent for hold in (trial.state.paused, trial.state.paused_too) if hold} == holding
