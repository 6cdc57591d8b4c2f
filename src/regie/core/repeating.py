"""A run that repeats another from some step on: what it takes over, and what keeps it from taking anything over.

Called by the engines. The steps before that one keep their results and are not done again; a person's yes is never
taken over for a step that is done again.
"""

from __future__ import annotations

import itertools
from collections.abc import Collection, Iterator, Sequence

from pydantic import JsonValue

from regie.core import canonical
from regie.core.approval import APPROVE
from regie.core.definition import Definition, Kind, Step
from regie.core.errors import InvalidInput
from regie.core.nearest import did_you_mean
from regie.core.places import undone_place, written_place
from regie.core.run import RunFacts, RunState, StepState
from regie.core.status import StepStatus


def repeat(before: RunState, was: Definition, now: Definition, from_step: str, facts: RunFacts) -> RunState:
    """The state of a new run that goes on from a step of another, before its first event.

    Args:
        before: The run that is repeated, over.
        was: Its definition.
        now: The new run's definition.
        from_step: Id of a step of the top level, or its place when it has none.
        facts: Of the new run.

    Raises:
        InvalidInput: It cannot be repeated from there; the message says why, the hint from where it can.
    """
    if not before.status.is_final:
        raise InvalidInput(f"Run {before.facts.id} is not over.", hint="Cancel it first, or wait for its end.")
    if before.facts.dry:
        raise InvalidInput("A dry run has changed nothing that could be kept.", hint="Start another one.")
    if not before.ready:
        raise InvalidInput("This run never came to its first step.", hint="Start it again.")
    if before.facts.parent is not None:
        parent = before.facts.parent
        raise InvalidInput(
            f"This run is a child of run {parent.run}.", hint=f"Repeat that one, from step {parent.place}."
        )
    at = _position(now, from_step)
    _require_same_beginning(was, now, at)
    kept = now.steps[:at]
    for step in kept:
        _require_good_end(before, step)
    again = {below.place for step in now.steps[at:] for below in step.walk()}
    asked_again = {place for step in kept for place in _asked_again(now, step, again)}
    places = {below.place for step in kept for below in step.walk()} - asked_again - _stale(before, kept, asked_again)
    if not before.facts.ticket:
        _require_no_child_again(before, places)
    steps = {
        place: state.model_copy(update={"kept": True, "undo": None})
        for place, state in before.steps.items()
        if written_place(place) in places
    }
    return RunState(
        facts=facts,
        requester=before.requester,
        input=before.input,
        steps=steps,
        order=tuple(place for place in before.order if place in steps),
    )


def kept_digest(state: RunState) -> str:
    """Digest of the results that a run has taken over, by place."""
    kept: dict[str, JsonValue] = {place: step.output for place, step in state.steps.items() if step.kept}
    return canonical.digest(kept)


def _position(definition: Definition, from_step: str) -> int:
    """Where a step of the top level stands."""
    for at, step in enumerate(definition.steps):
        if step.place == from_step:
            return at
    for step in definition.steps:
        if any(below.place == from_step for below in step.walk()):
            raise InvalidInput(
                f"The step {from_step!r} stands within {step.place!r}.", hint=f"Repeat from {step.place}."
            )
    places = [step.place for step in definition.steps]
    hint = did_you_mean(from_step, places) or f"one of {', '.join(places)}"
    raise InvalidInput(f"{definition.workflow} has no step {from_step!r}.", hint=hint)


def _require_same_beginning(was: Definition, now: Definition, at: int) -> None:
    """What is taken over must mean the same in the definition that goes on with it."""
    if was.digest == now.digest:
        return
    if was.input != now.input:
        raise InvalidInput(f"The input of {now.workflow} has changed since.", hint="Repeat it with the same release.")
    for place, (old, new) in enumerate(zip(was.steps[:at], now.steps[:at], strict=False)):
        if _essence(old) != _essence(new):
            raise InvalidInput(
                f"The step {new.place!r} of {now.workflow} has changed since.",
                hint=f"Repeat from {now.steps[place].place}, or with the same release.",
            )
    if len(was.steps) < at:
        raise InvalidInput(
            f"{now.workflow} has got steps before it since.",
            hint=f"Repeat from {now.steps[len(was.steps)].place}, or with the same release.",
        )


def _essence(step: Step) -> JsonValue:
    """A step without where it stands in its file."""
    return _without_positions(step.model_dump(mode="json"))


def _without_positions(value: JsonValue) -> JsonValue:
    match value:
        case dict():
            positions = {"line", "column"} if "place" in value else set()
            return {key: _without_positions(each) for key, each in value.items() if key not in positions}
        case list():
            return [_without_positions(each) for each in value]
        case _:
            return value


def _require_good_end(before: RunState, step: Step) -> None:
    """A step whose result is taken over must have one that still holds."""
    state = before.steps.get(step.place)
    if state is None or not _is_well(state):
        came = "did not begin" if state is None else f"ended as {state.status}"
        raise InvalidInput(
            f"The step {step.place!r} {came}, so it has no result to keep.", hint=f"Repeat from {step.place}."
        )
    if step.kind is Kind.END and state.status is StepStatus.DONE:
        raise InvalidInput(f"The run ended at {step.place!r}, before that step.", hint=f"Repeat from {step.place}.")
    places = {below.place for below in step.walk()}
    for place in before.steps:
        undone = undone_place(place)
        if undone is not None and written_place(undone) in places:
            raise InvalidInput(f"What {undone!r} had changed was taken back.", hint=f"Repeat from {step.place}.")


def _require_no_child_again(before: RunState, kept: set[str]) -> None:
    """Without a ticket nothing tells that two children were started for the same: it might do everything twice."""
    for place, state in before.steps.items():
        if state.child is not None and written_place(place) not in kept:
            raise InvalidInput(
                f"The step {place!r} has started a run of its own, for no ticket.",
                hint="Look at what that run has changed, then start anew.",
            )


def _is_well(state: StepState) -> bool:
    return state.status in (StepStatus.DONE, StepStatus.SKIPPED) or state.handled


def _asked_again(definition: Definition, step: Step, again: set[str]) -> Iterator[str]:
    """The approvals at or below a kept step whose answer holds no longer, since something they cover is done again."""
    for below in step.walk():
        covered = _covers(definition, below)
        # One that covers nothing guards what comes behind it by an `if`: who knows what.
        if below.uses != APPROVE or (covered and not covered & again):
            continue
        if below is not step:
            raise InvalidInput(
                f"The approval {below.place!r} within {step.place!r} would have to be asked again.",
                hint=f"Repeat from {step.place}.",
            )
        yield below.place


def _stale(before: RunState, kept: Sequence[Step], asked_again: Collection[str]) -> set[str]:
    """What was only looked at or decided behind an answer that is asked for again: by the new one it may be otherwise.

    What has changed something stays as it is. Whatever else it did, it need not do again.
    """
    places: set[str] = set()
    for step in itertools.dropwhile(lambda step: step.place not in asked_again, kept):
        below = {each.place for each in step.walk()}
        has_changed = any(
            note.changed
            for place, state in before.steps.items()
            if written_place(place) in below
            for note in state.effects
        )
        if not has_changed:
            places |= below
    return places


def _covers(definition: Definition, approval: Step) -> set[str]:
    """Places of what an approval covers."""
    names = approval.arguments.get("covers", [])
    tops = [definition.by_id.get(str(name)) for name in names] if isinstance(names, list) else []
    return {below.place for top in tops if top is not None for below in top.walk()}
