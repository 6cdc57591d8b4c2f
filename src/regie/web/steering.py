"""What people do with a run under way or over: cancel, pause, resume, wake it, repeat it from a step on.

The API's routes are here; the pages call the same functions. Each is one transaction with the run's row locked.
"""

from __future__ import annotations

import uuid
from typing import Annotated, Literal

from fastapi import APIRouter, Depends, Header, Response, status
from pydantic import BaseModel, ConfigDict, Field

from regie.core import canonical
from regie.core.cancelling import is_too_late
from regie.core.errors import InvalidInput, Unavailable
from regie.core.reach import Act
from regie.core.run import RunState
from regie.core.run_events import Cancelled, Paused, Resumed
from regie.engine.port import RerunRequest
from regie.policy.cedar import Decision
from regie.policy.people import Steering
from regie.store import runs
from regie.store.database import Transaction
from regie.store.runs import RunRow
from regie.web.answers import RunCancelled, RunHeld, RunStarted, RunWoken
from regie.web.caller import Caller
from regie.web.means import Asking, BodyOf, Having, Means
from regie.web.permitting import noting, require_steer
from regie.web.problems import Conflict
from regie.web.seeing import run_for, state_of

ASKERS_STEER = f"Only who asked for a run, or who has `{Act.STEER}` where it is, can do that."
PAUSED_BY_ANOTHER = "Somebody else has paused this run: they can resume it, or an operator."
LONGEST_REASON = 2000

router = APIRouter(prefix="/v1/runs/{run}")


class Reason(BaseModel):
    """Why something is done to a run. The ticket is told why it is cancelled."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    reason: str = Field(default="", max_length=LONGEST_REASON)


class Rerun(BaseModel):
    """From which step on a run is repeated, and under which release."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    from_step: str = Field(alias="from", min_length=1, max_length=200)
    release: Literal["same", "current"] = "same"


Why = Annotated[Reason, Depends(BodyOf(Reason))]


async def cancel(means: Means, caller: Caller, run: str, reason: str) -> RunCancelled:
    """Cancel a run.

    Raises:
        NotFound, Denied: The caller may not see it, or not cancel it.
        Conflict: It is over, or about to be.
    """
    async with noting(means.database), means.database.transaction() as tx:
        row, _, decision = await _unfinished(tx, caller, run, "cancel")
        event = Cancelled(by=_name(caller), reason=reason)
        await runs.cancel(tx, row.key, caller.actor, event, told=decision.told)
    return RunCancelled(id=row.key.run, status=row.status)


async def pause(means: Means, caller: Caller, run: str, reason: str) -> RunHeld:
    """Pause a run; one that is paused stays so, for the reason given first.

    Raises:
        NotFound, Denied: The caller may not see it, or not pause it.
        Conflict: It is over, or about to be.
    """
    async with noting(means.database), means.database.transaction() as tx:
        row, state, decision = await _unfinished(tx, caller, run, "pause")
        if (state is not None and state.cancelled is not None) or await runs.is_cancelled(tx, row.key):
            raise Conflict("This run is being cancelled.")
        event = Paused(by=_name(caller), reason=reason)
        await runs.pause(tx, row.key, caller.actor, event, told=decision.told)
        held = await runs.pause_of(tx, row.key)
    return RunHeld(id=row.key.run, status=row.status, is_paused=True, by=held.by if held else "")


async def resume(means: Means, caller: Caller, run: str, reason: str) -> RunHeld:
    """Let a paused run go on.

    Raises:
        NotFound, Denied: The caller may not see it, or not resume it: what an operator has paused, operators resume.
        Conflict: It is over, or not paused.
    """
    async with noting(means.database), means.database.transaction() as tx:
        row, _, _ = await _unfinished(tx, caller, run, "resume")
        held = await runs.pause_of(tx, row.key)
        if held is None:
            raise Conflict("This run is not paused.")
        if held.parent:
            raise Conflict(f"This run is paused with its parent, run {held.parent}.", hint="Resume that one.")
        decision = await require_steer(tx, caller, row, "resume", PAUSED_BY_ANOTHER, paused_by=held.by)
        event = Resumed(by=_name(caller), reason=reason)
        await runs.resume(tx, row.key, caller.actor, event, told=decision.told)
        still = await runs.pause_of(tx, row.key)
    by = still.by if still else _name(caller)
    return RunHeld(id=row.key.run, status=row.status, is_paused=still is not None, by=by)


