"""Schedules: when each is due next, for each tenant, always by the database's clock. Workers keep and move them.

Any number of workers look for what is due; a row that one of them has locked is passed over by the others, and when it
is free again it has moved on. The trigger of the run makes sure of the same once more.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import NamedTuple

from psycopg.rows import DictRow

from regie.store.database import Transaction

KEEPING = 7_238_415_007
"""Advisory lock under which one worker at a time brings the rows in line with the current release."""


class StartKey(NamedTuple):
    """Names one schedule or poll of one tenant; `start` is its digest."""

    tenant: str
    domain: str
    workflow: str
    start: str


class Planned(NamedTuple):
    """A schedule's next time, and when it is due for the tenant."""

    key: StartKey
    next_at: datetime
    due_at: datetime


class Due(NamedTuple):
    """A schedule that is due, locked for the transaction, with the time by the database's clock."""

    key: StartKey
    next_at: datetime
    now: datetime


@dataclass(frozen=True)
class ScheduleRow:
    """A schedule as it stands.

    Attributes:
        next_at: The next scheduled time.
        due_at: When the tenant's run starts for it.
        last_at: The scheduled time that a run was started for last, and that run.
    """

    key: StartKey
    next_at: datetime
    due_at: datetime
    last_at: datetime | None
    last_run: str | None


async def take_turn(tx: Transaction) -> datetime:
    """Wait for the turn to bring rows in line with the release; hold it until the end of the transaction.

    Returns:
        The time by the database's clock, read after the wait.
    """
    await tx.row("select pg_advisory_xact_lock(%(lock)s)", {"lock": KEEPING})
    return await tx.clock()


async def keep(tx: Transaction, domains: Sequence[str], known: Sequence[str], planned: Sequence[Planned]) -> None:
    """Have exactly these schedules in some domains. One that is there already keeps its time.

    Args:
        known: All domains there are; what belongs to none of them goes.
    """
    columns = {
        **columns_of([each.key for each in planned]),
        "domains": list(domains),
        "known": list(known),
        "next": [each.next_at for each in planned],
        "due": [each.due_at for each in planned],
    }
    await tx.change(
        """delete from regie.schedule s
           where (s.domain = any(%(domains)s) or s.domain <> all(%(known)s)) and not exists (
               select from unnest(%(tenants)s::text[], %(its)s::text[], %(workflows)s::text[], %(starts)s::text[])
                   as p (tenant, domain, workflow, start)
               where (p.tenant, p.domain, p.workflow, p.start) = (s.tenant, s.domain, s.workflow, s.start))""",
        columns,
    )
    await tx.change(
        """insert into regie.schedule (tenant, domain, workflow, start, next_at, due_at)
           select * from unnest(%(tenants)s::text[], %(its)s::text[], %(workflows)s::text[], %(starts)s::text[],
                                %(next)s::timestamptz[], %(due)s::timestamptz[])
           on conflict do nothing""",
        columns,
    )


def columns_of(keys: Sequence[StartKey]) -> dict[str, object]:
    """The parts of many keys, each part as an array."""
    return {
        "tenants": [key.tenant for key in keys],
        "its": [key.domain for key in keys],
        "workflows": [key.workflow for key in keys],
        "starts": [key.start for key in keys],
    }


async def take_due(tx: Transaction, domains: Sequence[str]) -> Due | None:
    """Lock the schedule of these domains that has been due the longest, unless somebody else has it."""
    row = await tx.row(
        """select *, clock_timestamp() as now from regie.schedule
           where domain = any(%(domains)s) and due_at <= (select clock_timestamp())
           order by due_at limit 1 for update skip locked""",
        {"domains": list(domains)},
    )
    return None if row is None else Due(key_of(row), row["next_at"], row["now"])


async def move(tx: Transaction, planned: Planned, *, ran_for: datetime | None, run: str | None) -> None:
    """Plan the next time of a schedule, and remember what was started for the last one."""
    await tx.change(
        """update regie.schedule set next_at = %(next_at)s, due_at = %(due_at)s,
                  last_at = coalesce(%(ran_for)s, last_at), last_run = coalesce(%(run)s, last_run)
           where (tenant, domain, workflow, start) = (%(tenant)s, %(domain)s, %(workflow)s, %(start)s)""",
        {
            **planned.key._asdict(),
            "next_at": planned.next_at,
            "due_at": planned.due_at,
            "ran_for": ran_for,
            "run": run,
        },
    )


async def postpone(tx: Transaction, key: StartKey, seconds: float) -> None:
    """Look at a schedule again later, so that one that cannot be started does not stop the others."""
    await tx.change(
        """update regie.schedule set due_at = clock_timestamp() + make_interval(secs => %(seconds)s)
           where (tenant, domain, workflow, start) = (%(tenant)s, %(domain)s, %(workflow)s, %(start)s)""",
        {**key._asdict(), "seconds": seconds},
    )


async def forget(tx: Transaction, key: StartKey) -> None:
    """Drop a schedule that has no next time, or that the release does not have any more."""
    await tx.change(
        """delete from regie.schedule
           where (tenant, domain, workflow, start) = (%(tenant)s, %(domain)s, %(workflow)s, %(start)s)""",
        key._asdict(),
    )


async def list_schedules(tx: Transaction) -> list[ScheduleRow]:
    """All of them, the next one first."""
    rows = await tx.rows("select * from regie.schedule order by due_at, tenant, domain, workflow, start")
    return [
        ScheduleRow(
            key=key_of(row),
            next_at=row["next_at"],
            due_at=row["due_at"],
            last_at=row["last_at"],
            last_run=None if row["last_run"] is None else str(row["last_run"]),
        )
        for row in rows
    ]


async def overdue(tx: Transaction, seconds: float) -> list[ScheduleRow]:
    """Those that should have started a run that long ago."""
    now = await tx.clock()
    return [row for row in await list_schedules(tx) if (now - row.due_at).total_seconds() > seconds]


def key_of(row: DictRow) -> StartKey:
    """The key in a row."""
    return StartKey(row["tenant"], row["domain"], row["workflow"], row["start"])
