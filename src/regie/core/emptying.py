"""What is left of a run's state once its values are no longer kept: where each step stood, and not what it held."""

from __future__ import annotations

from regie.core.run import RunState, StepState


def emptied(state: RunState) -> RunState:
    """The state of a run that is over without its inputs, outputs, arguments and what approvals asked.

    Outcomes, failures and the ids of what was changed stay: they tell what the run did, and the audit log has digests
    of what is gone.
    """
    facts = state.facts.model_copy(update={"given": {}})
    steps = {place: _emptied_step(step) for place, step in state.steps.items()}
    return state.model_copy(update={"facts": facts, "input": {}, "steps": steps, "held": ()})


def _emptied_step(step: StepState) -> StepState:
    gone = {"arguments": None, "output": None, "items": None, "handle": None, "approval": None, "undo": None}
    return step.model_copy(update=gone)
