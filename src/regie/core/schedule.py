"""When a schedule is due: cron expressions in a time zone, and what becomes of times that were missed. Pure.

The expression has the five fields of crontab(5): minute, hour, day of month, month, day of week. Its clock is the wall
clock of its zone, and where that clock jumps:

* times in a skipped hour are due once, at the moment when the clock has jumped;
* times in a doubled hour are due once, the first time;
* an expression whose hour field is `*` means "all the time" rather than an hour, and goes on as time does.

Called by the reader, and by the worker's scheduler.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, tzinfo

from cronsim import CronSim, CronSimError

from regie.core.moments import read_zone
from regie.core.starts import Missed, ScheduleStart

ON_TIME_S = 300.0
"""Seconds within which a start counts as on time: a worker's restart is no missed run."""

_FIELDS = ("minute", "hour", "day of month", "month", "day of week")
_ALLOWED = ("0 to 59", "0 to 23", "1 to 31", "1 to 12 or JAN to DEC", "0 to 7 or SUN to SAT")
_MACROS = {
    "@yearly": "0 0 1 1 *",
    "@annually": "0 0 1 1 *",
    "@monthly": "0 0 1 * *",
    "@weekly": "0 0 * * 0",
    "@daily": "0 0 * * *",
    "@midnight": "0 0 * * *",
    "@hourly": "0 * * * *",
}
_SOME_DAY = datetime(2026, 1, 1)  # noqa: DTZ001  a wall clock's time, of no zone
_LOOK_BACK = tuple(timedelta(hours=hours) for hours in (2, 48, 1_000, 10_000, 500_000))
"""How far back the latest time is looked for, a further step when there is none: few times fit into each."""


class CronFault(ValueError):
    """What is wrong with an expression, and at which character."""

    def __init__(self, message: str, *, offset: int = 0, hint: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.offset = offset
        self.hint = hint


@dataclass(frozen=True, slots=True)
class Settled:
    """What to do about a schedule that is due.

    Attributes:
        instant: The scheduled time to start a run for; none to start nothing.
        missed: The first of the times for which there is no run of its own; none when there is no such time.
        next_at: The next scheduled time; none when there is none any more.
    """

    instant: datetime | None
    missed: datetime | None
    next_at: datetime | None


def check_cron(text: str) -> None:
    """Make sure that a text is a cron expression that some day fits.

    Raises:
        CronFault: It is not.
    """
    if text.strip().startswith("@"):
        written = _MACROS.get(text.strip().lower())
        raise CronFault("short names are not known here", hint=f"write {written}" if written else "write five fields")
    found = list(re.finditer(r"\S+", text))
    if len(found) != len(_FIELDS):
        what = "five fields: minute, hour, day of month, month, day of week"
        raise CronFault(f"a cron expression has {what}; here are {len(found)}", hint="such as 30 7 * * 1-5")
    for at, part in enumerate(found):
        alone = ["*"] * len(_FIELDS)
        alone[at] = part[0]
        try:
            CronSim(" ".join(alone), _SOME_DAY)
        except CronSimError:
            message = f"{part[0]!r} is no {_FIELDS[at]}"
            raise CronFault(message, offset=part.start(), hint=f"it goes from {_ALLOWED[at]}") from None
    try:
        if next(CronSim(text, _SOME_DAY), None) is not None:
            return
    except CronSimError:
        pass
    raise CronFault("there is no such day in any year", offset=found[2].start())


def next_after(cron: str, zone: str, after: datetime) -> datetime | None:
    """The first scheduled time after a moment, in UTC; none when there is none within 50 years.

    Args:
        cron: A checked expression.
        zone: A checked IANA name.
        after: With its offset.
    """
    clock = read_zone(zone)
    local = after.astimezone(clock)
    if cron.split()[1] == "*":
        found = next(CronSim(cron, local), None)
        return None if found is None else found.astimezone(UTC)
    for wall in CronSim(cron, local.replace(tzinfo=None)):
        instant = _instant(wall, clock)
        if instant > after:
            return instant
    return None


def _instant(wall: datetime, clock: tzinfo) -> datetime:
    """When the clock shows a time, or, where it skips that time, has jumped over it. The first of two."""
    while True:
        instant = wall.replace(tzinfo=clock, fold=0).astimezone(UTC)
        if instant.astimezone(clock).replace(tzinfo=None) == wall:
            return instant
        wall += timedelta(minutes=1)


def latest_until(cron: str, zone: str, until: datetime, *, since: datetime) -> datetime | None:
    """The last scheduled time between two moments, both included; none when there is none."""
    latest = None
    for back in _LOOK_BACK:
        begin = max(since, until - back)
        candidate = next_after(cron, zone, begin - timedelta(seconds=1))
        while candidate is not None and candidate <= until:
            latest, candidate = candidate, next_after(cron, zone, candidate)
        if latest is not None or begin == since:
            break
    return latest


def settle(start: ScheduleStart, planned: datetime, now: datetime) -> Settled:
    """What to do about a schedule whose planned time has come: never more than one run, however long nobody was there.

    Args:
        start: The schedule.
        planned: The time that nobody has done anything about yet: a scheduled one.
        now: The present moment, less the tenant's own distance.
    """
    latest = latest_until(start.cron, start.zone, now, since=planned) or planned
    is_late = (now - latest).total_seconds() > ON_TIME_S
    is_left_out = is_late and start.missed is Missed.SKIP
    return Settled(
        instant=None if is_left_out else latest,
        missed=planned if is_left_out or latest > planned else None,
        next_at=next_after(start.cron, start.zone, max(now, latest)),
    )


def distance_s(start: ScheduleStart, tenant: str, workflow: str) -> float:
    """By how many seconds a tenant's run starts later than scheduled: always the same, below the spread."""
    if not start.spread_s:
        return 0.0
    drawn = int.from_bytes(hashlib.sha256(f"{tenant}\0{workflow}".encode()).digest()[:8])
    return float(drawn % int(start.spread_s))


def trigger_key(workflow: str, instant: datetime) -> str:
    """Names the trigger within tenant and domain: each scheduled time of a workflow starts one run."""
    return f"schedule:{workflow}:{instant.astimezone(UTC):%Y-%m-%dT%H:%M:%SZ}"
