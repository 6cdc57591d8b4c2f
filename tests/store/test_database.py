"""Transactions end as they say, and what goes wrong has a name of our own vocabulary."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import psycopg
import pytest
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from regie.core.errors import FencedOut, InvalidInput, OutcomeUnknown, Unavailable
from regie.core.status import RunStatus
from regie.store import commits, runs
from regie.store.claims import Claimed
from regie.store.commits import StepCommit
from regie.store.database import LIMITS, Database
from regie.store.keys import RunKey
from regie.store.migrating import MigrationRefused, migrate
from regie.store.runs import NewRun
from regie.store.sealer import SealBroken, Sealer

pytestmark = pytest.mark.slow

Start = Callable[..., Awaitable[RunKey]]
Claim = Callable[..., Awaitable[Claimed]]
MakeNew = Callable[..., NewRun]


class Line:
    """A line to the server that can be cut at a COMMIT: before the server hears it, or before its answer is heard."""

    def __init__(self, server: str) -> None:
        self._server = server
        self._writers: list[asyncio.StreamWriter] = []
        self.cut = ""
        self.was_cut = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        up_reader, up_writer = await asyncio.open_unix_connection(self._server)
        self._writers += [writer, up_writer]
        is_cut = False

        async def upwards() -> None:
            nonlocal is_cut
            while data := await reader.read(65536):
                if self.cut and b"COMMIT" in data:
                    is_cut = True
                    self.was_cut += 1
                    if self.cut == "before":
                        break
                up_writer.write(data)
                await up_writer.drain()
            if not is_cut or self.cut == "before":
                up_writer.close()

        async def downwards() -> None:
            while data := await up_reader.read(65536):
                if is_cut:
                    break
                writer.write(data)
                await writer.drain()
            writer.close()
            up_writer.close()

        await asyncio.gather(upwards(), downwards(), return_exceptions=True)

    async def close(self) -> None:
        for writer in self._writers:
            writer.close()
        await asyncio.gather(*(writer.wait_closed() for writer in self._writers), return_exceptions=True)


@asynccontextmanager
async def fragile(database_url: str, sealer: Sealer, folder: Path) -> AsyncIterator[tuple[Database, Line]]:
    """A database behind such a line."""
    given = conninfo_to_dict(database_url)
    port = given.get("port", 5432)
    line = Line(f"{given['host']}/.s.PGSQL.{port}")
    server = await asyncio.start_unix_server(line.serve, folder / f".s.PGSQL.{port}")
    try:
        async with Database(make_conninfo(database_url, host=str(folder)), sealer, wait_s=5) as database:
            yield database, line
    finally:
        server.close()
        await line.close()


@pytest.mark.parametrize("cut", ["before", "after"])
async def test_a_commit_without_an_answer_is_unknown_and_can_be_settled(
    *,
    database: Database,
    database_url: str,
    sealer: Sealer,
    start: Start,
    claim: Claim,
    tmp_path: Path,
    cut: str,
) -> None:
    key = await start()
    held = await claim()
    async with fragile(database_url, sealer, tmp_path) as (other, line):
        line.cut = cut
        with pytest.raises(OutcomeUnknown):
            async with other.transaction() as tx:
                await commits.commit(tx, held.claim, StepCommit(state_json='{"at": 1}', status=RunStatus.RUNNING))
        line.cut = ""
        async with other.reading() as tx:
            happened = await commits.was_committed(tx, held.claim)
    assert line.was_cut == 1
    assert happened is (cut == "after")
    async with database.transaction() as tx:
        assert await runs.state_of(tx, key) == ('{"at": 1}' if happened else '{"at": 0}')
        with pytest.raises(FencedOut):
            await commits.was_committed(tx, held.claim._replace(fence=9))


@pytest.mark.parametrize("cut", ["before", "after"])
async def test_a_start_without_an_answer_is_repeated_safely(
    *, database_url: str, sealer: Sealer, start: Start, make_new: MakeNew, tmp_path: Path, cut: str
) -> None:
    # The first run of a tenant in a domain makes their data key, which is not what is looked at here.
    await start()
    new = make_new(trigger="hook:1")
    async with fragile(database_url, sealer, tmp_path) as (database, line):
        line.cut = cut
        with pytest.raises(OutcomeUnknown):
            async with database.transaction() as tx:
                await runs.start(tx, new)
        line.cut = ""
        async with database.transaction() as tx:
            assert await runs.start(tx, new) == runs.Started(new.key, is_new=cut == "before")


@pytest.mark.parametrize("bytes_", [600_000, 2_000_000, 12_000_000])
async def test_however_large_a_state_is_it_is_written(
    database: Database, start: Start, claim: Claim, bytes_: int
) -> None:
    key, state = await start(), json.dumps({"output": "ü" * (bytes_ // 2)}, ensure_ascii=False)
    held = await claim()
    written = StepCommit(state_json=state, status=RunStatus.RUNNING)
    async with asyncio.timeout(30), database.transaction() as tx:
        await commits.commit_all(tx, [(held.claim, written)], is_last=True)
    async with database.reading() as tx:
        assert await runs.state_of(tx, key) == state


async def test_reading_is_never_unknown(database_url: str, sealer: Sealer, tmp_path: Path) -> None:
    async with fragile(database_url, sealer, tmp_path) as (database, line):
        line.cut = "after"
        with pytest.raises(Unavailable):
            async with database.reading() as tx:
                await tx.row("select 1 as one")


async def test_reading_cannot_write(database: Database, start: Start) -> None:
    key = await start()
    with pytest.raises(psycopg.errors.ReadOnlySqlTransaction):
        async with database.reading() as tx:
            await tx.change("delete from regie.run where id = %(run)s", {"run": key.run})
    async with database.transaction() as tx:
        assert await tx.change("update regie.run set prio = 1 where id = %(run)s", {"run": key.run}) == 1


async def test_an_error_in_the_block_rolls_back(database: Database, make_new: MakeNew) -> None:
    new = make_new()

    async def fail() -> None:
        async with database.transaction() as tx:
            await runs.start(tx, new)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await fail()
    async with database.reading() as tx:
        assert await runs.get(tx, new.key) is None


async def test_a_swallowed_database_error_is_not_taken_for_a_commit(database: Database, make_new: MakeNew) -> None:
    new = make_new()

    async def swallow() -> None:
        async with database.transaction() as tx:
            await runs.start(tx, new)
            with pytest.raises(InvalidInput):
                await tx.row("select 'x'::uuid")

    with pytest.raises(Unavailable):
        await swallow()
    async with database.reading() as tx:
        assert await runs.get(tx, new.key) is None


async def test_a_cancelled_transaction_rolls_back(database: Database, make_new: MakeNew) -> None:
    new = make_new()
    inside = asyncio.Event()

    async def endless() -> None:
        async with database.transaction() as tx:
            await runs.start(tx, new)
            inside.set()
            await tx.row("select pg_sleep(600)")

    task = asyncio.create_task(endless())
    await inside.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    async with database.reading() as tx:
        assert await runs.get(tx, new.key) is None


async def test_the_server_does_not_go_on_for_whoever_is_gone(database_url: str, postgres_dsn: str) -> None:
    """As when a process is killed, or a cancellation comes to the server before the statement that it is about."""
    with psycopg.connect(database_url, options=LIMITS) as gone:
        pid = gone.info.backend_pid
        gone.pgconn.send_query(b"select pg_sleep(600)")
        gone.pgconn.flush()
        with psycopg.connect(postgres_dsn, autocommit=True) as admin:
            busy = "select from pg_stat_activity where pid = %s and wait_event = 'PgSleep'"
            await until(lambda: admin.execute(busy, [pid]).fetchone() is not None)
            gone.pgconn.finish()
            await until(lambda: admin.execute("select from pg_stat_activity where pid = %s", [pid]).fetchone() is None)


async def until(holds: Callable[[], bool]) -> None:
    async with asyncio.timeout(20):
        while not holds():  # noqa: ASYNC110  what is waited for is in a server
            await asyncio.sleep(0.02)


async def test_what_cannot_be_stored_is_refused(database: Database, make_new: MakeNew) -> None:
    with pytest.raises(InvalidInput) as caught:
        async with database.transaction() as tx:
            await runs.start(tx, make_new(ticket="secret\x00"))
    assert "secret" not in str(caught.value)


async def test_connections_that_died_are_replaced_without_notice(database: Database, postgres_dsn: str) -> None:
    async with database.reading() as tx:
        row = await tx.row("select current_database() as name")
    assert row is not None
    async with await psycopg.AsyncConnection.connect(postgres_dsn, autocommit=True) as admin:
        await admin.execute(
            "select pg_terminate_backend(pid, 5000) from pg_stat_activity where datname = %s", [row["name"]]
        )
    for _ in range(3):
        async with database.reading() as tx:
            assert await tx.row("select 1 as one") == {"one": 1}


async def test_a_connection_lost_in_the_middle_is_unavailable(
    database: Database, postgres_dsn: str, make_new: MakeNew
) -> None:
    new = make_new()

    async def lose() -> None:
        async with database.transaction() as tx:
            await runs.start(tx, new)
            row = await tx.row("select pg_backend_pid() as pid")
            assert row is not None
            async with await psycopg.AsyncConnection.connect(postgres_dsn, autocommit=True) as admin:
                await admin.execute("select pg_terminate_backend(%s, 5000)", [row["pid"]])
            await tx.row("select 1 as one")

    with pytest.raises(Unavailable):
        await lose()
    async with database.reading() as tx:
        assert await runs.get(tx, new.key) is None


async def test_a_listener_says_when_its_connection_is_gone(database: Database, postgres_dsn: str) -> None:
    async with database.listen("regie_ready") as listener:
        assert await listener.wait(0.01) == set()
        waiting = asyncio.create_task(listener.wait(30))
        async with await psycopg.AsyncConnection.connect(postgres_dsn, autocommit=True) as admin:
            await admin.execute("select pg_terminate_backend(pid) from pg_stat_activity where query ilike 'listen %'")
        with pytest.raises(Unavailable):
            await waiting


async def test_a_listener_outlives_a_cancelled_wait(database: Database) -> None:
    async with database.listen("regie_ready") as listener:
        waiting = asyncio.create_task(listener.wait(30))
        await asyncio.sleep(0)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        async with database.transaction() as tx:
            await tx.row("select pg_notify('regie_ready', 'hr')")
        assert await listener.wait(5) == {"hr"}


async def test_no_server_is_unavailable(sealer: Sealer, tmp_path: Path) -> None:
    with pytest.raises(Unavailable):
        await Database(f"host={tmp_path} dbname=regie", sealer, wait_s=0.2).open()
    with pytest.raises(Unavailable):
        await migrate(f"host={tmp_path} dbname=regie")


async def test_a_busy_pool_is_unavailable(database_url: str, sealer: Sealer) -> None:
    async with Database(database_url, sealer, max_connections=1, wait_s=0.1) as database, database.reading():
        with pytest.raises(Unavailable):
            async with database.reading():
                pytest.fail("there is only one connection")


async def test_a_closed_database_is_unavailable(database_url: str, sealer: Sealer) -> None:
    database = Database(database_url, sealer)
    await database.open()
    await database.close()
    with pytest.raises(Unavailable):
        async with database.reading():
            pytest.fail("it is closed")


async def test_another_key_file_is_refused(database: Database, database_url: str, tmp_path: Path) -> None:
    with pytest.raises(SealBroken, match="does not belong"):
        await Database(database_url, Sealer.from_file(tmp_path / "other.json")).open()


async def test_a_database_without_tables_is_refused(sealer: Sealer, postgres_dsn: str) -> None:
    with pytest.raises(MigrationRefused, match="0001_"):
        await Database(postgres_dsn, sealer).open()


async def test_everything_read_in_one_go_is_of_the_same_moment(database: Database) -> None:
    """Else a page shows a run that is over and still running."""
    async with database.transaction() as tx:
        await tx.change("create table moment (n int)", {})
        await tx.change("insert into moment values (1)", {})
    async with database.reading() as reader:
        before = await reader.row("select n from moment", {})
        async with database.transaction() as tx:
            await tx.change("update moment set n = 2", {})
        assert await reader.row("select n from moment", {}) == before
    async with database.reading() as reader:
        assert await reader.row("select n from moment", {}) != before
