"""How a run is held up by a person and let go on: nothing new begins, what is out comes back, the rest is kept.

Called by the interpreter with its working copy of the run. What a block or a child has done is taken in at once, and so
is an event from outside; answers of people, timers and lookups for approvals are kept in order of arrival and taken in
when the run is resumed. So a run that was paused comes to the same end as one that was not, only later.
"""

from __future__ import annotations

from typing import Protocol

from regie.core.errors import Failure
from regie.core.run import (
    ANSWER,
    ApproversFound,
    Cancellation,
    Cancelled,
    ChildEnded,
    Decided,
    Event,
    EventArrived,
    Failed,
    Pause,
    Paused,
    PlanMade,
    Postponed,
    Resumed,
    RunState,
    StepState,
    Succeeded,
    Work,
)


class Life(Protocol):
    """What a pause needs of the interpreter's working copy of a run; see `interpreter.Life`."""

    steps: dict[str, StepState]
    cancelled: Cancellation | None
    stopped: Failure | None
    paused: Pause | None
    held: list[Event]


def take(life: Life, event: Paused) -> None:
    """Somebody holds the run up; the first pause counts until it is lifted."""
    if life.paused is None and life.cancelled is None and ANSWER not in life.steps:
        life.paused = Pause(by=event.by, reason=event.reason)


def keeps(life: Life, event: Event) -> bool:
    """Whether an event has to wait until the run is resumed."""
    if life.paused is None:
        return False
    match event:
        case Succeeded() | Postponed() | ChildEnded() | EventArrived():
            return False
        case Failed(place=place):
            # A lookup for an approval: a decision that was kept goes before it.
            step = life.steps.get(place)
            return step is not None and step.approval is not None
        case _:
            return True


def lift(life: Life, event: Resumed | Cancelled) -> list[Event]:
    """End the pause; what was kept meanwhile, in the order in which it is to be taken in.

    What people or programs have said goes first: it beats the silence that would end it, also when it came behind it.
    """
    if life.paused is None or (isinstance(event, Cancelled) and ANSWER in life.steps):
        return []
    kept = sorted(life.held, key=lambda each: not isinstance(each, Decided | EventArrived))
    life.paused, life.held = None, []
    return kept


def is_answered(state: RunState, work: Work) -> bool:
    """Whether the answer to work that counts as out has come already and is kept."""
    return any(
        isinstance(event, PlanMade | ApproversFound | Failed)
        and (event.place, event.attempt) == (work.place, work.attempt)
        for event in state.held
    )
