"""What expressions see at one place of a run: `input`, `settings`, `run`, `steps`, loop variables, `error`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from pydantic import JsonValue

from regie.core.definition import Definition, Step
from regie.core.run import StepState

Loop = tuple[int, ...]
"""Indices of the loops around a place, outermost first; empty outside loops."""


def place_in(step: Step, loop: Loop) -> str:
    """The place in a run of a written step, inside loop items if any (`close/1[3]`)."""
    return f"{step.place}[{'.'.join(map(str, loop))}]" if loop else step.place


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What is around a step: the loop items it is in, their variables, the error being handled."""

    loop: Loop = ()
    names: Mapping[str, JsonValue] = field(default_factory=dict)

    def item(self, index: int, variable: str, value: JsonValue) -> Surroundings:
        """The surroundings of one loop item's steps."""
        return Surroundings((*self.loop, index), {**self.names, variable: value})

    def handling(self, error: JsonValue) -> Surroundings:
        """The surroundings of `on-error` steps."""
        return Surroundings(self.loop, {**self.names, "error": error})


def view_steps(
    definition: Definition, states: Mapping[str, StepState], around: Surroundings, home: str
) -> dict[str, JsonValue]:
    """The `steps` root: every finished step that has an id and is visible from a place.

    A step inside a loop is visible only from the same item of that loop.

    Args:
        definition: The definition of the run.
        states: The run's steps.
        around: Surroundings of the place.
        home: The written place itself, to know which loops it is in.
    """
    loops_here = (*definition.loops.get(home, ()), home)
    seen: dict[str, JsonValue] = {}
    for step_id, step in definition.by_id.items():
        loops = definition.loops[step.place]
        if loops_here[: len(loops)] != loops or len(loops) > len(around.loop):
            continue
        state = states.get(place_in(step, around.loop[: len(loops)]))
        if state is not None and state.status.is_final:
            seen[step_id] = _view(step, state, states, around.loop[: len(loops)])
    return seen


def _view(step: Step, state: StepState, states: Mapping[str, StepState], loop: Loop) -> JsonValue:
    """One finished step as data: its outcome, and its output's fields or its items."""
    outcome = _outcome(state)
    if step.for_each is not None and state.items is not None:
        items: list[JsonValue] = []
        for index in range(len(state.items)):
            item = states.get(place_in(step, (*loop, index)))
            items.append({"outcome": _outcome(item), "output": item.output} if item else {"outcome": "skipped"})
        return {"outcome": outcome, "items": items}
    if isinstance(state.output, dict):
        return {**state.output, "outcome": outcome}
    return {"outcome": outcome}


def _outcome(state: StepState) -> JsonValue:
    """How a step ended: as its child did, if it ran one to its end."""
    if state.child is not None and isinstance(state.output, dict) and "outcome" in state.output:
        return state.output["outcome"]
    return state.status.value
