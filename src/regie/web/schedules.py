"""What starts by itself as time goes: every schedule and every poll, of every tenant, with when it is next."""

from __future__ import annotations

from fastapi import APIRouter

from regie.core.release import Release
from regie.core.starts import PollStart, ScheduleStart
from regie.store import polls, schedules
from regie.store.database import Transaction
from regie.store.polls import PollRow
from regie.store.schedules import ScheduleRow, StartKey
from regie.web.answers import ScheduleLine, Schedules
from regie.web.means import Asking, Having, current_release

router = APIRouter()


@router.get("/v1/schedules")
async def list_schedules(means: Having, caller: Asking) -> Schedules:
    """Schedules and polls, the next one first."""
    caller.require_operator()
    async with means.database.reading() as tx:
        return Schedules(items=await lines(tx))


async def lines(tx: Transaction) -> list[ScheduleLine]:
    """Every schedule and poll of the current release, the next one first."""
    release = await current_release(tx)
    found = [_schedule(release, row) for row in await schedules.list_schedules(tx)]
    found += [_poll(release, row) for row in await polls.list_polls(tx)]
    return sorted(
        (line for line in found if line is not None), key=lambda line: (line.due_at, line.tenant, line.workflow)
    )


def _schedule(release: Release, row: ScheduleRow) -> ScheduleLine | None:
    start = _start(release, row.key, ScheduleStart)
    if start is None:
        return None
    return ScheduleLine(
        kind="schedule",
        tenant=row.key.tenant,
        domain=row.key.domain,
        workflow=row.key.workflow,
        title=release.definition(row.key.workflow).title,
        starts_by=start.in_words,
        next_at=row.next_at,
        due_at=row.due_at,
        last_at=row.last_at,
        last_run=row.last_run,
        failures=0,
        failure=None,
    )


def _poll(release: Release, row: PollRow) -> ScheduleLine | None:
    start = _start(release, row.key, PollStart)
    if start is None:
        return None
    return ScheduleLine(
        kind="poll",
        tenant=row.key.tenant,
        domain=row.key.domain,
        workflow=row.key.workflow,
        title=release.definition(row.key.workflow).title,
        starts_by=start.in_words,
        next_at=row.next_at,
        due_at=row.next_at,
        last_at=row.polled_at,
        last_run=None,
        failures=row.failures,
        failure=row.failure,
    )


def _start(release: Release, key: StartKey, kind: type[ScheduleStart | PollStart]) -> ScheduleStart | PollStart | None:
    """The start of a row; none when a worker has yet to bring the rows in line with the release."""
    definition = release.definitions.get(key.workflow)
    if definition is None or key.tenant not in release.tenants:
        return None
    return next((start for start in definition.starts(kind) if start.identity == key.start), None)
