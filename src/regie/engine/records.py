"""From the interpreter's commands to what is written in one transaction: step rows, timers, approvals, audit facts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from pydantic import JsonValue

from regie.core import canonical
from regie.core.audit import Actor, Event, Fact
from regie.core.plan import plan_digest
from regie.core.run import (
    ClearTimer,
    CloseApproval,
    Command,
    OpenApproval,
    Perform,
    Remind,
    RunState,
    SetTimer,
    StepEnded,
    StepStatus,
    Work,
)
from regie.store.approvals import approval_id
from regie.store.commits import StepCommit
from regie.store.keys import RunKey
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
    """
    return StepCommit(
        state_json=state.model_dump_json(),
        status=state.status,
        requester=state.requester,
        steps=[
            _row(state, command, timings or {}, inputs or {}, now_s)
            for command in commands
            if isinstance(command, StepEnded)
        ],
        timers_set=_timers_set(commands),
        timers_cleared=[command.timer for command in commands if isinstance(command, ClearTimer)],
        consumed=consumed,
        facts=[fact for command in commands if (fact := _fact(key, state, command, actor, inputs or {})) is not None],
        approvals=[command for command in commands if isinstance(command, OpenApproval | Remind | CloseApproval)],
        park_seen=park_seen,
        heard=heard,
    )


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


def _row(
    state: RunState, ended: StepEnded, timings: Timings, inputs: Mapping[tuple[str, int], str], now_s: float
) -> StepRow:
    step = state.steps[ended.place]
    timing = timings.get((ended.place, ended.attempt))
    is_done = ended.status is StepStatus.DONE and step.output is not None
    return StepRow(
        place=ended.place,
        attempt=ended.attempt,
        uses=ended.uses,
        status=ended.status,
        input_sha256=inputs.get((ended.place, ended.attempt), ""),
        output_json=canonical.encode(step.output).decode() if is_done else None,
        failure=ended.failure,
        queued_ago_s=now_s - timing.queued_s if timing else None,
        started_ago_s=now_s - timing.started_s if timing else None,
        ended_ago_s=now_s - timing.ended_s if timing else 0.0,
    )


def _fact(
    key: RunKey, state: RunState, command: Command, actor: Actor, inputs: Mapping[tuple[str, int], str]
) -> Fact | None:
    match command:
        case StepEnded():
            return _step_fact(state, command, actor, inputs)
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


def _step_fact(state: RunState, ended: StepEnded, actor: Actor, inputs: Mapping[tuple[str, int], str]) -> Fact:
    detail: dict[str, JsonValue] = {
        "step": {"place": ended.place, "uses": ended.uses, "attempt": ended.attempt, "outcome": ended.status.value}
    }
    if given := inputs.get((ended.place, ended.attempt)):
        detail["input_sha256"] = given
    if ended.status is StepStatus.DONE and (output := state.steps[ended.place].output) is not None:
        detail["output_sha256"] = canonical.digest(output)
    if ended.failure is not None:
        # The message may name people; the class is enough to prove what happened.
        detail["failure"] = ended.failure.kind
    event = {
        StepStatus.FAILED: Event.STEP_FAILED,
        StepStatus.HANDLING: Event.STEP_FAILED,
        StepStatus.WAITING: Event.STEP_RETRIED,
    }.get(ended.status, Event.STEP_FINISHED)
    return Fact(event=event, actor=actor, detail=detail)
