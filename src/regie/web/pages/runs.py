"""Pages about runs: the overview, the list, one run live."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Annotated
from urllib.parse import urlencode

from fastapi import APIRouter, Query, Request
from fastapi.responses import Response, StreamingResponse
from pydantic import BaseModel, ConfigDict, Field, JsonValue, field_validator

from regie.core.errors import NotFound, Retryable
from regie.core.status import RunStatus
from regie.store import approvals, releases, run_lists, sessions
from regie.store.database import Transaction
from regie.store.keys import Cursor
from regie.store.runs import RunRow
from regie.web.caller import Caller
from regie.web.means import Having, Means
from regie.web.pages.live import LOOK_AGAIN_AFTER_S, Watching
from regie.web.pages.looking import LOOKING
from regie.web.pages.rendering import HEADERS, fragment, page
from regie.web.pages.run_view import BAR, RunView, read_run
from regie.web.pages.visitor import Visiting, Visitor, find_visitor
from regie.web.paging import page_of
from regie.web.permitting import noting, seen_runs, sight_of, view_inputs
from regie.web.seeing import run_for, state_of
from regie.web.workflows import workflows_for

PAGE = 50
FEW = 6
"""How many of each kind the overview shows."""
PARTS = ("head", "changes", "steps", "approvals", "audit")
"""The parts of the page of a run that change, each a template in `run/` and an event of the stream."""
HEARTBEAT_S = 15.0
"""Seconds after which a silent stream says that it is still there: proxies cut what is silent for a minute."""
PAUSE_S = 0.3
"""Seconds between two looks at a run that changes all the time."""

router = APIRouter()


@dataclass(frozen=True, slots=True)
class Listed:
    """A run in a list.

    Attributes:
        question: What it waits for people about; empty when it does not.
    """

    row: RunRow
    title: str
    question: str


class Filter(BaseModel):
    """Which runs a list shows. Empty fields of the form mean any."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    workflow: str | None = Field(default=None, max_length=200)
    status: RunStatus | None = None
    ticket: str | None = Field(default=None, max_length=200)
    before: str | None = Field(default=None, max_length=100)

    @field_validator("*", mode="before")
    @classmethod
    def _empty_is_any(cls, given: object) -> object:
        return (given.strip() or None) if isinstance(given, str) else given

    def going_on(self, before: str) -> str:
        """The address of the next page."""
        given = {**self.model_dump(mode="json", exclude_none=True), "before": before}
        return f"/runs?{urlencode(given)}"


@router.api_route("/", methods=LOOKING)
async def overview(means: Having, visitor: Visiting) -> Response:
    """What waits for whoever looks, what runs, what failed lately."""
    async with means.database.reading() as tx:
        sight = await sight_of(tx, visitor.caller)
        waiting = await approvals.list_approvals(tx, approver=visitor.caller.address, limit=FEW + 1)
        lists = [
            (
                heading,
                address,
                await _listed(tx, visitor.caller, await run_lists.list_runs(tx, status=status, sight=sight, limit=FEW)),
            )
            for heading, address, status in (
                ("Waiting for people or time", "/runs?status=waiting", RunStatus.WAITING),
                ("Running now", "/runs?status=running", RunStatus.RUNNING),
                ("Failed lately", "/runs?status=failed", RunStatus.FAILED),
            )
        ]
        counts = await run_lists.count_by_status(tx) if visitor.is_operator else {}
    return page(
        "overview.html", visitor, waiting=waiting[:FEW], has_more=len(waiting) > FEW, lists=lists, counts=counts
    )


@router.api_route("/runs", methods=LOOKING)
async def list_runs(means: Having, visitor: Visiting, wanted: Annotated[Filter, Query()]) -> Response:
    """Runs, newest first."""
    async with means.database.reading() as tx:
        rows = await run_lists.list_runs(
            tx,
            status=wanted.status,
            workflow=wanted.workflow,
            ticket=wanted.ticket,
            sight=await sight_of(tx, visitor.caller),
            limit=PAGE + 1,
            before=Cursor.from_query(wanted.before),
        )
        shown, following = page_of(rows, PAGE)
        listed = await _listed(tx, visitor.caller, shown)
        names = []
        if visitor.may_look:
            names = [each.workflow for each, _ in workflows_for(visitor.caller, await releases.current(tx))]
    return page(
        "runs.html",
        visitor,
        listed=listed,
        wanted=wanted,
        following=wanted.going_on(following) if following else None,
        statuses=list(RunStatus),
        names=names,
    )


