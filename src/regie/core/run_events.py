"""The events that move a run: what happened, as the interpreter takes it."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, JsonValue, TypeAdapter

from regie.core.data import Data
from regie.core.effect import EffectNote
from regie.core.errors import Failure
from regie.core.plan import PlannedStep
from regie.core.status import RunStatus


class Begun(Data):
    """The run was accepted."""

    kind: Literal["begun"] = "begun"


class Succeeded(Data):
    """An attempt of a step gave its output."""

    kind: Literal["succeeded"] = "succeeded"
    place: str
    attempt: int
    output: JsonValue
    effects: tuple[EffectNote, ...] = ()


class Failed(Data):
    """An attempt of a step, of planning or of finding approvers failed."""

    kind: Literal["failed"] = "failed"
    place: str
    attempt: int
    failure: Failure
    effects: tuple[EffectNote, ...] = ()


class Postponed(Data):
    """The outside system accepted the change and finishes later."""

    kind: Literal["postponed"] = "postponed"
    place: str
    attempt: int
    handle: JsonValue
    again_after_s: float


class PlanMade(Data):
    """What the steps under an approval would do is known."""

    kind: Literal["plan_made"] = "plan_made"
    place: str
    attempt: int
    plan: tuple[PlannedStep, ...]


class ApproversFound(Data):
    """Whom a rung means is known; an empty list when it means nobody."""

    kind: Literal["approvers_found"] = "approvers_found"
    place: str
    attempt: int
    rung: int
    approvers: tuple[str, ...]


class Decided(Data):
    """Somebody who may decide has decided."""

    kind: Literal["decided"] = "decided"
    place: str
    decision: Literal["approved", "refused"]
    by: str
    comment: str = ""


class TimerFired(Data):
    """A timer set by a `SetTimer` command is due."""

    kind: Literal["timer_fired"] = "timer_fired"
    timer: str


class ChildEnded(Data):
    """The child that a step waits for is over.

    Attributes:
        run: Its id: of another child than the step's own nothing is taken.
        effects: What it did or found needless; what it has undone again is in `taken_back` as well.
        report: Its own report.
    """

    kind: Literal["child_ended"] = "child_ended"
    place: str
    run: str
    status: RunStatus
    failure: Failure | None = None
    effects: tuple[EffectNote, ...] = ()
    taken_back: tuple[EffectNote, ...] = ()
    decisions: tuple[str, ...] = ()
    in_doubt: bool = False
    report: str = ""


class EventArrived(Data):
    """An event that a step waits for has arrived."""

    kind: Literal["event_arrived"] = "event_arrived"
    place: str
    event: str
    id: str
    data: dict[str, JsonValue]


class Cancelled(Data):
    """Somebody who may do so cancels the run."""

    kind: Literal["cancelled"] = "cancelled"
    by: str
    reason: str = ""


class Paused(Data):
    """Somebody who may do so holds the run up, or its parent, the run `parent`."""

    kind: Literal["paused"] = "paused"
    by: str
    reason: str = ""
    parent: str = ""


class Resumed(Data):
    """Somebody who may do so lets a paused run go on, or its parent, the run `parent`."""

    kind: Literal["resumed"] = "resumed"
    by: str
    reason: str = ""
    parent: str = ""


Event = Annotated[
    Begun
    | Succeeded
    | Failed
    | Postponed
    | PlanMade
    | ApproversFound
    | Decided
    | TimerFired
    | ChildEnded
    | EventArrived
    | Cancelled
    | Paused
    | Resumed,
    Field(discriminator="kind"),
]
EVENT: TypeAdapter[Event] = TypeAdapter(Event)
