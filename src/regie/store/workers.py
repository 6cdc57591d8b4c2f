"""Which workers live. A worker holds a session lock as long as its process lives, and beats as long as it works.

The lock shows within a second that a process has ended; the missing beat shows one that hangs or is cut off. Either way
its runs go to others, and it is fenced out should it come back.
"""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from datetime import datetime
from typing import Final, LiteralString
from uuid import uuid4

import psycopg
from psycopg import AsyncConnection
from psycopg.rows import DictRow

from regie.core.errors import FencedOut
from regie.core.format import FORMAT
from regie.store.database import Database, Listener, Transaction, explained
from regie.store.keys import READY, RunKey

LOCKS: Final = 72_384
"""First half of the two-part advisory lock of each worker; the second is its number."""
SILENT_AFTER_S: Final = 15.0
"""A worker that has not beaten for this long is taken for dead."""


class Worker:
    """This process's registration as a worker."""

    def __init__(self, worker: str, listener: Listener) -> None:
        self.id = worker
        self._listener = listener

    async def wait(self, timeout_s: float) -> set[str]:
        """Wait for a hint that runs are ready; give their domains, or nothing when the time is over.

        Raises:
            Unavailable: The connection is gone and the lock with it: others take this worker's runs. Stop working.
        """
        return await self._listener.wait(timeout_s)


@dataclass(frozen=True)
class WorkerRow:
    """A registered worker."""

    id: str
    name: str
    domains: tuple[str, ...]
    started_at: datetime
    beat_at: datetime


@asynccontextmanager
async def registered(
    database: Database, *, name: str, domains: Sequence[str], reads: int = FORMAT
) -> AsyncIterator[Worker]:
    """Be a worker until the end of the block; then runs still owned go to others.

    Args:
        database: Where the runs are.
        name: For people.
        domains: Whose runs it takes.
        reads: Up to which format it reads them.

    Raises:
        Unavailable: The database does not answer.
    """
    worker = str(uuid4())
    async with database.apart() as connection:
        with explained(connection):
            # Locked before the row can be seen, or another worker would take this one for dead.
            async with connection.transaction():
                cursor = await connection.execute(
                    """insert into regie.worker (id, name, domains, reads)
                       values (%(id)s, %(name)s, %(domains)s::text[], %(reads)s)
                       returning pg_advisory_lock(%(locks)s, number)""",
                    {"id": worker, "name": name, "domains": list(domains), "reads": reads, "locks": LOCKS},
                )
                await cursor.fetchone()
            await connection.execute("listen regie_ready")
        try:
            yield Worker(worker, Listener(connection))
        finally:
            # A connection that is gone has given up its lock: the others do the rest.
            with suppress(psycopg.Error):
                await _leave(connection, worker)


async def beat(tx: Transaction, worker: str) -> None:
    """Show that the worker is at work.

    Raises:
        FencedOut: It was taken for dead, and its runs are with others.
    """
    touched = await tx.change("update regie.worker set beat_at = clock_timestamp() where id = %(id)s", {"id": worker})
    if touched == 0:
        raise FencedOut("This worker was silent for too long and was taken for dead.")


async def rescue(tx: Transaction) -> list[RunKey]:
    """Forget dead workers and make their runs ready again; any worker may call it, as often as it likes."""
    await tx.change(
        """delete from regie.worker w
           where beat_at < clock_timestamp() - make_interval(secs => %(silent)s)
              or not exists (
                  select from pg_locks l
                  where l.locktype = 'advisory' and l.granted and l.objsubid = 2
                    and l.classid = %(locks)s::oid and l.objid = w.number::oid
                    and l.database = (select oid from pg_database where datname = current_database()))""",
        {"silent": SILENT_AFTER_S, "locks": LOCKS},
    )
    rows = await tx.rows(_FREE_ORPHANS, {"channel": READY})
    return [RunKey(row["tenant"], row["domain"], str(row["id"])) for row in rows]


async def list_workers(tx: Transaction) -> list[WorkerRow]:
    """Every registered worker, oldest first."""
    rows = await tx.rows("select * from regie.worker order by started_at, number")
    return [
        WorkerRow(str(row["id"]), row["name"], tuple(row["domains"]), row["started_at"], row["beat_at"]) for row in rows
    ]


_FREE_ORPHANS: LiteralString = """
    with orphan as materialized (
        select tenant, domain, id from regie.run r
        where owner is not null and not exists (select from regie.worker w where w.id = r.owner)
        for no key update skip locked),
    freed as (
        update regie.run r set owner = null, ready_at = clock_timestamp()
        from orphan o where (r.tenant, r.domain, r.id) = (o.tenant, o.domain, o.id) and owner is not null
        returning r.tenant, r.domain, r.id)
    select *, pg_notify(%(channel)s, domain) from freed"""


async def _leave(connection: AsyncConnection[DictRow], worker: str) -> None:
    async with connection.transaction():
        await connection.execute("delete from regie.worker where id = %(id)s", {"id": worker})
        await connection.execute(_FREE_ORPHANS, {"channel": READY})
