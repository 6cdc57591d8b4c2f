"""How a step waits: for a length of time, until a moment, for an event. Called by the interpreter; no clock in here.

The timer says what is wanted; whoever keeps it, knows what time it is. A moment in the past is due at once. Who waits
for an event does so with a deadline, and its passing is a result like the event itself.
"""

from __future__ import annotations

from collections.abc import Mapping

from pydantic import JsonValue

from regie.core import canonical
from regie.core.definition import Step
from regie.core.durations import parse_duration
from regie.core.errors import EvaluationError
from regie.core.expression import render
from regie.core.ladder import Life
from regie.core.moments import read_moment, read_zone
from regie.core.places import written_place
from regie.core.run_commands import AwaitEvent, ClearTimer, ForgetEvent, SetTimer
from regie.core.run_events import EventArrived
from regie.core.status import StepStatus

NO_EVENT: dict[str, JsonValue] = {"timed_out": True, "event": {}}
"""What a step gives whose event has not arrived in time."""


def timer_of(step: Step, place: str, scope: Mapping[str, JsonValue], time_zone: str) -> SetTimer:
    """The timer at whose end a waiting step goes on.

    Args:
        step: The step as written.
        place: Where it stands in the run.
        scope: What its expressions see.
        time_zone: The tenant's, as an IANA name: where a date's day is meant.

    Raises:
        EvaluationError: An expression does not work out, or gives neither a length of time nor a moment.
    """
    timer = deadline(place)
    wanted = render(step.wait, scope)
    try:
        if isinstance(wanted, dict):
            moment = read_moment(wanted.get("until"), read_zone(time_zone))
            return SetTimer(timer=timer, at=moment.isoformat())
        if not isinstance(wanted, str):
            raise ValueError(f"{wanted!r} is not a length of time: write it like 90s, 15m, 8h, 2d, 1w or 1h30m")  # noqa: TRY301  joins the other texts that are none
        return SetTimer(timer=timer, after_s=parse_duration(wanted.strip()))
    except ValueError as error:
        raise EvaluationError(f"The step {step.id or step.place} cannot wait: {error}.") from error


def event_of(step: Step, place: str, scope: Mapping[str, JsonValue]) -> tuple[AwaitEvent, SetTimer]:
    """The event that a step waits for, and its deadline.

    Args:
        step: The step as written.
        place: Where it stands in the run.
        scope: What its expressions see, now: the values to look for do not change any more.

    Raises:
        EvaluationError: An expression does not work out, `within` is no length of time, or no event can be like that.
    """
    wanted = render(step.wait, scope)
    fields = wanted if isinstance(wanted, dict) else {}
    where, within = fields.get("where"), fields.get("within")
    try:
        if not isinstance(within, str):
            raise ValueError(f"{within!r} is not a length of time: write it like 90s, 15m, 8h, 2d, 1w or 1h30m")  # noqa: TRY301  joins the texts that are none
        timer = SetTimer(timer=deadline(place), after_s=parse_duration(within.strip()))
        canonical.encode(where if isinstance(where, dict) else {})
    except ValueError as error:
        raise EvaluationError(f"The step {step.id or step.place} cannot wait: {error}.") from error
    event = str(fields.get("event"))
    return AwaitEvent(place=place, event=event, where=where if isinstance(where, dict) else {}), timer


def take_event(life: Life, event: EventArrived) -> None:
    """The event has arrived; one that comes late, or for a step that waits for something else, changes nothing."""
    step = life.steps.get(event.place)
    written = life.definition.by_place.get(written_place(event.place))
    if step is None or step.status is not StepStatus.WAITING or written is None or not written.awaits_event:
        return
    life.commands.append(ClearTimer(timer=deadline(event.place)))
    life.finish(event.place, StepStatus.DONE, output={"timed_out": False, "event": event.data})


def take_deadline(life: Life, place: str, step: Step) -> None:
    """The time is over: the end of a wait for that, and one way for a wait for an event to end."""
    if step.awaits_event:
        life.commands.append(ForgetEvent(place=place))
        life.finish(place, StepStatus.DONE, output=NO_EVENT)
    else:
        life.finish(place, StepStatus.DONE)


def deadline(place: str) -> str:
    """The name of the timer of a waiting step."""
    return f"wait:{place}:0"
