"""How a run is held up by a person and let go on: nothing new begins, what is out comes back, the rest is kept.

Called by the interpreter with its working copy of the run. What a block or a child has done is taken in at once, and so
is an event from outside; answers of people, timers and lookups for approvals are kept in order of arrival and taken in
when the run is resumed. So a run that was paused comes to the same end as one that was not, only later.

The children that the run waits for are held up with it, and let go on with it. A run can be held up twice, by itself
and with its parent; each is lifted by whom it came from.
"""

from __future__ import annotations

from typing import Protocol

from regie.core.errors import Failure
from regie.core.places import ANSWER
from regie.core.run import Cancellation, Pause, RunState, StepState
from regie.core.run_commands import Command, PauseChild, ResumeChild, Work
from regie.core.run_events import (
    ApproversFound,
    Cancelled,
    ChildEnded,
    Decided,
    Event,
    EventArrived,
    Failed,
    Paused,
    PlanMade,
    Postponed,
    Resumed,
    Succeeded,
)
from regie.core.status import StepStatus


class Life(Protocol):
    """What a pause needs of the interpreter's working copy of a run; see `interpreter.Life`."""

    steps: dict[str, StepState]
    commands: list[Command]
    cancelled: Cancellation | None
    stopped: Failure | None
    paused: Pause | None
    paused_too: Pause | None
    held: list[Event]


def take(life: Life, event: Paused) -> None:
    """Somebody holds the run up, or its parent is; the first pause of either counts until it is lifted."""
    if life.cancelled is not None or ANSWER in life.steps:
        return
    pause = Pause(by=event.by, reason=event.reason, parent=event.parent)
    if life.paused is None:
        life.paused = pause
        for place, run in _children(life):
            life.commands.append(PauseChild(place=place, run=run, by=event.by, reason=event.reason))
    elif life.paused_too is None and life.paused.parent != event.parent:
        life.paused_too = pause


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

    Nothing, while it is still held up by the other side. What people or programs have said goes first: it beats the
    silence that would end it, also when it came behind it.
    """
    if life.paused is None or (isinstance(event, Cancelled) and ANSWER in life.steps):
        return []
    if isinstance(event, Resumed) and not _is_lifted(life, event):
        return []
    kept = sorted(life.held, key=lambda each: not isinstance(each, Decided | EventArrived))
    life.paused, life.paused_too, life.held = None, None, []
    return kept


def _is_lifted(life: Life, event: Resumed) -> bool:
    """Whether nobody holds the run up any more, now that one side does so no longer; then its children go on too."""
    holds = [hold for hold in (life.paused, life.paused_too) if hold is not None and hold.parent != event.parent]
    life.paused, life.paused_too = (*holds, None, None)[:2]
    if life.paused is not None:
        return False
    for place, run in _children(life):
        life.commands.append(ResumeChild(place=place, run=run, by=event.by, reason=event.reason))
    return True


def _children(life: Life) -> list[tuple[str, str]]:
    """The children that the run waits for; nobody waits for a detached one, whose step is over."""
    return [
        (place, step.child.run)
        for place, step in life.steps.items()
        if step.child is not None and step.status is StepStatus.WAITING
    ]


def is_answered(state: RunState, work: Work) -> bool:
    """Whether the answer to work that counts as out has come already and is kept."""
    return any(
        isinstance(event, PlanMade | ApproversFound | Failed)
        and (event.place, event.attempt) == (work.place, work.attempt)
        for event in state.held
    )
