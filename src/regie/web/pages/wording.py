"""Says times, values and outcomes in words. The templates use it, as filters."""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime

from markupsafe import Markup, escape
from pydantic import JsonValue

from regie.core.definition import Kind
from regie.core.effect import EffectState
from regie.core.status import RunStatus, StepStatus

_MINUTE_S, _HOUR_S, _DAY_S = 60, 3_600, 86_400
LONGEST_LINE = 120
"""Most characters of a value where it is not what matters."""
_ADDRESS = re.compile(r"([\w.+'-])[\w.+'-]*(@[\w-]+(?:\.[\w-]+)+)")

OUTCOMES: dict[str, str] = {
    RunStatus.RUNNING: "Running",
    RunStatus.WAITING: "Waiting",
    RunStatus.PAUSED: "Paused",
    RunStatus.DONE: "Done",
    RunStatus.REFUSED: "Refused",
    RunStatus.FAILED: "Failed",
    RunStatus.CANCELLED: "Cancelled",
    StepStatus.HANDLING: "Handling a failure",
    StepStatus.SKIPPED: "Skipped",
    "open": "Waiting for an answer",
    "approved": "Approved",
    "timeout": "No answer in time",
}
"""Of runs, steps and approvals."""

EFFECTS: dict[EffectState, str] = {
    EffectState.INTENDED: "Being done",
    EffectState.PENDING: "Accepted, takes effect later",
    EffectState.RECEIVED: "Done",
    EffectState.UNCHANGED: "Was already so",
    EffectState.FAILED: "Refused by the outside system",
    EffectState.UNKNOWN: "Nobody knows whether it happened",
}


KINDS: dict[Kind, str] = {
    Kind.DO: "One after the other",
    Kind.PARALLEL: "All at once",
    Kind.WAIT: "Wait",
    Kind.RUN: "Run another workflow",
    Kind.FAIL: "Stop as failed",
    Kind.END: "End here",
}
"""What steps without a block do."""


def outcome(word: str) -> str:
    """The outcome of a run, a step or an approval."""
    return OUTCOMES[word]


def moment(at: datetime) -> str:
    """A time, to the second."""
    return f"{at.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC"


def length(seconds: float) -> str:
    """A length of time, with two units at most."""
    whole = round(seconds)
    if seconds < 10:
        return f"{seconds:.2f} s"
    for unit_s, unit, smaller_s, smaller in (
        (_DAY_S, "d", _HOUR_S, "h"),
        (_HOUR_S, "h", _MINUTE_S, "min"),
        (_MINUTE_S, "min", 1, "s"),
    ):
        if whole >= unit_s:
            return f"{whole // unit_s} {unit} {whole % unit_s // smaller_s} {smaller}"
    return f"{whole} s"


def value(json_value: JsonValue) -> str:
    """A value of a field, before or after a change."""
    match json_value:
        case None:
            return "nothing"
        case bool():
            return "yes" if json_value else "no"
        case "":
            return "empty text"
        case str():
            return json_value
        case _:
            return json.dumps(json_value, ensure_ascii=False)


def counted(number: int, one: str, several: str) -> str:
    """A number of things."""
    return f"{number} {one if number == 1 else several}"


def masked(text: str) -> str:
    """A text with only the first letter and the host of each e-mail address in it."""
    return _ADDRESS.sub(r"\1•••\2", text)


def is_address(text: str) -> bool:
    """Whether a text is one e-mail address."""
    return _ADDRESS.fullmatch(text) is not None


def first_sentence(text: str) -> str:
    """The first sentence of a text, where there is room for one only."""
    return text.partition(". ")[0].rstrip(".") + "."


def prose(text: str) -> Markup:
    """A text of a docstring: what stands between backticks is code."""
    parts = text.split("`")
    # An odd number of backticks is no pair: then the text stays as it is.
    if len(parts) % 2 == 0:
        return escape(text)
    return Markup("").join(
        Markup("<code>{}</code>").format(part) if number % 2 else escape(part) for number, part in enumerate(parts)
    )


def clipped(text: str) -> str:
    """A text for a line or two."""
    return text if len(text) <= LONGEST_LINE else f"{text[:LONGEST_LINE]}..."


def pretty(json_value: JsonValue) -> str:
    """A whole value as text, one field a line."""
    return json.dumps(json_value, ensure_ascii=False, indent=2)
