"""Thousands of runs that wait: what they cost a worker, how fast one resumes, and many timers due at one instant."""

from __future__ import annotations

import asyncio
import itertools
import random
import sys
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType

import psycopg
from psycopg import sql

from bench.stand import Stand
from bench.workload import APPROVER, request
from regie.engine.postgres import PostgresEngine
from regie.store import approvals
from regie.store.database import Database
from regie.store.keys import RunKey

ROOT = Path(__file__).parent.parent
STARTERS = 8
RESUMED = 200
"""How many of the parked runs are woken, one after the other."""
PAUSE_S = 0.02
IDLE_S = 5.0
TIMERS_IN_S = 2.0
PATIENCE_S = 600.0
TICKS = 100
"""Clock ticks in a second of proc_pid_stat(5), USER_HZ on every Linux we run on."""


@dataclass
class Elsewhere:
    """A worker in a process of its own. `woken` holds when each run's step behind the approval began."""

    process: asyncio.subprocess.Process
    ready_s: float
    woken: dict[str, asyncio.Future[float]] = field(default_factory=dict)

    async def read(self) -> None:
        """Take in what it says."""
        if self.process.stdout is None:
            return
        while line := await self.process.stdout.readline():
            run, _, at_s = line.decode().strip().partition(" ")
            # The end of the process may cut its last line off.
            if at_s and not (future := self.when(run)).done():
                future.set_result(float(at_s))

    def when(self, run: str) -> asyncio.Future[float]:
        """The moment a run was woken, once it was."""
        return self.woken.setdefault(run, asyncio.get_running_loop().create_future())

    def memory_mb(self) -> float:
        """Resident memory (proc_pid_status(5), VmRSS)."""
        status = Path(f"/proc/{self.process.pid}/status").read_text(encoding="ascii")
        return int(status.partition("VmRSS:")[2].split()[0]) / 1024

    def cpu_s(self) -> float:
        """CPU used so far (proc_pid_stat(5), utime and stime)."""
        fields = Path(f"/proc/{self.process.pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / TICKS


@asynccontextmanager
async def elsewhere(stand: Stand, dsn: str, *options: str) -> AsyncIterator[Elsewhere]:
    """A worker for the length of the block; `options` are those of `bench.worker`."""
    began_s = time.monotonic()
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "bench.worker", dsn, str(stand.folder / "keys" / "sealing.json"), *options),
        cwd=ROOT,
        stdout=asyncio.subprocess.PIPE,
    )
    if process.stdout is None or not await process.stdout.readline():
        raise RuntimeError("the worker of the bench did not start")
    worker = Elsewhere(process, time.monotonic() - began_s)
    reading = asyncio.create_task(worker.read())
    try:
        yield worker
    finally:
        process.terminate()
        await process.wait()
        await reading


@dataclass(frozen=True)
class Parked:
    """What so many parked runs cost.

    Attributes:
        memory_mb: Of a worker with them, some seconds after its start.
        empty_memory_mb: Of a worker with an empty database.
        idle_cpu: Share of a core that a worker uses while they wait.
        restart_s: Seconds from starting the process until the worker is registered; Python's own start is in it.
        resume_s: From the decision's transaction until the next step began, for each woken run.
        timer_lag_s: From the instant they were all due until each run's next step began.
    """

    runs: int
    memory_mb: float
    empty_memory_mb: float
    idle_cpu: float
    restart_s: float
    resume_s: list[float]
    timers: int
    timer_lag_s: list[float]


async def parked(stand: Stand, number: int, timers: int, seed: int) -> Parked:
    """Park so many runs, look at the worker, wake some, then let timers of others come due together.

    Those that are woken were started and parked like any run; the others are copies of their rows.
    """
    chance = random.Random(seed)  # noqa: S311  repeatable
    empty_dsn = await stand.loaded()
    async with elsewhere(stand, empty_dsn) as empty:
        await asyncio.sleep(IDLE_S)
        empty_mb = empty.memory_mb()
    dsn = await stand.loaded()
    owner = stand.owner_of(dsn)
    async with stand.opened(owner) as database:
        async with elsewhere(stand, dsn):
            real = min(RESUMED, number) + timers
            keys = await _park(database, owner, real)
        await asyncio.to_thread(copy_parked, owner, number + timers - real)
        async with elsewhere(stand, dsn) as worker:
            cpu_s = worker.cpu_s()
            await asyncio.sleep(IDLE_S)
            idle, memory_mb = (worker.cpu_s() - cpu_s) / IDLE_S, worker.memory_mb()
            chosen = chance.sample(keys, real)
            resumed = [await _resume(database, worker, key) for key in chosen[timers:]]
            lags = await _let_timers_come(worker, owner, chosen[:timers])
            return Parked(number, memory_mb, empty_mb, idle, worker.ready_s, resumed, timers, lags)


