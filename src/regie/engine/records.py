"""From the interpreter's commands to what is written in one transaction: step rows, timers, approvals, audit facts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from pydantic import JsonValue

from regie.core import canonical, stopping
from regie.core.audit import Actor, Event, Fact
from regie.core.interpreter import begin
from regie.core.plan import plan_digest
from regie.core.release import Release
from regie.core.run import RunState
from regie.core.run_commands import (
    AwaitEvent,
    CancelChild,
    ClearTimer,
    CloseApproval,
    Command,
    ForgetEvent,
    OpenApproval,
    PauseChild,
    Perform,
    PublishEvent,
    Remind,
    ResumeChild,
    SetTimer,
    StartChild,
    StepEnded,
    TellParent,
    Work,
)
from regie.core.run_events import EVENT, Cancelled, Paused, Resumed
from regie.core.status import StepStatus
from regie.engine.accepting import accept_child, child_trigger
from regie.store.approvals import approval_id
from regie.store.claims import Claimed
from regie.store.commits import Kin, StepCommit
from regie.store.keys import RunKey
from regie.store.runs import NewRun
from regie.store.steps import StepRow


@dataclass(frozen=True, slots=True)
class Timing:
    """When one attempt was handed out, begun and answered, on the worker's monotonic clock in seconds."""

    queued_s: float
    started_s: float
    ended_s: float


Timings = Mapping[tuple[str, int], Timing]
"""By place and attempt."""


def to_commit(
    key: RunKey,
    state: RunState,
    commands: Sequence[Command],
    *,
    actor: Actor,
    consumed: Sequence[str] = (),
    timings: Timings | None = None,
    inputs: Mapping[tuple[str, int], str] | None = None,
    now_s: float = 0.0,
    park_seen: int | None = None,
    heard: int | None = None,
    children: Sequence[NewRun] = (),
    started_by: Actor | None = None,
) -> StepCommit:
    """Everything that one event leads to, or several in a row, for one transaction.

    Args:
        key: The run.
        state: Its state after the last event.
        commands: What the interpreter answered; work is left out here.
        actor: Who moved the run.
        consumed: Inbox keys taken in.
        timings: Of the attempts that ended.
        inputs: Input digests of the attempts that ended, by place and attempt.
        now_s: The monotonic clock now.
        park_seen: Let go of the run in the same statement, having seen so many inbox events.
        heard: How many inbox events have been read.
        children: What `new_children` makes of the same commands.
        started_by: Who started the run; the actor who moves it when nobody says so.
    """
    outputs = {
        command.place: canonical.encode(state.steps[command.place].output)
        for command in commands
        if isinstance(command, StepEnded) and _has_output(state, command)
    }
    attempts = _Attempts(timings or {}, inputs or {}, outputs)
    return StepCommit(
        state_json=state.model_dump_json(),
        status=state.status,
        requester=state.requester,
        steps=[_row(state, command, attempts, now_s) for command in commands if isinstance(command, StepEnded)],
        timers_set=_timers_set(commands),
        timers_cleared=[command.timer for command in commands if isinstance(command, ClearTimer)],
        consumed=consumed,
        facts=[fact for command in commands if (fact := _fact(key, state, command, actor, attempts)) is not None],
        approvals=[command for command in commands if isinstance(command, OpenApproval | Remind | CloseApproval)],
        park_seen=park_seen,
        heard=heard,
        kin=_kin(key, commands, children),
        awaits=[command for command in commands if isinstance(command, AwaitEvent)],
        forgets=[command.place for command in commands if isinstance(command, ForgetEvent)],
        publishes=[(command, started_by or actor) for command in commands if isinstance(command, PublishEvent)],
    )


def new_children(claimed: Claimed, release: Release, state: RunState, commands: Sequence[Command]) -> list[NewRun]:
    """The children that commands of a run start."""
    made = []
    for command in commands:
        if not isinstance(command, StartChild):
            continue
        facts = accept_child(state.facts, command, release)
        definition = release.definition(facts.workflow)
        begun = begin(facts)
        made.append(
            NewRun(
                key=RunKey(facts.tenant, facts.domain, facts.id),
                workflow=facts.workflow,
                release=claimed.release,
                definition_digest=definition.digest,
                trigger_key=child_trigger(command, state.facts.id),
                started_by=claimed.started_by,
                state_json=begun.model_dump_json(),
                ticket=facts.ticket,
                corr=claimed.corr,
                requester=begun.requester,
                dry=facts.dry,
                prio=claimed.prio,
                parent=facts.parent,
                finish_within_s=definition.sla_finish_s,
                timers={timer.timer: timer.after_s for timer in stopping.timers(definition, facts)},
            )
        )
    return made


