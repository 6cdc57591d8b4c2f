"""What the API answers, as records made from what is stored. Times are RFC 3339 in UTC."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Annotated, Generic, Literal, Self, TypeVar

from pydantic import AfterValidator, BaseModel, ConfigDict, JsonValue

from regie.core import plan, report
from regie.core.approval import Rung
from regie.core.audit import Actor
from regie.core.block import Catalogue
from regie.core.definition import Definition, InputField
from regie.core.effect import EffectNote, EffectState
from regie.core.errors import Failure
from regie.core.places import written_place
from regie.core.plan import Change, FieldChange, PlannedStep
from regie.core.run import Cause, Pause, RunState, StepState
from regie.core.starts import Start
from regie.core.status import RunStatus, StepStatus
from regie.store.approvals import Approval
from regie.store.audit import Leaf
from regie.store.effects import Effect
from regie.store.runs import RunRow
from regie.store.steps import StepRecord
from regie.web.step_times import StepTimes, times_of


def _in_utc(moment: datetime) -> datetime:
    return moment.astimezone(UTC)


Moment = Annotated[datetime, AfterValidator(_in_utc)]


class Answer(BaseModel):
    """A part of an answer."""

    model_config = ConfigDict(frozen=True)


Item = TypeVar("Item")


class Page(Answer, Generic[Item]):
    """A part of a list, newest first; `next` is the `before` of what follows, none at the end."""

    items: list[Item]
    next: str | None


class RunLine(Answer):
    """A run in a list.

    Attributes:
        finish_by: When it should be finished, if its workflow says so.
        is_late: It was not finished by then.
        rerun_of: The run that it repeats in part; empty for any other.
    """

    id: str
    tenant: str
    domain: str
    workflow: str
    status: RunStatus
    ticket: str
    requester: str
    started_by: Actor
    dry: bool
    corr: str
    release: str
    definition_digest: str
    started_at: Moment
    changed_at: Moment
    ended_at: Moment | None
    finish_by: Moment | None
    is_late: bool
    rerun_of: str

    @classmethod
    def of(cls, row: RunRow, **also: object) -> Self:
        """A run as stored."""
        return cls.model_validate(
            {
                "id": row.key.run,
                "tenant": row.key.tenant,
                "domain": row.key.domain,
                **{name: getattr(row, name) for name in RunLine.model_fields if hasattr(row, name)},
                **also,
            }
        )


class ParentLine(Answer):
    """The run that has started another one, and the step of it that did."""

    run: str
    place: str


class EventTaken(Answer):
    """An event from outside as it was taken; `is_new` is false when its id was known."""

    id: str
    tenant: str
    domain: str
    event: str
    is_new: bool


class RunStarted(RunLine):
    """The run that a request came to; `is_new` is false when the same request had started it before."""

    is_new: bool


class RunWaited(RunLine):
    """Where a run stands after a wait; `open_approvals` are the ids of what waits for people, in its children too."""

    is_final: bool
    is_waiting_for_people: bool
    open_approvals: list[str]


class StepLine(Answer):
    """One step of a run.

    Attributes:
        title: What its block does, in one sentence; empty for steps without a block.
        attempt: The last one, which the moments are about; 0 for steps that only hold others.
        attempts, queue_wait_s, own_wait_s, duration_s: Over all attempts: how many were begun; seconds waiting for a
            worker, waiting for people, another attempt or a vendor, and at work.
        child: The run that the step has started; empty for any other step.
        kept: Its result was taken over from the run that this one repeats: it was not done again.
        ladder: Whom an approval asks, rung after rung; empty for any other step.
    """

    place: str
    uses: str
    title: str
    status: StepStatus
    attempt: int
    child: str
    queued_at: Moment | None
    started_at: Moment | None
    ended_at: Moment | None
    attempts: int
    queue_wait_s: float
    own_wait_s: float
    duration_s: float
    failure: Failure | None
    effects: tuple[EffectNote, ...]
    kept: bool
    ladder: list[Rung]


class PlannedLine(Answer):
    """What one step under an approval would do. `words` say it for people; `digest` is empty when nothing changes."""

    place: str
    uses: str
    kind: Literal["change", "no_change"]
    capability: str
    target: str
    words: str
    fields: tuple[FieldChange, ...]
    digest: str

    @classmethod
    def of(cls, step: PlannedStep) -> Self:
        """A planned step as stored."""
        planned = step.planned
        change = planned if isinstance(planned, Change) else None
        return cls(
            place=step.place,
            uses=step.uses,
            kind=planned.kind,
            capability=planned.capability,
            target=planned.target,
            words=_words(planned),
            fields=change.fields if change else (),
            digest=change.digest if change else "",
        )


class ApprovalLine(Answer):
    """An approval: what is asked, of whom, about exactly which changes, and how it was decided.

    Attributes:
        rung: How far up the ladder people have been asked, from 1.
        plan_sha256: What a decision has to name: the plan that its author has seen.
    """

    id: str
    run: str
    tenant: str
    domain: str
    place: str
    status: Literal["open", "approved", "refused", "timeout", "cancelled"]
    question: str
    requester: str
    rung: int
    rungs: int
    approvers: list[str]
    asked_at: Moment
    expires_at: Moment
    reminded_at: Moment | None
    decided_by: str | None
    decided_at: Moment | None
    comment: str
    plan: list[PlannedLine]
    plan_sha256: str

    @classmethod
    def of(cls, approval: Approval) -> Self:
        """An approval as stored."""
        same = cls.model_fields.keys() - {"run", "tenant", "domain", "plan"}
        return cls.model_validate(
            {
                **{name: getattr(approval, name) for name in same},
                **approval.key._asdict(),
                "plan": [PlannedLine.of(step) for step in approval.plan],
            }
        )


class EffectLine(Answer):
    """A row of the effect ledger."""

    place: str
    capability: str
    target: str
    state: EffectState
    words: str
    digest: str
    tries: int
    request_id: str
    remote_id: str
    intended_at: Moment
    settled_at: Moment | None

    @classmethod
    def of(cls, effect: Effect) -> Self:
        """A row as stored."""
        receipt = effect.receipt or plan.Receipt()
        return cls(
            place=effect.place,
            capability=effect.capability,
            target=effect.target,
            state=effect.state,
            words=_words(effect.change) if effect.change else "",
            digest=effect.change_digest,
            tries=effect.tries,
            request_id=receipt.request_id,
            remote_id=receipt.remote_id,
            intended_at=effect.intended_at,
            settled_at=effect.settled_at,
        )


class Outcome(Answer):
    """How a run ended; `failure` says why when it failed."""

    status: RunStatus
    failure: Failure | None


class RunCancelled(Answer):
    """A run that is being cancelled: how it stands now, and how it will end once what is out is back."""

    id: str
    status: RunStatus
    ends_as: Literal[RunStatus.CANCELLED] = RunStatus.CANCELLED


class ChildLine(RunLine):
    """A run that a run has started, and at which of its steps."""

    parent_place: str


class RunHeld(Answer):
    """A run that is paused or resumed: how it stands now, whether it will be held up, and by whose wish."""

    id: str
    status: RunStatus
    is_paused: bool
    by: str


class RunWoken(Answer):
    """A run that was made ready for a worker."""

    id: str
    status: RunStatus
    is_ready: Literal[True] = True


class RunDetail(RunLine):
    """Everything about a run. `report` is the text that goes to the ticket; `outcome` is none while it goes on.

    Attributes:
        parent: The run whose child it is, if it is one and the caller may see that.
        children: The runs that it has started and the caller may see.
        paused: By whom and why it is held up; none when it is not.
        reruns: The ids of the runs that repeat it in part.
        cause: The event that has started it; none for any other.
        queued: Why nobody is at work on it though it has something to do, in words; else empty.
    """

    parent: ParentLine | None
    children: list[ChildLine]
    paused: Pause | None
    reruns: list[str]
    cause: Cause | None
    steps: list[StepLine]
    approvals: list[ApprovalLine]
    effects: list[EffectLine]
    report: str
    outcome: Outcome | None
    queued: str


def run_detail(
    row: RunRow,
    state: RunState,
    definition: Definition,
    *,
    catalogue: Catalogue,
    attempts: Iterable[StepRecord],
    asked: Sequence[Approval],
    ledger: Iterable[Effect],
    queued: str,
    now: datetime,
    parent: RunRow | None,
    children: Iterable[RunRow],
    reruns: list[str],
) -> RunDetail:
    """Put together what is known of a run."""
    attempts = list(attempts)
    last = {record.place: record for record in attempts}
    times = times_of(attempts, asked, definition, started_at=row.started_at, now=now)
    return RunDetail.of(
        row,
        parent=ParentLine(run=parent.key.run, place=row.parent_place) if parent else None,
        children=[ChildLine.of(child, parent_place=child.parent_place) for child in children],
        paused=state.paused,
        reruns=reruns,
        cause=state.facts.cause,
        steps=[
            _step(place, step, last, times.get(place, StepTimes()), definition, catalogue=catalogue)
            for place, step in state.steps.items()
        ],
        approvals=[ApprovalLine.of(approval) for approval in asked],
        effects=[EffectLine.of(effect) for effect in ledger],
        report=report.report(state),
        outcome=Outcome(status=state.status, failure=state.failure) if state.status.is_final else None,
        queued=queued,
    )


def _step(
    place: str,
    step: StepState,
    last: Mapping[str, StepRecord],
    times: StepTimes,
    definition: Definition,
    *,
    catalogue: Catalogue,
) -> StepLine:
    record = last.get(place)
    written = definition.by_place.get(written_place(place))
    uses = record.uses if record else (written.uses if written else None) or ""
    return StepLine(
        place=place,
        uses=uses,
        title=catalogue[uses].summary if uses in catalogue else "",
        status=step.status,
        attempt=step.attempt,
        child=step.child.run if step.child else "",
        queued_at=record.queued_at if record else None,
        started_at=record.started_at if record else None,
        ended_at=record.ended_at if record else None,
        attempts=times.attempts,
        queue_wait_s=round(times.queued_s, 3),
        own_wait_s=round(times.waited_s, 3),
        duration_s=round(times.ran_s, 3),
        failure=step.failure,
        effects=step.effects,
        kept=step.kept,
        ladder=step.approval.given.ask if step.approval else [],
    )


class LeafLine(Answer):
    """A leaf of the audit log: its number in the run, its RFC 6962 hash and what it says."""

    seq: int
    entry_id: str
    event: str
    hash: str
    at: Moment
    fields: dict[str, JsonValue]

    @classmethod
    def of(cls, leaf: Leaf) -> Self:
        """A leaf as stored."""
        return cls(
            seq=leaf.run_seq,
            entry_id=leaf.entry_id,
            event=leaf.event.value,
            hash=leaf.hash,
            at=leaf.at,
            fields=leaf.fields,
        )


class RunAudit(Answer):
    """The leaves of a run, and what is wrong with their chain: nothing, if nobody tampered with it."""

    run: str
    leaves: list[LeafLine]
    faults: list[str]


class WorkflowLine(Answer):
    """A workflow of the current release. `tenants` are those that have its domain and that the caller looks after."""

    workflow: str
    domain: str
    title: str
    about: str
    owner: str
    sla_finish_s: float | None
    sla_stop_s: float | None
    limit: int | None
    start: tuple[Start, ...]
    input: tuple[InputField, ...]
    tenants: list[str]
    definition_digest: str

    @classmethod
    def of(cls, definition: Definition, tenants: Iterable[str]) -> Self:
        """A definition with who has it."""
        return cls(
            workflow=definition.workflow,
            domain=definition.domain,
            title=definition.title,
            about=definition.about,
            owner=definition.owner,
            sla_finish_s=definition.sla_finish_s,
            sla_stop_s=definition.sla_stop_s,
            limit=definition.limit,
            start=definition.start,
            input=definition.input,
            tenants=sorted(tenants),
            definition_digest=definition.digest,
        )


class Workflows(Answer):
    """The workflows of a release."""

    release: str
    items: list[WorkflowLine]


class StartedByDelivery(Answer):
    """A run that a delivery came to."""

    id: str
    workflow: str
    is_new: bool


class DeliveryAccepted(Answer):
    """A delivery started these runs, now or when it came before."""

    accepted: Literal[True] = True
    runs: list[StartedByDelivery]


class DeliveryCancelled(Answer):
    """A delivery told that a ticket was closed: these runs are cancelled, now or since it came before."""

    accepted: Literal[True] = True
    cancelled: list[str]


class DeliveryIgnored(Answer):
    """A delivery was taken and is about nothing that we act on."""

    accepted: Literal[False] = False
    reason: str


class Health(Answer):
    """Whether what the web needs is there."""

    status: Literal["ok"] = "ok"
    database: Literal[True] = True
    gateway: Literal[True] = True


def _words(planned: plan.Planned) -> str:
    return planned.in_words() if isinstance(planned, Change) else planned.because
