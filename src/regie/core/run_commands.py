"""The commands that come out when an event has moved a run.

*Work* is handed to a worker and comes back as an event; *notes* are written with the state, in one transaction.
"""

from __future__ import annotations

from typing import Literal

from pydantic import JsonValue

from regie.core.data import Data
from regie.core.errors import Failure
from regie.core.outside_event import OutsideEvent
from regie.core.plan import PlannedStep
from regie.core.run import Cause
from regie.core.run_events import ChildEnded
from regie.core.status import RunStatus, StepStatus

# --- work -------------------------------------------------------------------------------------------------------------


class Perform(Data):
    """Run a block once. Answered by `Succeeded`, `Failed` or `Postponed` for the same place and attempt.

    Attributes:
        handle: Set when the change was accepted earlier and is only being asked about.
        timeout_s: Seconds for this attempt.
    """

    kind: Literal["perform"] = "perform"
    place: str
    attempt: int
    uses: str
    arguments: dict[str, JsonValue]
    handle: JsonValue = None
    timeout_s: float


class CoveredStep(Data):
    """A step under an approval, with the arguments it would get."""

    place: str
    uses: str
    arguments: dict[str, JsonValue]


class MakePlan(Data):
    """Plan the steps under an approval. Answered by `PlanMade` or `Failed`."""

    kind: Literal["make_plan"] = "make_plan"
    place: str
    attempt: int
    steps: tuple[CoveredStep, ...]


class FindApprovers(Data):
    """Find out whom a rung means: `user:ADDRESS`, `role:NAME` or `manager_of ADDRESS`. Answered by `ApproversFound`."""

    kind: Literal["find_approvers"] = "find_approvers"
    place: str
    attempt: int
    rung: int
    who: str


Work = Perform | MakePlan | FindApprovers


# --- notes ------------------------------------------------------------------------------------------------------------


class SetTimer(Data):
    """Fire a timer after so many seconds, or at a moment; setting it again replaces it.

    Attributes:
        at: RFC 3339 time in UTC; when it is given, the seconds do not count. In the past means at once.
    """

    kind: Literal["set_timer"] = "set_timer"
    timer: str
    after_s: float = 0.0
    at: str = ""


class ClearTimer(Data):
    """Forget a timer."""

    kind: Literal["clear_timer"] = "clear_timer"
    timer: str


class OpenApproval(Data):
    """Ask, or ask further people: from now on everyone in `approvers` may decide.

    Attributes:
        rung: From 1.
        is_first: Nobody has been asked before; not always rung 1, since a rung may mean nobody.
        expires_after_s: Seconds until the next rung, or until silence counts as no.
    """

    kind: Literal["open_approval"] = "open_approval"
    place: str
    rung: int
    rungs: int
    question: str
    plan: tuple[PlannedStep, ...]
    approvers: tuple[str, ...]
    requester: str
    expires_after_s: float
    is_first: bool = True


class Remind(Data):
    """Remind the people of a rung that their answer is awaited."""

    kind: Literal["remind"] = "remind"
    place: str
    rung: int


class CloseApproval(Data):
    """Silence went on past the last rung, or the run was cancelled or stopped: nobody may decide any more."""

    kind: Literal["close_approval"] = "close_approval"
    place: str
    decision: Literal["timeout", "cancelled"] = "timeout"


class StepEnded(Data):
    """A step became final, or an attempt failed and is tried again (`status` waiting)."""

    kind: Literal["step_ended"] = "step_ended"
    place: str
    attempt: int
    uses: str
    status: StepStatus
    failure: Failure | None = None


class StartChild(Data):
    """Start a child, once: its id is made of this run and the place. Answered by `ChildEnded` unless it is detached."""

    kind: Literal["start_child"] = "start_child"
    place: str
    run: str
    workflow: str
    given: dict[str, JsonValue]
    detached: bool
    requester: str


class CancelChild(Data):
    """The run is cancelled, and with it a child that it waits for."""

    kind: Literal["cancel_child"] = "cancel_child"
    place: str
    run: str
    by: str
    reason: str = ""


class PauseChild(Data):
    """The run is paused, and with it a child that it waits for."""

    kind: Literal["pause_child"] = "pause_child"
    place: str
    run: str
    by: str
    reason: str = ""


class ResumeChild(Data):
    """The run goes on, and with it a child that was paused with it."""

    kind: Literal["resume_child"] = "resume_child"
    place: str
    run: str
    by: str
    reason: str = ""


class TellParent(Data):
    """The run is over, and the run that it is the child of waits for that."""

    kind: Literal["tell_parent"] = "tell_parent"
    run: str
    ended: ChildEnded


class AwaitEvent(Data):
    """Have an event delivered to a step: the first of that name whose data has these values in these fields.

    It may have arrived before, but not before the run began, and no other step of the run may have taken it.
    """

    kind: Literal["await_event"] = "await_event"
    place: str
    event: str
    where: dict[str, JsonValue] = {}


class ForgetEvent(Data):
    """The step waits for its event no longer."""

    kind: Literal["forget_event"] = "forget_event"
    place: str


class PublishEvent(Data):
    """Tell the other runs of the tenant and domain that something has happened; `cause` is for those that it starts."""

    kind: Literal["publish_event"] = "publish_event"
    place: str
    event: OutsideEvent
    cause: Cause


class CloseRun(Data):
    """The run is over."""

    kind: Literal["close_run"] = "close_run"
    status: RunStatus
    failure: Failure | None = None


Kinship = StartChild | CancelChild | PauseChild | ResumeChild | TellParent
Note = (
    SetTimer
    | ClearTimer
    | OpenApproval
    | Remind
    | CloseApproval
    | StepEnded
    | Kinship
    | AwaitEvent
    | ForgetEvent
    | PublishEvent
) | CloseRun
Command = Work | Note
