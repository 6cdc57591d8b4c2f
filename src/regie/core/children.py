"""Runs that are steps of other runs: how a child begins, how its end reaches its parent, how both are cancelled.

Called by the interpreter with its working copy of the run; as pure as the rest. A child's id is made of its parent and
its place, so whoever starts it again after a crash starts the same one.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterable
from typing import Protocol

from regie.core.definition import Step
from regie.core.errors import ChildFailed, Denied, EvaluationError, Failure
from regie.core.expression import render
from regie.core.ladder import Life
from regie.core.places import undone_place
from regie.core.report import decisions, report
from regie.core.run import ChildState, Parent, RunFacts, RunState, StepState
from regie.core.run_commands import CancelChild, StartChild, TellParent
from regie.core.run_events import ChildEnded
from regie.core.scope import Surroundings
from regie.core.status import RunStatus, StepStatus

DEEPEST = 8
"""How many runs may stand in a row, each the child of the one before."""
_NAMES = uuid.UUID("6f0c2b52-6d0f-5c0f-9d2e-3a1d3a9a7b11")
"""What the ids of children are made in (RFC 9562, 5.5), so that they meet no others."""


class Parental(Life, Protocol):
    """What a step that runs a workflow needs of the interpreter's working copy of a run."""

    def fail(self, place: str, failure: Failure) -> None:
        """A step failed for good."""
        ...


def child_id(run: str, place: str) -> str:
    """The id of the child that a step of a run starts."""
    return str(uuid.uuid5(_NAMES, f"{run}/{place}"))


def lineage_of(facts: RunFacts, place: str) -> tuple[str, ...]:
    """The steps that lead to the child of a step, from the outermost run."""
    before = facts.parent.lineage if facts.parent else ()
    return (*before, f"{facts.workflow}:{place}")


def parent_of(facts: RunFacts, command: StartChild) -> Parent:
    """What a new child knows of its parent."""
    return Parent(
        run=facts.id,
        place=command.place,
        lineage=lineage_of(facts, command.place),
        requester=command.requester,
        detached=command.detached,
    )


def begin(life: Parental, step: Step, place: str, around: Surroundings) -> None:
    """Start the child of a step; the step waits for its end, or is done at once if it is detached.

    Raises:
        EvaluationError: What the child would be given does not work out, or there are too many runs in a row.
    """
    if step.run is None:
        raise EvaluationError(f"The step {step.id or step.place} names no workflow.")
    if step.run.workflow.partition(".")[0] != life.facts.domain:
        message = f"A run of the domain {life.facts.domain} cannot start one of {step.run.workflow}."
        life.fail(place, Failure.of(Denied(message)))
        return
    if len(lineage_of(life.facts, place)) >= DEEPEST:
        raise EvaluationError(f"No more than {DEEPEST} runs can stand in a row, each started by the one before.")
    given = render(step.arguments, life.scope(step, around))
    child = ChildState(run=child_id(life.facts.id, place), workflow=step.run.workflow)
    life.commands.append(
        StartChild(
            place=place,
            run=child.run,
            workflow=child.workflow,
            given=given if isinstance(given, dict) else {},
            detached=step.run.detach,
            requester=life.requester,
        )
    )
    life.steps[place] = StepState(status=StepStatus.WAITING, child=child)
    if step.run.detach:
        life.finish(place, StepStatus.DONE, output={"run": child.run})


def take_end(life: Parental, event: ChildEnded) -> None:
    """The child is over: done and refused are results, anything else fails the step."""
    step = life.steps.get(event.place)
    if step is None or step.child is None or step.child.run != event.run or step.status is not StepStatus.WAITING:
        return
    told = {"decisions": event.decisions, "taken_back": event.taken_back, "in_doubt": event.in_doubt}
    step = step.model_copy(
        update={
            "effects": event.effects,
            "output": {"run": event.run, "outcome": event.status.value, "report": event.report},
            "child": step.child.model_copy(update=told),
        }
    )
    life.steps[event.place] = step
    if event.status in (RunStatus.DONE, RunStatus.REFUSED):
        life.finish(event.place, StepStatus.DONE)
    elif event.status is RunStatus.CANCELLED and life.is_cut:
        life.finish(event.place, StepStatus.CANCELLED)
    else:
        life.fail(event.place, _failure(step.child.workflow if step.child else "", event))


def _failure(workflow: str, event: ChildEnded) -> Failure:
    why = f": {event.failure.message}" if event.failure else "."
    verb = "was cancelled" if event.status is RunStatus.CANCELLED else "failed"
    return Failure.of(ChildFailed(f"The run {event.run} of {workflow} {verb}{why}"))


def cancel(life: Life, place: str, child: ChildState) -> None:
    """Cancel a child with its parent, which was cancelled or stopped and awaits the child's end."""
    if life.cancelled is not None:
        by, reason = life.cancelled.by, life.cancelled.reason
    else:
        by, reason = f"the run {life.facts.id}", life.stopped.message if life.stopped else ""
    life.commands.append(CancelChild(place=place, run=child.run, by=by, reason=reason))


def was_refused(steps: Iterable[StepState]) -> bool:
    """Whether a child that is over ended without the yes that it had asked for."""
    return any(
        step.child is not None and isinstance(step.output, dict) and step.output.get("outcome") == RunStatus.REFUSED
        for step in steps
    )


def farewell(state: RunState, *, in_doubt: bool) -> TellParent | None:
    """What a run that is over tells its parent; nothing where nobody waits for it."""
    parent = state.facts.parent
    if parent is None or parent.detached:
        return None
    ended = ChildEnded(
        place=parent.place,
        run=state.facts.id,
        status=state.status,
        failure=state.failure,
        effects=tuple(
            note for place in state.order if undone_place(place) is None for note in state.steps[place].effects
        ),
        taken_back=(
            *(note for place in state.order if undone_place(place) for note in state.steps[place].effects),
            *(note for step in state.steps.values() if step.child for note in step.child.taken_back),
        ),
        decisions=tuple(decisions(state)),
        in_doubt=in_doubt,
        report=report(state),
    )
    return TellParent(run=parent.run, ended=ended)