def _kin(key: RunKey, commands: Sequence[Command], children: Sequence[NewRun]) -> Kin | None:
    """What the commands mean for other runs; none when nothing, which is nearly always."""
    cancels: dict[str, str] = {}
    steers: dict[str, Paused | Resumed] = {}
    told: tuple[RunKey, str, str] | None = None
    for command in commands:
        match command:
            case CancelChild():
                event = Cancelled(by=command.by, reason=command.reason)
                cancels[command.run] = event.model_dump_json()
            case PauseChild():
                steers[command.run] = Paused(by=command.by, reason=command.reason, parent=key.run)
            case ResumeChild():
                steers[command.run] = Resumed(by=command.by, reason=command.reason, parent=key.run)
            case TellParent():
                payload = EVENT.dump_json(command.ended).decode()
                told = (RunKey(key.tenant, key.domain, command.run), f"child:{command.ended.place}", payload)
    is_needed = children or cancels or steers or told
    return Kin(children=children, cancels=cancels, steers=steers, told=told) if is_needed else None


def _timers_set(commands: Sequence[Command]) -> dict[str, float | datetime]:
    """The timers that stand in the end; one that is cleared behind its setting does not."""
    standing: dict[str, float | datetime] = {}
    for command in commands:
        match command:
            case SetTimer():
                standing[command.timer] = datetime.fromisoformat(command.at) if command.at else command.after_s
            case ClearTimer():
                standing.pop(command.timer, None)
    return standing


def input_digest(work: Work) -> str:
    """Digest of what an attempt is given; empty for work that is not a block's."""
    return canonical.digest(dict(work.arguments)) if isinstance(work, Perform) else ""


@dataclass(frozen=True, slots=True)
class _Attempts:
    """What is known of attempts that ended: their times, digests of what they were given, encoded outputs by place."""

    timings: Timings
    inputs: Mapping[tuple[str, int], str]
    outputs: Mapping[str, bytes]


def _has_output(state: RunState, ended: StepEnded) -> bool:
    return ended.status is StepStatus.DONE and state.steps[ended.place].output is not None


def _row(state: RunState, ended: StepEnded, attempts: _Attempts, now_s: float) -> StepRow:
    timing = attempts.timings.get((ended.place, ended.attempt))
    return StepRow(
        place=ended.place,
        attempt=ended.attempt,
        uses=ended.uses,
        status=ended.status,
        input_sha256=attempts.inputs.get((ended.place, ended.attempt), ""),
        output_json=attempts.outputs[ended.place].decode() if _has_output(state, ended) else None,
        failure=ended.failure,
        queued_ago_s=now_s - timing.queued_s if timing else None,
        started_ago_s=now_s - timing.started_s if timing else None,
        ended_ago_s=now_s - timing.ended_s if timing else 0.0,
    )


def _fact(key: RunKey, state: RunState, command: Command, actor: Actor, attempts: _Attempts) -> Fact | None:
    match command:
        case StepEnded():
            return _step_fact(state, command, actor, attempts)
        case OpenApproval(is_first=True):
            asked: dict[str, JsonValue] = {
                "id": approval_id(key, command.place),
                "rung": command.rung,
                "asked": len(command.approvers),
                "plan_sha256": plan_digest(list(command.plan)),
            }
            return Fact(event=Event.APPROVAL_REQUESTED, actor=actor, detail={"approval": asked})
        case OpenApproval():
            further: dict[str, JsonValue] = {
                "id": approval_id(key, command.place),
                "rung": command.rung,
                "asked": len(command.approvers),
            }
            return Fact(event=Event.APPROVAL_ESCALATED, actor=actor, detail={"approval": further})
        case Remind():
            reminded: dict[str, JsonValue] = {"id": approval_id(key, command.place), "rung": command.rung}
            return Fact(event=Event.APPROVAL_REMINDED, actor=actor, detail={"approval": reminded})
        case CloseApproval():
            closed: dict[str, JsonValue] = {"id": approval_id(key, command.place), "decision": command.decision}
            is_late = command.decision == "timeout"
            event = Event.APPROVAL_EXPIRED if is_late else Event.APPROVAL_WITHDRAWN
            return Fact(event=event, actor=actor, detail={"approval": closed})
        case _:
            return None


def _step_fact(state: RunState, ended: StepEnded, actor: Actor, attempts: _Attempts) -> Fact:
    detail: dict[str, JsonValue] = {
        "step": {"place": ended.place, "uses": ended.uses, "attempt": ended.attempt, "outcome": ended.status.value}
    }
    if given := attempts.inputs.get((ended.place, ended.attempt)):
        detail["input_sha256"] = given
    if _has_output(state, ended):
        detail["output_sha256"] = canonical.digest_of(attempts.outputs[ended.place])
    child = state.steps[ended.place].child
    if child is not None:
        detail["child"] = {"run": child.run, "workflow": child.workflow}
    if ended.failure is not None:
        # The message may name people; the class is enough to prove what happened.
        detail["failure"] = ended.failure.kind
    event = {
        StepStatus.FAILED: Event.STEP_FAILED,
        StepStatus.HANDLING: Event.STEP_FAILED,
        StepStatus.WAITING: Event.STEP_RETRIED,
    }.get(ended.status, Event.STEP_FINISHED)
    return Fact(event=event, actor=actor, detail=detail)
