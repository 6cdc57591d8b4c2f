"""A run as its page shows it: steps with their times, planned changes beside what became of them, audit entries."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from pydantic import JsonValue

from regie.core.audit import Actor
from regie.core.block import Catalogue
from regie.core.definition import Definition, Step
from regie.core.effect import EffectNote, EffectState
from regie.core.errors import Failure
from regie.core.places import ANSWER, LIMIT, START, written_place
from regie.core.plan import Change, FieldChange, PlannedStep
from regie.core.reach import Act
from regie.core.run import Cause, RunState, StepState
from regie.core.run_events import Paused
from regie.core.status import RunStatus, StepStatus
from regie.policy.people import Steering
from regie.store import approvals, audit, effects, releases, run_lists, runs, steps
from regie.store.approvals import Approval
from regie.store.audit import Leaf
from regie.store.database import Transaction
from regie.store.effects import Effect
from regie.store.runs import RunRow
from regie.store.steps import StepRecord
from regie.web.caller import Caller
from regie.web.pages.outline import Line, outline
from regie.web.pages.wording import EFFECTS, KINDS, first_sentence
from regie.web.permitting import decision_on_steering, decision_on_viewing_inputs
from regie.web.seeing import children_for, is_id, parent_for, run_for, standing, state_of
from regie.web.step_times import StepTimes, times_of

BAR = 100
"""Width of the longest bar of times, in units of its drawing."""
SHORTEST_S = 0.005
"""Less than that is shown as nothing."""
_OWN: dict[str, str] = {
    START: "Read the ticket",
    ANSWER: "Tell the ticket what is wrong with it",
    LIMIT: "Ask for more changes than the limit",
}

Tone = Literal["good", "bad", "open", "quiet"]


@dataclass(frozen=True, kw_only=True)
class StepView:
    """One step of a run.

    Attributes:
        times: Over all attempts; steps that only hold others have none.
        queued_bar, waited_bar, ran_bar: The same, as parts of `BAR`.
        child: The run that it has started, if the visitor may see that.
        is_kept: Its result was taken over from the run that this one repeats.
    """

    place: str
    depth: int
    uses: str
    title: str
    status: StepStatus
    times: StepTimes
    queued_bar: float
    waited_bar: float
    ran_bar: float
    failure: Failure | None
    effects: tuple[EffectNote, ...]
    output: list[Line]
    child: RunRow | None
    is_kept: bool

    @property
    def has_times(self) -> bool:
        """Whether it took any time worth showing; steps that only hold others take none."""
        return self.times.total_s >= SHORTEST_S


@dataclass(frozen=True, kw_only=True)
class ChangeView:
    """One planned change and what became of it.

    Attributes:
        about: What it is done to, in words.
        because: Why nothing was to change; empty when something was.
        as_planned: Whether exactly the planned change was applied; None while that is open, or nothing was planned.
    """

    about: str
    doing: str
    because: str
    fields: tuple[FieldChange, ...]
    digest: str
    says: str
    tone: Tone
    as_planned: bool | None
    at: datetime | None
    request_id: str


@dataclass(frozen=True, kw_only=True)
class LeafView:
    """An entry of the audit log."""

    seq: int
    at: datetime
    event: str
    who: str
    about: str
    hash: str


@dataclass(frozen=True, kw_only=True)
class RunView:
    """Everything that the page of a run shows.

    Attributes:
        looked_at: Up to when waits count that go on.
        parent: The run whose child it is, if it is one and the visitor may see that.
        is_within: Whether it is within the visitor's reach, and not only something that concerns them.
        is_plain: Whether they may read values in full.
        faults: What is wrong with the audit chain.
        paused: Who holds it up, whether a worker has taken that in or not.
        may_view_inputs: Whether whoever looks may see the values of inputs and outputs, and they are still there.
        acts: What whoever looks may do with it: what a page asks about, and in words.
        reruns: The ids of the runs that repeat it.
        repeated_from: From which step on it repeats another.
        cause: The event that has started it, if one did.
        queued: Why nobody is at work on it though it has something to do, in words; else empty.
    """

    row: RunRow
    looked_at: datetime
    is_within: bool
    is_plain: bool
    parent: RunRow | None
    queued: str
    title: str
    tenant_title: str
    failure: Failure | None
    input: list[Line]
    steps: list[StepView]
    approvals: list[Approval]
    changes: list[ChangeView]
    others: list[ChangeView]
    leaves: list[LeafView]
    faults: list[str]
    paused: Paused | None
    may_view_inputs: bool
    acts: list[tuple[str, str]]
    reruns: list[str]
    repeated_from: str
    cause: Cause | None

    @property
    def is_over(self) -> bool:
        """Whether nothing changes any more."""
        return self.row.status.is_final

    @property
    def since(self) -> datetime:
        """Since when it stands where it stands."""
        if self.row.ended_at is not None:
            return self.row.ended_at
        if self.row.status is RunStatus.WAITING:
            return min((approval.asked_at for approval in self.open_approvals), default=self.row.changed_at)
        return self.row.started_at

    @property
    def open_approvals(self) -> list[Approval]:
        """What it waits for people about."""
        return [approval for approval in self.approvals if approval.status == "open"]


async def read_run(
    tx: Transaction, caller: Caller, run: str, catalogue: Catalogue, *, looked_at: datetime | None = None
) -> RunView:
    """A run by its id.

    Args:
        looked_at: When whoever looks has first seen it, so that waits which go on are as long as they were then, until
            the run changes; now when nothing is said.

    Raises:
        NotFound: There is none that the caller may see.
    """
    row = await run_for(tx, caller, run)
    looked_at = max(looked_at, row.changed_at) if looked_at else await tx.clock()
    release = await releases.get(tx, row.release)
    definition = release.definition(row.workflow)
    state = await state_of(tx, row.key)
    asked = await approvals.of_run(tx, row.key)
    ledger = await effects.list_effects(tx, row.key)
    leaves = await audit.read(tx, row.key)
    covered = {step.place for approval in asked for step in approval.plan}
    records = await steps.list_steps(tx, row.key)
    tenant = release.tenants.get(row.key.tenant)
    paused = None if row.status.is_final else await runs.pause_of(tx, row.key)
    data, right = await decision_on_viewing_inputs(tx, caller, row)
    is_plain = caller.may(Act.VALUES, *row.key[:2], row.workflow) and not data.is_masked
    return RunView(
        row=row,
        looked_at=looked_at,
        is_plain=is_plain,
        may_view_inputs=row.emptied_at is None and (right is None or right.is_allowed),
        queued=await standing(tx, row.key),
        parent=await parent_for(tx, caller, row),
        title=definition.title,
        tenant_title=tenant.title if tenant else row.key.tenant,
        failure=state.failure,
        is_within=caller.may(Act.LOOK, *row.key[:2], row.workflow),
        input=outline(dict(state.input), is_plain=is_plain),
        steps=_steps(
            state,
            records,
            definition,
            catalogue,
            times_of(records, asked, definition, started_at=row.started_at, now=looked_at),
            children={child.parent_place: child for child in await children_for(tx, caller, row)},
            is_plain=is_plain,
        ),
        approvals=asked,
        changes=_changes(asked, ledger, catalogue, is_over=row.status.is_final),
        others=_foreseen(state, catalogue)
        if row.dry
        else [_applied(effect, catalogue) for effect in ledger if effect.place not in covered],
        leaves=[_leaf(leaf) for leaf in leaves],
        faults=await audit.verify(tx, row.key),
        paused=paused,
        acts=await _acts(tx, caller, row, paused),
        reruns=await run_lists.reruns(tx, row.key),
        repeated_from=state.facts.rerun_from,
        cause=state.facts.cause,
    )


async def _acts(tx: Transaction, caller: Caller, row: RunRow, paused: Paused | None) -> list[tuple[str, str]]:
    """What a caller may do with a run as it stands."""
    acts: list[tuple[Steering, str]]
    if row.status.is_final:
        acts = [] if row.dry else [("rerun", "Repeat from a step")]
    # What is paused with its parent can be paused by itself as well; then it stays so when the parent goes on.
    elif paused is None or paused.parent:
        acts = [("pause", "Pause"), ("cancel", "Cancel")]
    else:
        acts = [("resume", "Resume"), ("cancel", "Cancel")]
    by = paused.by if paused else ""
    return [
        (act, words)
        for act, words in acts
        if (await decision_on_steering(tx, caller, row, act, paused_by=by)).is_allowed
    ]


def _steps(
    state: RunState,
    records: Sequence[StepRecord],
    definition: Definition,
    catalogue: Catalogue,
    times: Mapping[str, StepTimes],
    *,
    children: Mapping[str, RunRow],
    is_plain: bool,
) -> list[StepView]:
    last = {record.place: record for record in records}
    longest_s = max((each.total_s for each in times.values()), default=0.0)
    scale = BAR / longest_s if longest_s else 0.0
    shown = []
    for place, step in state.steps.items():
        written = definition.by_place.get(written_place(place))
        uses = last[place].uses if place in last else (written.uses if written else None) or ""
        took = times.get(place, StepTimes())
        shown.append(
            StepView(
                place=place,
                depth=min(place.count("/"), 3),
                uses=uses if uses in catalogue else "",
                title=_title(place, uses, step, written, catalogue),
                status=step.status,
                times=took,
                queued_bar=round(took.queued_s * scale, 2),
                waited_bar=round(took.waited_s * scale, 2),
                ran_bar=round(took.ran_s * scale, 2),
                failure=step.failure,
                effects=step.effects,
                output=[] if step.output is None else outline(step.output, is_plain=is_plain),
                child=children.get(place),
                is_kept=step.kept,
            )
        )
    return shown


def _title(place: str, uses: str, step: StepState, written: Step | None, catalogue: Catalogue) -> str:
    if written_place(place) in _OWN:
        return _OWN[written_place(place)]
    if written is not None and written.for_each is not None and step.items is not None:
        return f"For each {written.for_each.variable}: {len(step.items)}"
    if uses in catalogue:
        return first_sentence(catalogue[uses].summary)
    return KINDS.get(written.kind, uses) if written is not None else place


def _changes(
    asked: Sequence[Approval], ledger: Sequence[Effect], catalogue: Catalogue, *, is_over: bool
) -> list[ChangeView]:
    """Each planned change of each approval beside its row in the ledger."""
    done = {effect.place: effect for effect in ledger}
    return [
        _change(step, approval, done.get(step.place), catalogue, is_over=is_over)
        for approval in asked
        for step in approval.plan
    ]


def _change(
    step: PlannedStep, approval: Approval, effect: Effect | None, catalogue: Catalogue, *, is_over: bool
) -> ChangeView:
    planned = step.planned if isinstance(step.planned, Change) else None
    says, tone = _became(effect, approval, is_over=is_over)
    is_applied = effect is not None and effect.state is EffectState.RECEIVED
    return ChangeView(
        about=planned.title if planned else step.planned.target,
        doing=doing(step.planned.capability, step.uses, catalogue),
        because="" if isinstance(step.planned, Change) else step.planned.because,
        fields=planned.fields if planned else (),
        digest=planned.digest if planned else "",
        says=says,
        tone=tone,
        as_planned=effect.change_digest == planned.digest if planned and effect is not None and is_applied else None,
        at=effect.settled_at if effect else None,
        request_id=effect.receipt.request_id if effect and effect.receipt else "",
    )


def _became(effect: Effect | None, approval: Approval, *, is_over: bool) -> tuple[str, Tone]:
    if effect is not None:
        return EFFECTS[effect.state], _TONES[effect.state]
    if approval.status == "open":
        return "Waits for a yes", "open"
    if approval.status != "approved" or is_over:
        return "Not done", "quiet"
    return "Comes next", "open"


_TONES: dict[EffectState, Tone] = {
    EffectState.INTENDED: "open",
    EffectState.PENDING: "open",
    EffectState.RECEIVED: "good",
    EffectState.UNCHANGED: "quiet",
    EffectState.FAILED: "bad",
    EffectState.UNKNOWN: "bad",
}


def _applied(effect: Effect, catalogue: Catalogue) -> ChangeView:
    """A change that needed no approval."""
    change = effect.change
    return ChangeView(
        about=change.title if change else effect.target,
        doing=doing(effect.capability, "", catalogue),
        because="",
        fields=change.fields if change else (),
        digest=effect.change_digest,
        says=EFFECTS[effect.state],
        tone=_TONES[effect.state],
        as_planned=None,
        at=effect.settled_at,
        request_id=effect.receipt.request_id if effect.receipt else "",
    )


def _foreseen(state: RunState, catalogue: Catalogue) -> list[ChangeView]:
    """What a dry run would change."""
    return [
        ChangeView(
            about=note.words,
            doing=doing(note.capability, "", catalogue),
            because="",
            fields=(),
            digest=note.digest,
            says="Would be done" if note.changed else "Is already so",
            tone="open" if note.changed else "quiet",
            as_planned=None,
            at=None,
            request_id="",
        )
        for step in state.steps.values()
        for note in step.effects
    ]


def doing(capability: str, uses: str, catalogue: Catalogue) -> str:
    """What a capability does, in one sentence."""
    blocks = [catalogue[uses]] if uses in catalogue else list(catalogue.values())
    return next((need.summary for block in blocks for need in block.needs if need.name == capability), capability)


def _leaf(leaf: Leaf) -> LeafView:
    return LeafView(
        seq=leaf.run_seq,
        at=leaf.at,
        event=leaf.event.value,
        who=_who(leaf.fields),
        about=_about(leaf.fields),
        hash=leaf.hash,
    )


def _who(fields: Mapping[str, JsonValue]) -> str:
    """Who did it; of an id of ours, such as a worker's, its beginning."""
    actor = Actor.model_validate(fields["actor"])
    kind = actor.type.replace("_", " ")
    if actor.id == actor.type:
        return kind
    return f"{kind} {actor.id[:8] if is_id(actor.id) else actor.id}"


_SHORTEST = (
    ("step", ("place", "outcome")),
    ("child", ("workflow",)),
    ("approval", ("decision", "rung")),
    ("workflow", ("name",)),
)
"""Fields of leaves that say what they are about, and which parts of them."""


def _about(fields: Mapping[str, JsonValue]) -> str:
    """What a leaf is about, from those of its fields that say it shortest."""
    parts: list[JsonValue] = []
    for name, keys in _SHORTEST:
        part = fields.get(name)
        if isinstance(part, Mapping):
            parts += [f"rung {part[key]}" if key == "rung" else part[key] for key in keys if key in part]
    parts.append(fields.get("capability"))
    return " · ".join(str(part) for part in parts if part)
