"""One life of a definition: its state, the events that move it and the commands that come out. All plain data.

The interpreter turns (definition, state, event) into (state, commands). The engine carries the commands out: *work* is
handed to a worker and comes back as an event; *records* are written together with the state, in one transaction.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from functools import cache
from typing import Annotated, Any, Literal, Self, TypeVar

from pydantic import BaseModel, ConfigDict, Field, JsonValue, TypeAdapter

from regie.core.approval import ApprovalArguments
from regie.core.definition import UNDO
from regie.core.errors import Failure
from regie.core.outside_event import OutsideEvent
from regie.core.plan import PlannedStep


class Data(BaseModel):
    """A closed, immutable part of a run's state, an event or a command."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    def model_copy(self, *, update: Mapping[str, Any] | None = None, deep: bool = False) -> Self:
        """The same with some fields changed, without looking at them again.

        What pydantic's own does for a closed model without private parts, at a fifth of the cost: every event of every
        run copies several.
        """
        if deep or not update:
            return super().model_copy(update=update, deep=deep)
        return _assembled(type(self), {**self.__dict__, **update}, self.__pydantic_fields_set__ | update.keys())

    @classmethod
    def made(cls, **parts: Any) -> Self:
        """One made of parts that are known to fit; what is left out has its default."""
        return _assembled(cls, {**_defaults(cls), **parts}, set(parts))


DataKind = TypeVar("DataKind", bound=Data)


def _assembled(kind: type[DataKind], parts: dict[str, Any], given: set[str]) -> DataKind:
    made = object.__new__(kind)
    object.__setattr__(made, "__dict__", parts)
    object.__setattr__(made, "__pydantic_fields_set__", given)
    object.__setattr__(made, "__pydantic_extra__", None)
    object.__setattr__(made, "__pydantic_private__", None)
    return made


@cache
def _defaults(kind: type[Data]) -> dict[str, Any]:
    return {name: field.default for name, field in kind.model_fields.items() if not field.is_required()}


START = "start"
"""Place of the step that reads the ticket before the first written step. Not a legal step id."""
ANSWER = "answer"
"""Place of the step that tells the ticket what is wrong with its input. Not a legal step id."""

LIMIT = "run-limit"
"""Place, with the number of the time, at which a run asks for more changes than its limit. Not a legal step id."""


def written_place(place: str) -> str:
    """The place in the definition of a place in a run: the same without loop indices (`close/1[3]` -> `close/1`)."""
    return place.partition("[")[0] if place.endswith("]") else place


def undo_place(place: str) -> str:
    """Where the step stands that takes a step of a run back (`close/1[3]` -> `close/1/undo[3]`)."""
    written = written_place(place)
    return f"{written}{UNDO}{place[len(written) :]}"


def undone_place(place: str) -> str | None:
    """Which step of a run is taken back at a place; none when the place is no such one."""
    written = written_place(place)
    return written.removesuffix(UNDO) + place[len(written) :] if written.endswith(UNDO) else None


class StepStatus(StrEnum):
    """Where one step of a run stands; a step that has not begun has no state."""

    RUNNING = "running"
    """Work is out, or children are."""
    WAITING = "waiting"
    """For a timer or a person; nothing is held meanwhile."""
    HANDLING = "handling"
    """It failed and its `on-error` steps are at work."""
    DONE = "done"
    FAILED = "failed"
    SKIPPED = "skipped"
    CANCELLED = "cancelled"
    """The run was cancelled, or stopped as a whole, before it came to its own end."""

    @property
    def is_final(self) -> bool:
        """Whether nothing changes it any more."""
        return self not in (StepStatus.RUNNING, StepStatus.WAITING, StepStatus.HANDLING)


class RunStatus(StrEnum):
    """Where a run stands. `refused` is an orderly end in which some approval did not say yes.

    A run that is being cancelled is `running` or `waiting` until the last work that was out is back; one that is
    paused is `paused`, also while work that was out has not come back.
    """

    RUNNING = "running"
    WAITING = "waiting"
    PAUSED = "paused"
    DONE = "done"
    REFUSED = "refused"
    FAILED = "failed"
    CANCELLED = "cancelled"

    @property
    def is_final(self) -> bool:
        """Whether the run is over."""
        return self not in (RunStatus.RUNNING, RunStatus.WAITING, RunStatus.PAUSED)


class EffectNote(Data):
    """What a step did or found needless, for reports, pages and the run's own record.

    Attributes:
        words: The change, or why none was needed, in words for people.
        changed: Whether the outside world was changed.
        digest: The change's digest; empty when nothing changed.
        request_id: The outside system's id of the request.
    """

    capability: str
    target: str
    words: str
    changed: bool
    digest: str = ""
    request_id: str = ""


class ApprovalPhase(StrEnum):
    """What an approval step is busy with."""

    PLANNING = "planning"
    FINDING = "finding"
    """Looking up whom the present rung means."""
    ASKING = "asking"


class ApprovalState(Data):
    """An approval under way.

    Attributes:
        given: Question and ladder as they were when the step began, every expression evaluated.
        rung: Counts from 0 into the ladder.
        asked: Addresses, in the order asked.
    """

    given: ApprovalArguments
    phase: ApprovalPhase = ApprovalPhase.PLANNING
    rung: int = 0
    plan: tuple[PlannedStep, ...] = ()
    asked: tuple[str, ...] = ()


