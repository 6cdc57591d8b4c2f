"""What starts by itself as time goes: every schedule and every poll, of every tenant, with when it is next."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Literal

from fastapi import APIRouter

from regie.core.errors import Failure
from regie.core.reach import Act
from regie.core.release import Release
from regie.core.schedule import distance_s, next_after
from regie.core.starts import PollStart, ScheduleStart
from regie.engine.recurring import all_of
from regie.store import polls, schedules
from regie.store.database import Transaction
from regie.store.polls import PollRow
from regie.store.schedules import ScheduleRow, StartKey
from regie.web.answers import Answer, Moment
from regie.web.caller import Caller
from regie.web.means import Asking, Having, current_release

router = APIRouter()


class ScheduleLine(Answer):
    """A schedule or a poll of one tenant.

    Attributes:
        starts_by: In words.
        next_at: The next scheduled time; of a poll, when it is asked next.
        due_at: When the tenant's run starts for it.
        last_at: The time that a run was started for last; of a poll, when it had an answer last.
        failures: How many polls in a row have failed, and why the last one did.
    """

    kind: Literal["schedule", "poll"]
    tenant: str
    domain: str
    workflow: str
    title: str
    starts_by: str
    next_at: Moment
    due_at: Moment
    last_at: Moment | None
    last_run: str | None
    failures: int
    failure: Failure | None


class Schedules(Answer):
    """What starts by itself as time goes, the next one first."""

    items: list[ScheduleLine]


@router.get("/v1/schedules")
async def list_schedules(means: Having, caller: Asking) -> Schedules:
    """Schedules and polls, the next one first."""
    caller.require_somewhere(Act.LOOK)
    async with means.database.reading() as tx:
        return Schedules(items=await lines(tx, caller))


async def lines(tx: Transaction, caller: Caller) -> list[ScheduleLine]:
    """The schedules and polls of the current release where the caller sees runs, the next one first.

    What no worker has planned yet is told with the time that it will be planned for.
    """
    release, now = await current_release(tx), await tx.clock()
    planned = {row.key: row for row in await schedules.list_schedules(tx)}
    polled = {row.key: row for row in await polls.list_polls(tx)}
    domains = sorted(release.domains)
    found = [
        _schedule(release, key, start, planned.get(key), now) for key, start in all_of(release, domains, ScheduleStart)
    ]
    found += [_poll(release, key, start, polled.get(key), now) for key, start in all_of(release, domains, PollStart)]
    listed = [
        line for line in found if line is not None and caller.may(Act.LOOK, line.tenant, line.domain, line.workflow)
    ]
    return sorted(listed, key=lambda line: (line.due_at, line.tenant, line.workflow))


def _schedule(
    release: Release, key: StartKey, start: ScheduleStart, row: ScheduleRow | None, now: datetime
) -> ScheduleLine | None:
    next_at = row.next_at if row is not None else next_after(start.cron, start.zone, now)
    if next_at is None:
        return None
    distance = timedelta(seconds=distance_s(start, key.tenant, key.workflow))
    return ScheduleLine(
        kind="schedule",
        tenant=key.tenant,
        domain=key.domain,
        workflow=key.workflow,
        title=release.definition(key.workflow).title,
        starts_by=start.in_words,
        next_at=next_at,
        due_at=row.due_at if row is not None else next_at + distance,
        last_at=row.last_at if row is not None else None,
        last_run=row.last_run if row is not None else None,
        failures=0,
        failure=None,
    )


def _poll(release: Release, key: StartKey, start: PollStart, row: PollRow | None, now: datetime) -> ScheduleLine:
    next_at = row.next_at if row is not None else now
    return ScheduleLine(
        kind="poll",
        tenant=key.tenant,
        domain=key.domain,
        workflow=key.workflow,
        title=release.definition(key.workflow).title,
        starts_by=start.in_words,
        next_at=next_at,
        due_at=next_at,
        last_at=row.polled_at if row is not None else None,
        last_run=None,
        failures=row.failures if row is not None else 0,
        failure=row.failure if row is not None else None,
    )
