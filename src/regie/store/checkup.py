"""What is wrong with a database and with the runs in it, found by looking only. `regie doctor` asks.

That every run has something that will wake it is `liveness.py`.
"""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import NamedTuple

import psycopg
from psycopg import AsyncConnection
from psycopg.rows import DictRow, tuple_row

from regie.core.errors import InvalidInput, Unavailable
from regie.store import migrating
from regie.store.database import Transaction
from regie.store.keys import RunKey
from regie.store.workers import LOCKS, SILENT_AFTER_S

OVERDUE_AFTER_S = 60.0
"""Seconds after which what workers do at once, such as claiming a ready run, counts as not being done."""
MOST = 50
"""How many of a kind are named; of more than that nobody reads each."""


@dataclass(frozen=True)
class Condition:
    """A database that answers.

    Attributes:
        version: Of the server, such as "18.6".
        missing: Names of migrations that are not applied; all of them in an empty database.
        ahead_s: Seconds that its clock is ahead of this machine's.
    """

    version: str
    missing: list[str]
    ahead_s: float


@dataclass(frozen=True)
class WaitingRun:
    """A run that does not move."""

    key: RunKey
    workflow: str
    ticket: str
    since: datetime


@dataclass(frozen=True)
class SilentWorker:
    """A registered worker that does not beat, or whose lock is gone."""

    name: str
    domains: tuple[str, ...]
    beat_at: datetime


@dataclass(frozen=True)
class OddApproval:
    """An open approval that is overdue, or asks people who cannot sign in.

    Attributes:
        unknown: Addresses that were asked and have no account.
        is_hopeless: None of those asked has one.
    """

    key: RunKey
    id: str
    expires_at: datetime
    unknown: tuple[str, ...] = ()
    is_hopeless: bool = False


class TooNew(NamedTuple):
    """Runs of a domain that wait for a newer worker: how many, their format, and up to which one its workers read."""

    domain: str
    runs: int
    format: int
    reads: int


async def examine(dsn: str, now: Callable[[], datetime]) -> Condition:
    """Look at a database without changing anything in it.

    Args:
        dsn: Connection string.
        now: This machine's clock.

    Raises:
        Unavailable: It does not answer, or does not let us in.
        InvalidInput: The connection string cannot be read.
        migrating.MigrationRefused: It belongs to another version of Regie.
    """
    try:
        async with await AsyncConnection.connect(dsn, autocommit=True, connect_timeout=5) as connection:
            before = now()
            cursor = connection.cursor(row_factory=tuple_row)
            query = "select current_setting('server_version'), clock_timestamp(), to_regclass('regie.migration')"
            row = await (await cursor.execute(query)).fetchone()
            after = now()
            version, clock, table = row if row is not None else ("", before, None)
            missing = await migrating.missing(connection) if table is not None else migrating.shipped()
            middle = before + (after - before) / 2
            names = [migration.name for migration in missing]
            return Condition(str(version).partition(" ")[0], names, (clock - middle).total_seconds())
    except psycopg.OperationalError as error:
        raise Unavailable(f"It does not answer ({migrating.reason_of(error)}).") from error
    except psycopg.ProgrammingError as error:
        # Without its cause, which quotes the address.
        if error.sqlstate is not None:
            raise
        raise InvalidInput("REGIE_DATABASE_URL is no address of a PostgreSQL.") from None


async def unclaimed_runs(tx: Transaction) -> list[WaitingRun]:
    """Runs that have been ready for long and that no worker takes, although their quota is not used up."""
    return [
        _run(row)
        for row in await tx.rows(
            """with in_hands as materialized (
                   select domain, tenant, count(*) as n, sum(count(*)) over (partition by domain) as of_domain
                   from regie.run where owner is not null group by domain, tenant)
               select r.tenant, r.domain, r.id, r.workflow, r.ticket, r.ready_at as since
               from regie.run r left join regie.quota q using (domain)
               where r.owner is null and r.ready_at < clock_timestamp() - make_interval(secs => %(overdue)s)
                 and not exists (select from in_hands h where h.domain = r.domain
                                 and (h.of_domain >= q.runs or (h.tenant = r.tenant and h.n >= q.per_tenant)))
               order by r.ready_at limit %(most)s""",
            {"overdue": OVERDUE_AFTER_S, "most": MOST},
        )
    ]


async def too_new_runs(tx: Transaction) -> list[TooNew]:
    """Ready runs that every worker of their domain leaves alone, since a newer version has written them."""
    rows = await tx.rows(
        """select r.domain, count(*) as runs, max(r.format) as format, w.reads
           from regie.run r
           join (select d.domain, max(w.reads) as reads from regie.worker w, unnest(w.domains) as d (domain)
                 group by d.domain) w using (domain)
           where r.owner is null and r.ready_at is not null and r.format > w.reads
           group by r.domain, w.reads order by r.domain"""
    )
    return [TooNew(row["domain"], row["runs"], row["format"], row["reads"]) for row in rows]


async def silent_workers(tx: Transaction) -> list[SilentWorker]:
    """Workers that are registered and dead; any living one forgets them within seconds."""
    rows = await tx.rows(
        """select name, domains, beat_at from regie.worker w
           where beat_at < clock_timestamp() - make_interval(secs => %(silent)s)
              or not exists (
                  select from pg_locks l
                  where l.locktype = 'advisory' and l.granted and l.objsubid = 2
                    and l.classid = %(locks)s::oid and l.objid = w.number::oid
                    and l.database = (select oid from pg_database where datname = current_database()))
           order by beat_at""",
        {"silent": SILENT_AFTER_S, "locks": LOCKS},
    )
    return [SilentWorker(row["name"], tuple(row["domains"]), row["beat_at"]) for row in rows]


async def overdue_approvals(tx: Transaction) -> list[OddApproval]:
    """Open approvals whose time has been over for long, or whose run has ended."""
    rows = await tx.rows(
        """select a.tenant, a.domain, a.run as id, a.id as approval, a.expires_at
           from regie.approval a join regie.run r on (r.tenant, r.domain, r.id) = (a.tenant, a.domain, a.run)
           where a.status = 'open' and r.status <> 'paused' and (r.ended_at is not null
                 or a.expires_at < clock_timestamp() - make_interval(secs => %(overdue)s))
           order by a.expires_at limit %(most)s""",
        {"overdue": OVERDUE_AFTER_S, "most": MOST},
    )
    return [OddApproval(_key(row), str(row["approval"]), row["expires_at"]) for row in rows]


async def approvals_of_strangers(tx: Transaction) -> list[OddApproval]:
    """Open approvals that ask people who have no account here."""
    rows = await tx.rows(
        """select a.tenant, a.domain, a.run as id, a.id as approval, a.expires_at, s.unknown,
                  cardinality(s.unknown) = cardinality(a.approvers) as is_hopeless
           from regie.approval a
           cross join lateral (
               select array_agg(asked order by asked) as unknown from unnest(a.approvers) as asked
               where not exists (select from regie.account c where c.address = lower(asked))) s
           where a.status = 'open' and s.unknown is not null
           order by a.asked_at limit %(most)s""",
        {"most": MOST},
    )
    return [
        OddApproval(
            _key(row), str(row["approval"]), row["expires_at"], tuple(row["unknown"]), is_hopeless=row["is_hopeless"]
        )
        for row in rows
    ]


def _run(row: DictRow) -> WaitingRun:
    return WaitingRun(_key(row), row["workflow"], row["ticket"], row["since"])


def _key(row: DictRow) -> RunKey:
    return RunKey(row["tenant"], row["domain"], str(row["id"]))