async def _park(database: Database, dsn: str, number: int) -> list[RunKey]:
    engine, numbers, keys = PostgresEngine(database), itertools.count(), list[RunKey]()

    async def start() -> None:
        while (n := next(numbers)) < number:
            keys.append((await engine.start(request("wait", f"p{n}"))).key)

    await asyncio.gather(*(start() for _ in range(STARTERS)))
    async with asyncio.timeout(PATIENCE_S), await psycopg.AsyncConnection.connect(dsn, autocommit=True) as connection:
        while True:
            row = await (
                await connection.execute(
                    "select count(*) from regie.run r join regie.approval a on a.run = r.id "
                    "where a.status = 'open' and r.owner is null and r.ready_at is null"
                )
            ).fetchone()
            if row is not None and row[0] == number:
                return keys
            await asyncio.sleep(0.2)


COPIED: Mapping[str, tuple[str, Mapping[str, str]]] = MappingProxyType(
    {
        "regie.run": ("id", {"id": "twin.run", "trigger_key": "twin.run::text"}),
        "regie.step": ("run", {"run": "twin.run"}),
        "regie.timer": ("run", {"run": "twin.run"}),
        "regie.inbox": ("run", {"run": "twin.run"}),
        "regie.approval": ("run", {"run": "twin.run", "id": "gen_random_uuid()"}),
        "audit.intake": ("run_id", {"run_id": "twin.run", "entry_id": "gen_random_uuid()"}),
    }
)
"""Where a parked run has rows: the column that names it, and what is different in a copy."""


def copy_parked(dsn: str, number: int) -> None:
    """Copy the rows of parked runs until there are so many more.

    What is sealed in a copy is as large as in any run, but sealed for another one: it waits like the others and cannot
    be moved. Starting and parking 50,000 runs would take longer than all that is measured.
    """
    with psycopg.connect(dsn) as connection:
        connection.execute(
            """create temporary table twin on commit drop as
               select (array(select id from regie.run))[1 + n %% (select count(*) from regie.run)] as original,
                      gen_random_uuid() as run
               from generate_series(1, %s) as n""",
            [number],
        )
        connection.execute("analyze twin")
        for table, (column, changed) in COPIED.items():
            schema, _, name = table.partition(".")
            columns = [
                row[0]
                for row in connection.execute(
                    "select column_name from information_schema.columns where (table_schema, table_name) = (%s, %s) "
                    "and is_identity = 'NO'",
                    [schema, name],
                )
            ]
            connection.execute(
                sql.SQL("insert into {} ({}) select {} from {} o join twin on twin.original = o.{}").format(
                    sql.Identifier(schema, name),
                    sql.SQL(", ").join(map(sql.Identifier, columns)),
                    sql.SQL(", ").join(
                        sql.SQL(changed[each]) if each in changed else sql.Identifier("o", each) for each in columns
                    ),
                    sql.Identifier(schema, name),
                    sql.Identifier(column),
                )
            )


async def _resume(database: Database, worker: Elsewhere, key: RunKey) -> float:
    began_s = time.monotonic()
    approval = approvals.approval_id(key, "approval")
    async with database.transaction() as tx:
        await approvals.decide(tx, key, approval, person=APPROVER, decision="approved")
    woken_s = await asyncio.wait_for(worker.when(key.run), PATIENCE_S)
    await asyncio.sleep(PAUSE_S)
    return woken_s - began_s


async def _let_timers_come(worker: Elsewhere, dsn: str, keys: list[RunKey]) -> list[float]:
    """Make the timers of some runs due at one instant; how late each was."""
    ids = [key.run for key in keys]
    async with await psycopg.AsyncConnection.connect(dsn, autocommit=True) as connection:
        due_s = time.monotonic() + TIMERS_IN_S
        # One timer each: the last rung of the ladder, which ends the wait.
        await connection.execute(
            "update regie.timer set due_at = clock_timestamp() + make_interval(secs => %s) where run = any(%s::uuid[])",
            [due_s - time.monotonic(), ids],
        )
    async with asyncio.timeout(PATIENCE_S):
        return [await worker.when(run) - due_s for run in ids]
