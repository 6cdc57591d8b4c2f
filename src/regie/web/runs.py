"""Runs: start one, list them, look at one, its audit log, and wait for it."""

from __future__ import annotations

import asyncio
import contextlib
import uuid
from collections.abc import Iterator
from dataclasses import replace
from typing import Annotated

from fastapi import APIRouter, Depends, Header, Query, Request, Response, status
from pydantic import BaseModel, ConfigDict, Field, JsonValue, field_validator
from pydantic_core import PydanticCustomError

from regie.core import canonical
from regie.core.errors import InvalidInput
from regie.core.inputs import build_input, check_given
from regie.core.status import RunStatus
from regie.engine.port import StartRequest
from regie.store import approvals, audit, effects, releases, run_lists, steps
from regie.store.database import Transaction
from regie.store.keys import Cursor, RunKey
from regie.store.runs import RunRow
from regie.telemetry import traces
from regie.web.answers import (
    LeafLine,
    Page,
    RunAudit,
    RunDetail,
    RunLine,
    RunStarted,
    RunWaited,
    run_detail,
)
from regie.web.caller import Caller
from regie.web.means import Asking, BodyOf, Having, Means, current_release
from regie.web.paging import page_of
from regie.web.permitting import noting, require_start, seen_runs, sight_of
from regie.web.seeing import children_for, parent_for, run_for, standing, state_of

LARGEST_PAGE = 200
LONGEST_WAIT_S = 25.0
LOOK_EVERY_S = 0.25
MOST_WAITING = 50
"""Requests that wait at the same time; more are answered at once."""

router = APIRouter(prefix="/v1/runs")


class StartRun(BaseModel):
    """A run to start. `input` gives fields by name; what it leaves out is read from the ticket."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    tenant: str = Field(max_length=100)
    workflow: str = Field(max_length=200)
    input: dict[str, JsonValue] = {}
    ticket: str = Field(default="", max_length=200)
    dry: bool = False

    @field_validator("ticket")
    @classmethod
    def _is_one_line(cls, given: str) -> str:
        """What it names is looked up, listed and printed."""
        if not given.isprintable():
            raise PydanticCustomError("key", "a key has no control characters")
        return given

    @field_validator("input")
    @classmethod
    def _can_be_kept(cls, given: dict[str, JsonValue]) -> dict[str, JsonValue]:
        """Numbers that are not finite come in, but JSON cannot carry them further."""
        canonical.encode(given)
        return given


class Filter(BaseModel):
    """Which runs a list shows."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    tenant: str | None = None
    domain: str | None = None
    workflow: str | None = None
    status: RunStatus | None = None
    ticket: str | None = None
    late: bool = False
    limit: int = Field(default=50, ge=1, le=LARGEST_PAGE)
    before: str | None = None


class Waiting:
    """Counts the requests that wait."""

    def __init__(self) -> None:
        self.now = 0

    @contextlib.contextmanager
    def place(self) -> Iterator[bool]:
        """Take a place; false when there is none."""
        self.now += 1
        try:
            yield self.now <= MOST_WAITING
        finally:
            self.now -= 1


@router.post(
    "",
    status_code=status.HTTP_201_CREATED,
    responses={200: {"model": RunStarted, "description": "It was there already"}},
)
async def start_run(  # noqa: PLR0917  FastAPI hands in parts of the request by name
    means: Having,
    caller: Asking,
    wanted: Annotated[StartRun, Depends(BodyOf(StartRun))],
    response: Response,
    traceparent: Annotated[str | None, Header()] = None,
    idempotency_key: Annotated[str | None, Header(min_length=1, max_length=200)] = None,
) -> RunStarted:
    """Start a run; with an `Idempotency-Key` the same request never starts a second one."""
    request = StartRequest(
        tenant=wanted.tenant,
        workflow=wanted.workflow,
        trigger_key=_trigger_key(caller, idempotency_key),
        started_by=caller.actor,
        ticket=wanted.ticket,
        given=wanted.input,
        dry=wanted.dry,
        is_bounded=True,
    )
    # Whoever may start runs may have them in a trace of theirs.
    begun_by: traces.Attributes = {"regie.tenant": wanted.tenant, "regie.workflow": wanted.workflow}
    with traces.span("start run", begun_by, kind="answers", parent=traceparent):
        row, is_new = await _start(means, caller, wanted, request)
    response.headers["Location"] = f"/v1/runs/{row.key.run}"
    if not is_new:
        response.status_code = status.HTTP_200_OK
    return RunStarted.of(row, is_new=is_new)