async def rerun(means: Means, caller: Caller, run: str, wanted: Rerun, idempotency_key: str | None) -> RunStarted:
    """Start a run that repeats another from a step on.

    Raises:
        NotFound, Denied: The caller may not see it, or not start runs.
        InvalidInput: It cannot be repeated from there; or the key was used for another request.
    """
    async with noting(means.database), means.database.transaction() as tx:
        row = await run_for(tx, caller, run)
        decision = await require_steer(tx, caller, row, "rerun")
        key = str(uuid.uuid4())
        if idempotency_key is not None:
            key = canonical.digest(["POST /v1/runs/rerun", caller.actor.type, caller.actor.id, idempotency_key])
        request = RerunRequest(
            key=row.key,
            from_step=wanted.from_step,
            trigger_key=f"rerun:{key}",
            started_by=caller.actor,
            is_current=wanted.release == "current",
            told=decision.told,
        )
        started = await means.engine.rerun_in(tx, request)
        if not started.is_new:
            facts = (await state_of(tx, started.key)).facts
            if (facts.rerun_of, facts.rerun_from) != (row.key.run, wanted.from_step):
                raise InvalidInput(
                    "This Idempotency-Key was used for another request.", hint="Use a new key for each new request."
                )
        new = await run_for(tx, caller, started.key.run)
    return RunStarted.of(new, is_new=started.is_new)


async def _unfinished(
    tx: Transaction, caller: Caller, run: str, steering: Steering
) -> tuple[RunRow, RunState | None, Decision]:
    """A run that can still be steered, locked, so that no worker ends it otherwise from here on.

    Its state is none where nobody can read it: what people want is kept then for whoever can.
    """
    row = await run_for(tx, caller, run)
    # Of who has paused it more is asked when that is known.
    decision = await require_steer(tx, caller, row, steering, ASKERS_STEER, paused_by=caller.address)
    try:
        state = await state_of(tx, row.key, lock=True)
    except Unavailable:
        if row.ended_at is not None:
            raise
        return row, None, decision
    if state.status.is_final:
        raise Conflict(f"This run is over: {state.status}.")
    if is_too_late(state):
        raise Conflict("This run has come to its end and is telling the ticket so.")
    return row, state, decision


def _name(caller: Caller) -> str:
    return caller.address or ("the operator" if caller.actor.type == "operator" else caller.named)


@router.post("/cancel", status_code=status.HTTP_202_ACCEPTED)
async def cancel_run(means: Having, caller: Asking, run: str, why: Why) -> RunCancelled:
    """Cancel a run. It begins nothing new, and ends as cancelled when what is out is back. Nothing is undone."""
    return await cancel(means, caller, run, why.reason)


@router.post("/pause", status_code=status.HTTP_202_ACCEPTED)
async def pause_run(means: Having, caller: Asking, run: str, why: Why) -> RunHeld:
    """Pause a run. It begins nothing new until it is resumed; what is out comes back."""
    return await pause(means, caller, run, why.reason)


@router.post("/resume", status_code=status.HTTP_202_ACCEPTED)
async def resume_run(means: Having, caller: Asking, run: str, why: Why) -> RunHeld:
    """Let a paused run go on. What has arrived meanwhile takes effect now."""
    return await resume(means, caller, run, why.reason)


@router.post("/wake", status_code=status.HTTP_202_ACCEPTED)
async def wake_run(means: Having, caller: Asking, run: str, why: Why) -> RunWoken:  # noqa: ARG001  an empty body, read
    """Make a run ready that was set aside or that nothing would wake, once its cause is mended."""
    async with noting(means.database), means.database.transaction() as tx:
        row = await run_for(tx, caller, run)
        decision = await require_steer(tx, caller, row, "wake")
        await runs.state_of(tx, row.key, lock=True)
        if not await runs.wake(tx, row.key, caller.actor, told=decision.told):
            now = await runs.get(tx, row.key)
            stands = now.status if now is not None else row.status
            raise Conflict(
                f"This run does not sleep: it is {stands}.",
                hint="A paused run is resumed; one that is ready or in the hands of a worker moves by itself.",
            )
    return RunWoken(id=row.key.run, status=row.status)


@router.post(
    "/rerun",
    status_code=status.HTTP_201_CREATED,
    responses={200: {"model": RunStarted, "description": "It was there already"}},
)
async def rerun_run(
    means: Having,
    caller: Asking,
    run: str,
    wanted: Annotated[Rerun, Depends(BodyOf(Rerun))],
    response: Response,
    *,
    idempotency_key: Annotated[str | None, Header(min_length=1, max_length=200)] = None,
) -> RunStarted:
    """Repeat a run that is over from a step on, as a new run; what came before it is kept and not done again."""
    started = await rerun(means, caller, run, wanted, idempotency_key)
    response.headers["Location"] = f"/v1/runs/{started.id}"
    if not started.is_new:
        response.status_code = status.HTTP_200_OK
    return started
