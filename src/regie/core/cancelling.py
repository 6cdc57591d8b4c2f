"""How a run is cancelled: nothing new begins, what is out comes back, the rest ends where it stands.

Called by the interpreter with its working copy of the run. A step that only waits (for a time, a person, its next try,
an event, a change that takes effect later) ends at once; what is out is awaited, and children, which are cancelled too,
as well. So cancelling leads to the end as soon as the last work is back.
"""

from __future__ import annotations

from regie.core import children, ladder
from regie.core.errors import Failure
from regie.core.places import ANSWER, written_place
from regie.core.run import Cancellation, RunState, StepState
from regie.core.run_commands import ClearTimer, ForgetEvent
from regie.core.run_events import Cancelled
from regie.core.status import StepStatus

PENDING = Failure(
    kind="OutcomeUnknown",
    message="The change was accepted, and had not taken effect yet when the run was cut off.",
)


def is_too_late(state: RunState) -> bool:
    """Whether a run is over, or has nothing left to do but to tell its ticket how it ended."""
    return state.status.is_final or ANSWER in state.steps


def take(life: ladder.Life, event: Cancelled) -> None:
    """Somebody cancels the run: whatever only waits, ends; whatever is out, is awaited."""
    if life.cancelled is not None or ANSWER in life.steps:
        return
    life.cancelled = Cancellation(by=event.by, reason=event.reason)
    cut(life)


def cut(life: ladder.Life) -> None:
    """End whatever only waits, and ask nobody any more."""
    for place, state in list(life.steps.items()):
        if state.approval is not None and not state.status.is_final:
            ladder.withdraw(life, place, state.approval)
        if state.status is not StepStatus.WAITING:
            continue
        if state.child is not None:
            children.cancel(life, place, state.child)
        else:
            if _waits_for_event(life, place):
                life.commands.append(ForgetEvent(place=place))
            life.commands.append(ClearTimer(timer=_timer(place, state)))
            stop(life, place, state)


def stop(life: ladder.Life, place: str, state: StepState) -> None:
    """End a step that has not come to its own end."""
    life.finish(place, StepStatus.CANCELLED, failure=PENDING if state.handle is not None else state.failure)


def in_words(cancellation: Cancellation, rest: str) -> str:
    """What the ticket is told."""
    reason = f" {cancellation.reason}" if cancellation.reason else ""
    return f"This request was cancelled by {cancellation.by}.{reason}\n\n{rest}"


def _waits_for_event(life: ladder.Life, place: str) -> bool:
    written = life.definition.by_place.get(written_place(place))
    return written is not None and written.awaits_event


def _timer(place: str, state: StepState) -> str:
    """What a step waits for besides people; one that waits by its own word has had no attempt."""
    return f"again:{place}:{state.attempt}" if state.attempt else f"wait:{place}:0"