async def _listed(tx: Transaction, caller: Caller, rows: Sequence[RunRow]) -> list[Listed]:
    rows = await seen_runs(tx, caller, rows)
    questions = await approvals.questions_in(tx, [row.key for row in rows if row.status is RunStatus.WAITING])
    return [
        Listed(row, (await releases.get(tx, row.release)).definition(row.workflow).title, questions.get(row.key, ""))
        for row in rows
    ]


@router.api_route("/runs/{run}", methods=LOOKING)
async def show_run(means: Having, visitor: Visiting, run: str) -> Response:
    """One run. While it is not over the page opens its stream of changes."""
    async with means.database.reading() as tx:
        view = await read_run(tx, visitor.caller, run, means.catalogue)
    return page("run.html", visitor, view=view, row=view.row, bar=BAR)


@router.api_route("/runs/{run}/values", methods=LOOKING)
async def show_values(means: Having, visitor: Visiting, run: str) -> Response:
    """What the run was given and what its steps gave, in full, for who may see that.

    Where the domain holds personal or financial data it is written down who has looked.
    """
    async with noting(means.database), means.database.transaction() as tx:
        row = await run_for(tx, visitor.caller, run)
        is_recorded = await view_inputs(tx, visitor.caller, row)
        state = await state_of(tx, row.key)
    given: dict[str, JsonValue] = dict(state.input)
    gave = {place: step.output for place, step in state.steps.items() if step.output is not None}
    return page("values.html", visitor, row=row, given=given, gave=gave, is_recorded=is_recorded)


@router.get("/runs/{run}/changes")
async def stream(means: Having, request: Request, run: str) -> Response:
    """The parts of a run's page as server-sent events: all of them first, then those that change, until it is over."""
    visitor = await find_visitor(means, request, is_seen=False)
    watching: Watching = request.app.state.watching
    if visitor is None:
        told = _signed_out(run)
    else:
        async with means.database.reading() as tx:
            row = await run_for(tx, visitor.caller, run)
        told = _tell(means, watching, visitor, row.key.run)
    return StreamingResponse(told, media_type="text/event-stream", headers={**HEADERS, "X-Accel-Buffering": "no"})


async def _tell(means: Means, watching: Watching, visitor: Visitor, run: str) -> AsyncIterator[str]:
    loop = asyncio.get_running_loop()
    ends_at = loop.time() + visitor.left_s
    known: dict[str, str] = {}
    looked_at: datetime | None = None
    yield "retry: 2000\n\n"
    async with watching.changes(run) as changed:
        while not means.stopping.is_set():
            changed.clear()
            try:
                view = await _look(means, visitor, run, looked_at)
            except Retryable:
                await _one_of(means.stopping, within_s=LOOK_AGAIN_AFTER_S)
                continue
            if view is None or loop.time() >= ends_at:
                async for event in _signed_out(run):
                    yield event
                return
            # Else the steps of a run that waits would differ at each look.
            looked_at = view.looked_at
            for part in PARTS:
                html = fragment(f"run/{part}.html", visitor=visitor, view=view, row=view.row, bar=BAR)
                if known.get(part) != html:
                    known[part] = html
                    yield _event(part, html)
            if view.is_over:
                yield _event("over", "")
                return
            await asyncio.sleep(PAUSE_S)
            while not (await _one_of(changed, means.stopping, within_s=HEARTBEAT_S) or loop.time() >= ends_at):
                yield ": still here\n\n"


async def _look(means: Means, visitor: Visitor, run: str, looked_at: datetime | None) -> RunView | None:
    """The run as it is now; None when whoever looks has signed out meanwhile, or may not see it any more."""
    async with means.database.reading() as tx:
        if await sessions.find(tx, visitor.token) is None:
            return None
        try:
            return await read_run(tx, visitor.caller, run, means.catalogue, looked_at=looked_at)
        except NotFound:
            return None


async def _signed_out(run: str) -> AsyncIterator[str]:
    yield _event("notice", fragment("run/signed_out.html", run=run))
    yield _event("over", "")


async def _one_of(*events: asyncio.Event, within_s: float) -> bool:
    """Whether one of these came in time."""
    waits = [asyncio.create_task(event.wait()) for event in events]
    try:
        done, _ = await asyncio.wait(waits, timeout=within_s, return_when=asyncio.FIRST_COMPLETED)
        return bool(done)
    finally:
        for wait in waits:
            wait.cancel()


def _event(name: str, data: str) -> str:
    lines = "".join(f"data: {line}\n" for line in data.splitlines() or [""])
    return f"event: {name}\n{lines}\n"
