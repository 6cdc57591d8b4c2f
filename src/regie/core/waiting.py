"""How a step waits: for a length of time or until a moment. Called by the interpreter; there is no clock in here.

The timer says what is wanted; whoever keeps it, knows what time it is. A moment in the past is due at once.
"""

from __future__ import annotations

from collections.abc import Mapping

from pydantic import JsonValue

from regie.core.definition import Step
from regie.core.durations import parse_duration
from regie.core.errors import EvaluationError
from regie.core.expression import render
from regie.core.moments import read_moment, read_zone
from regie.core.run import SetTimer


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
    timer = f"wait:{place}:0"
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