class ChildState(Data):
    """The child of a step that runs a workflow, and what is to be told of it once it is over.

    Attributes:
        run: Its id.
        decisions: What people decided in it, in words.
        taken_back: What it changed and has undone again.
        in_doubt: Nobody is sure that what its report says is all that it has changed.
    """

    run: str
    workflow: str
    decisions: tuple[str, ...] = ()
    taken_back: tuple[EffectNote, ...] = ()
    in_doubt: bool = False


class StepState(Data):
    """Where one step of a run stands.

    Attributes:
        attempt: How often work was handed out for it, from 1; 0 for steps that only hold others.
        tries: How many of these attempts failed.
        waited_s: Seconds spent waiting for a change that takes effect later.
        arguments: What its block is given, fixed when it begins: every attempt asks for the same. Gone at the end.
        output: What it gave; for `people.approve` the outcome.
        items: What a `for-each` loops over, fixed when it begins.
        failure: Why it failed; kept while `on-error` handles it.
        handled: It failed, its `on-error` finished, and the run went on.
        handle: What a change that takes effect later is asked about with.
        undo: What the block of its `undo` would be given, worked out when the step began.
        child: The run that it has started, for a step that runs a workflow.
        limited: The how-manieth asking for more changes it waits for, from 1; see `limit.py`.
        kept: It was not done by this run: its result was taken over from the run that this one repeats in part.
    """

    status: StepStatus
    attempt: int = 0
    tries: int = 0
    waited_s: float = 0.0
    arguments: dict[str, JsonValue] | None = None
    output: JsonValue = None
    items: list[JsonValue] | None = None
    failure: Failure | None = None
    handled: bool = False
    effects: tuple[EffectNote, ...] = ()
    handle: JsonValue = None
    approval: ApprovalState | None = None
    undo: dict[str, JsonValue] | None = None
    child: ChildState | None = None
    limited: int = 0
    kept: bool = False


class Parent(Data):
    """The run that has started another one as its child.

    Attributes:
        place: The step of it that did.
        lineage: The steps that lead from the outermost run to the child, each as `WORKFLOW:PLACE`.
        requester: Who asked for it, as far as that was known then.
        detached: It does not wait for the child's end.
    """

    run: str
    place: str
    lineage: tuple[str, ...]
    requester: str = ""
    detached: bool = False


class Cause(Data):
    """The event that has started a run.

    Attributes:
        event, name: Its id and its name.
        run: The run that published it; empty when a program told it.
        lineage: The workflows of the runs that led to it, each started by an event of the one before.
        requester: Who asked for that run.
    """

    event: str
    name: str
    run: str = ""
    lineage: tuple[str, ...] = ()
    requester: str = ""


class RunFacts(Data):
    """What is known of a run before its first step and never changes.

    Attributes:
        ticket: Key of the ticket that asked for it; empty without one.
        started_by: Address or name of who or what started it.
        given: Input handed in with the start, by field name.
        settings: The domain's settings with the tenant's values.
        dry: Show what would change; write nothing.
        time_zone: The tenant's, as an IANA name: where a date's day is meant.
        parent: The run whose child it is, if it is one.
        cause: The event that started it, if one did; a child has its parent's.
        owner: Who owns its domain, as `team:NAME`; empty in a run of before this was kept.
        unfit: Why it fails before its first step, found when it was accepted; empty for any other.
        rerun_of, rerun_from: The run that this one repeats, and from which step on; empty for any other.
    """

    id: str
    tenant: str
    domain: str
    workflow: str
    ticket: str = ""
    started_by: str
    given: dict[str, JsonValue] = {}
    settings: dict[str, JsonValue] = {}
    dry: bool = False
    time_zone: str = "UTC"
    parent: Parent | None = None
    cause: Cause | None = None
    owner: str = ""
    unfit: str = ""
    rerun_of: str = ""
    rerun_from: str = ""


class Cancellation(Data):
    """Who cancelled a run, and why."""

    by: str
    reason: str = ""


class Pause(Data):
    """Who holds a run up, and why. `parent` is the run with which it was paused; empty when somebody meant this one."""

    by: str
    reason: str = ""
    parent: str = ""


class RunState(Data):
    """A run between two events.

    Attributes:
        requester: Address of the person who asked for the run; empty when no person did.
        ready: The input was read and accepted; the written steps may begin.
        order: Places in the order in which they became final.
        ended: An `end` step was reached: nothing new starts.
        cancelled: Somebody cancelled the run: nothing new starts, and what has begun is not gone on with.
        paused: Somebody holds the run up: nothing new starts until it is resumed.
        paused_too: It is held up a second time: by itself and with its parent. Both have to be lifted.
        held: What has arrived meanwhile and is taken in then, in order of arrival.
        stopped: Why the run as a whole has failed, whatever its steps come to: nothing new starts but taking back.
    """

    facts: RunFacts
    status: RunStatus = RunStatus.RUNNING
    requester: str = ""
    ready: bool = False
    input: dict[str, JsonValue] = {}
    steps: dict[str, StepState] = {}
    order: tuple[str, ...] = ()
    failure: Failure | None = None
    ended: bool = False
    cancelled: Cancellation | None = None
    paused: Pause | None = None
    paused_too: Pause | None = None
    held: tuple[Event, ...] = ()
    stopped: Failure | None = None


# --- events: what happened --------------------------------------------------------------------------------------------


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
RunState.model_rebuild()


# --- commands: work ---------------------------------------------------------------------------------------------------


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


# --- commands: records ------------------------------------------------------------------------------------------------


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
