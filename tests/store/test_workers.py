"""A dead worker's runs go to others within moments, a silent one's too, and neither can write any more."""

from __future__ import annotations

import asyncio
import sys
import textwrap
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

import psycopg
import pytest

from regie.core.errors import FencedOut, Unavailable
from regie.core.status import RunStatus
from regie.store import claims, commits, runs, surroundings, workers
from regie.store.claims import Claimed
from regie.store.commits import StepCommit
from regie.store.database import Database
from regie.store.keys import READY, RunKey
from regie.store.workers import Worker

pytestmark = pytest.mark.slow

Start = Callable[..., Awaitable[RunKey]]
Claim = Callable[..., Awaitable[Claimed]]


async def rescue(database: Database) -> list[RunKey]:
    async with database.transaction() as tx:
        return await workers.rescue(tx)


async def test_a_living_worker_keeps_its_runs(database: Database, start: Start, claim: Claim, worker: Worker) -> None:
    await start()
    held = await claim()
    assert await rescue(database) == []
    async with database.transaction() as tx:
        await workers.beat(tx, worker.id)
        (row,) = await workers.list_workers(tx)
        await commits.commit(tx, held.claim, StepCommit(state_json="{}", status=RunStatus.RUNNING))
    assert (row.id, row.name, row.domains) == (worker.id, "w1", ("identity",))


async def test_a_worker_hears_of_ready_runs(worker: Worker, start: Start) -> None:
    await start()
    assert await worker.wait(5) == {"identity"}


async def test_a_worker_that_lost_its_lock_loses_its_runs(
    *, database: Database, database_url: str, start: Start, claim: Claim, worker: Worker, postgres_dsn: str
) -> None:
    key = await start()
    held = await claim()
    assert await worker.wait(5) == {"identity"}
    waiting = asyncio.create_task(worker.wait(30))
    async with await psycopg.AsyncConnection.connect(postgres_dsn, autocommit=True) as admin:
        await admin.execute(
            """select pg_terminate_backend(l.pid, 5000) from pg_locks l join pg_database d on d.oid = l.database
               where l.locktype = 'advisory' and d.datname = %s""",
            [psycopg.conninfo.conninfo_to_dict(database_url)["dbname"]],
        )
    with pytest.raises(Unavailable):
        await waiting
    async with database.listen(READY) as listener:
        assert await rescue(database) == [key]
        assert await listener.wait(5) == {"identity"}
    await _is_out(database, held, worker)


async def test_a_silent_worker_loses_its_runs(database: Database, start: Start, claim: Claim, worker: Worker) -> None:
    key = await start()
    held = await claim()
    async with database.transaction() as tx:
        await tx.change(
            "update regie.worker set beat_at = beat_at - make_interval(secs => %(s)s)", {"s": workers.SILENT_AFTER_S}
        )
    assert await rescue(database) == [key]
    await _is_out(database, held, worker)


async def _is_out(database: Database, held: Claimed, worker: Worker) -> None:
    async with database.transaction() as tx:
        with pytest.raises(FencedOut):
            await workers.beat(tx, worker.id)
        with pytest.raises(FencedOut):
            await commits.commit(tx, held.claim, StepCommit(state_json="{}", status=RunStatus.RUNNING))
        with pytest.raises(FencedOut):
            await claims.park(tx, held.claim, 0)
        with pytest.raises(FencedOut):
            await surroundings.asked(tx, held.claim.key, held.claim.fence, [])
        assert (await claims.take(tx, worker.id, ["identity"], 1)).runs == []
    async with workers.registered(database, name="w2", domains=["identity"]) as other, database.transaction() as tx:
        (again,) = (await claims.take(tx, other.id, ["identity"], 1)).runs
    assert again.claim.key == held.claim.key
    assert again.claim.fence > held.claim.fence


async def test_a_worker_that_leaves_hands_its_runs_over_at_once(database: Database, start: Start) -> None:
    key = await start()
    async with workers.registered(database, name="w1", domains=["identity"]) as first, database.transaction() as tx:
        assert len((await claims.take(tx, first.id, ["identity"], 1)).runs) == 1
    async with database.reading() as tx:
        assert await workers.list_workers(tx) == []
        row = await runs.get(tx, key)
    assert row is not None
    assert row.owner is None
    async with workers.registered(database, name="w2", domains=["identity"]) as second, database.transaction() as tx:
        assert len((await claims.take(tx, second.id, ["identity"], 1)).runs) == 1


async def test_a_killed_process_is_noticed_within_moments(
    database: Database, database_url: str, start: Start, tmp_path: Path
) -> None:
    keys = {await start() for _ in range(5)}
    program = textwrap.dedent(
        """
        import asyncio, sys
        from pathlib import Path
        from regie.store import claims, workers
        from regie.store.database import Database
        from regie.store.sealer import Sealer

        async def main():
            async with Database(sys.argv[1], Sealer.from_file(Path(sys.argv[2]))) as database:
                async with workers.registered(database, name="doomed", domains=["identity"]) as worker:
                    async with database.transaction() as tx:
                        (await claims.take(tx, worker.id, ["identity"], 5)).runs
                    print("holding", flush=True)
                    await asyncio.sleep(600)

        asyncio.run(main())
        """
    )
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-c",
        program,
        database_url,
        str(tmp_path / "keys" / "sealing.json"),
        stdout=asyncio.subprocess.PIPE,
    )
    assert process.stdout is not None
    assert await process.stdout.readline() == b"holding\n"
    assert await rescue(database) == []
    process.kill()
    killed = time.monotonic()
    rescued: list[RunKey] = []
    while not rescued and time.monotonic() - killed < 10:
        rescued = await rescue(database)
        await asyncio.sleep(0.01)
    took_s = time.monotonic() - killed
    await process.wait()
    assert set(rescued) == keys
    assert took_s < 5
