"""Starts the runs of schedules. Called by `starting.py` in every worker: whoever looks first, starts."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta

import structlog
from pydantic import JsonValue

from regie.core.audit import Actor, Event, Fact
from regie.core.errors import OutcomeUnknown, Unavailable
from regie.core.release import Release
from regie.core.schedule import Settled, distance_s, next_after, settle, trigger_key
from regie.core.starts import ScheduleStart
from regie.engine.port import StartRequest
from regie.engine.postgres import PostgresEngine
from regie.engine.recurring import all_of, one_of
from regie.store import audit, releases, schedules
from regie.store.database import Database, Transaction
from regie.store.schedules import Due, Planned, StartKey

AGAIN_S = 60.0
"""Seconds until a schedule is tried again whose run could not be started."""
ACTOR = Actor(type="engine", id="schedule")

log = structlog.get_logger(__name__)


class Scheduler:
    """Schedules of some domains."""

    def __init__(self, database: Database, domains: Sequence[str]) -> None:
        self._database = database
        self._engine = PostgresEngine(database)
        self._domains = domains

    async def keep(self, tx: Transaction, release: Release, now: datetime) -> int:
        """Have a row for each schedule of the release; new ones begin with their next time.

        Returns:
            How many there are.
        """
        planned = []
        for key, start in all_of(release, self._domains, ScheduleStart):
            following = _planned(key, start, next_after(start.cron, start.zone, now))
            if following is not None:
                planned.append(following)
        await schedules.keep(tx, self._domains, sorted(release.domains), planned)
        return len(planned)

    async def fire(self) -> bool:
        """Deal with one schedule that is due: run and next time are written together, or neither.

        Returns:
            Whether there was one.

        Raises:
            Unavailable: The database does not answer; nothing was written.
            OutcomeUnknown: Nobody knows whether it was; looking again finds out.
        """
        due: Due | None = None
        try:
            async with self._database.transaction() as tx:
                due = await schedules.take_due(tx, self._domains)
                if due is not None:
                    await self._deal_with(tx, due)
        except (Unavailable, OutcomeUnknown):
            raise
        except Exception:  # one schedule that cannot be started, for whatever reason, must not stop the others
            if due is None:
                raise
            log.exception("schedule:postponed", workflow=due.key.workflow, tenant=due.key.tenant)
            async with self._database.transaction() as tx:
                await schedules.postpone(tx, due.key, AGAIN_S)
        return due is not None

    async def _deal_with(self, tx: Transaction, due: Due) -> None:
        found = one_of(await releases.current(tx), due.key, ScheduleStart)
        if found is None:
            await schedules.forget(tx, due.key)
            return
        _, start = found
        distance = timedelta(seconds=distance_s(start, due.key.tenant, due.key.workflow))
        settled = settle(start, due.next_at, due.now - distance)
        if settled.missed is not None:
            await audit.append_outside(tx, due.key.tenant, due.key.domain, [_missed(due.key, start, settled, due)])
        run = None
        if settled.instant is not None:
            request = StartRequest(
                tenant=due.key.tenant,
                workflow=due.key.workflow,
                trigger_key=trigger_key(due.key.workflow, settled.instant),
                started_by=ACTOR,
            )
            run = (await self._engine.start_in(tx, request)).key.run
        following = _planned(due.key, start, settled.next_at)
        if following is None:
            await schedules.forget(tx, due.key)
        else:
            await schedules.move(tx, following, ran_for=settled.instant, run=run)


def _planned(key: StartKey, start: ScheduleStart, next_at: datetime | None) -> Planned | None:
    if next_at is None:
        return None
    return Planned(key, next_at, next_at + timedelta(seconds=distance_s(start, key.tenant, key.workflow)))


def _missed(key: StartKey, start: ScheduleStart, settled: Settled, due: Due) -> Fact:
    """What has no run of its own: the times from `since` until, and without, `until`."""
    until = settled.instant or due.now
    detail: dict[str, JsonValue] = {
        "workflow": key.workflow,
        "since": (settled.missed or due.next_at).isoformat(),
        "until": until.isoformat(),
        "policy": start.missed.value,
    }
    return Fact(event=Event.TRIGGER_MISSED, actor=ACTOR, detail={"schedule": detail})