async def _start(means: Means, caller: Caller, wanted: StartRun, request: StartRequest) -> tuple[RunRow, bool]:
    """The run that a request comes to, and whether it is new."""
    async with noting(means.database), means.database.transaction() as tx:
        decision = await require_start(tx, caller, wanted.tenant, wanted.workflow)
        release = await current_release(tx)
        started = await means.engine.start_in(tx, replace(request, told=decision.told if decision else {}))
        if not started.is_new:
            await _require_same(tx, started.key, request)
        elif wanted.ticket:
            check_given(release.definition(wanted.workflow), wanted.input)
        else:
            build_input(release.definition(wanted.workflow), wanted.input, None)
        return await run_for(tx, caller, started.key.run), started.is_new


def _trigger_key(caller: Caller, idempotency_key: str | None) -> str:
    if idempotency_key is None:
        return f"api:{uuid.uuid4()}"
    return "api:" + canonical.digest(["POST /v1/runs", caller.actor.type, caller.actor.id, idempotency_key])


async def _require_same(tx: Transaction, key: RunKey, request: StartRequest) -> None:
    """Make sure that a request that came before asked for the same run."""
    facts = (await state_of(tx, key)).facts
    if (facts.workflow, facts.ticket, facts.given, facts.dry) != (
        request.workflow,
        request.ticket,
        request.given,
        request.dry,
    ):
        raise InvalidInput(
            "This Idempotency-Key was used for another request.", hint="Use a new key for each new request."
        )


@router.get("")
async def list_runs(means: Having, caller: Asking, wanted: Annotated[Filter, Query()]) -> Page[RunLine]:
    """Runs, newest first."""
    async with means.database.reading() as tx:
        rows = await run_lists.list_runs(
            tx,
            tenant=wanted.tenant,
            domain=wanted.domain,
            status=wanted.status,
            workflow=wanted.workflow,
            ticket=wanted.ticket,
            is_late=wanted.late,
            sight=await sight_of(tx, caller),
            limit=wanted.limit + 1,
            before=Cursor.from_query(wanted.before),
        )
        shown, following = page_of(rows, wanted.limit)
        seen = await seen_runs(tx, caller, shown)
    return Page(items=[RunLine.of(row) for row in seen], next=following)


@router.get("/{run}")
async def show_run(means: Having, caller: Asking, run: str) -> RunDetail:
    """Everything about a run."""
    async with means.database.reading() as tx:
        row = await run_for(tx, caller, run)
        release = await releases.get(tx, row.release)
        return run_detail(
            row,
            await state_of(tx, row.key),
            release.definition(row.workflow),
            catalogue=means.catalogue,
            attempts=await steps.list_steps(tx, row.key),
            asked=await approvals.of_run(tx, row.key),
            ledger=await effects.list_effects(tx, row.key),
            queued=await standing(tx, row.key),
            now=await tx.clock(),
            parent=await parent_for(tx, caller, row),
            children=await children_for(tx, caller, row),
            reruns=await run_lists.reruns(tx, row.key),
        )


@router.get("/{run}/audit")
async def show_audit(means: Having, caller: Asking, run: str) -> RunAudit:
    """The audit log of a run, checked."""
    async with means.database.reading() as tx:
        row = await run_for(tx, caller, run)
        faults = await audit.verify(tx, row.key)
        leaves = await audit.read(tx, row.key)
    return RunAudit(run=row.key.run, leaves=[LeafLine.of(leaf) for leaf in leaves], faults=faults)


@router.get("/{run}/wait")
async def wait_for_run(
    means: Having,
    caller: Asking,
    run: str,
    request: Request,
    for_s: Annotated[float, Query(ge=0, le=LONGEST_WAIT_S)] = LONGEST_WAIT_S,
) -> RunWaited:
    """Where a run stands once it is over or waits for people, or when the time is over."""
    waiting: Waiting = request.app.state.waiting
    deadline = asyncio.get_running_loop().time() + for_s
    with waiting.place() as may_wait:
        while True:
            shown = await _look(means, caller, run)
            is_over = shown.is_final or shown.is_waiting_for_people or means.stopping.is_set()
            rest_s = deadline - asyncio.get_running_loop().time()
            if is_over or not may_wait or rest_s <= 0 or await request.is_disconnected():
                return shown
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(means.stopping.wait(), min(LOOK_EVERY_S, rest_s))


async def _look(means: Means, caller: Caller, run: str) -> RunWaited:
    async with means.database.reading() as tx:
        row = await run_for(tx, caller, run)
        opened = await _open_approvals(tx, caller, row)
    is_held = bool(opened) or row.status is RunStatus.PAUSED
    return RunWaited.of(row, is_final=row.status.is_final, is_waiting_for_people=is_held, open_approvals=opened)


async def _open_approvals(tx: Transaction, caller: Caller, row: RunRow) -> list[str]:
    """What a run waits for people about: itself, or a child that it waits for."""
    if row.status not in (RunStatus.WAITING, RunStatus.PAUSED):
        return []
    opened = [approval.id for approval in await approvals.of_run(tx, row.key) if approval.status == "open"]
    for child in await children_for(tx, caller, row):
        opened += await _open_approvals(tx, caller, child)
    return opened
