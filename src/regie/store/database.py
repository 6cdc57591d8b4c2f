"""The database as the other rooms see it: transactions, hints, and errors of our own vocabulary.

Every process opens one `Database` when it starts. The functions of the other store modules take the `Transaction` that
it hands out, so a caller can put several of them into one transaction.
"""

import asyncio
import select
import time
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager, contextmanager, suppress
from datetime import datetime
from types import TracebackType
from typing import Any, Final, LiteralString, Self

import psycopg
from psycopg import AsyncConnection, AsyncCursor, IsolationLevel, pq, sql
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from psycopg.rows import DictRow, dict_row
from psycopg_pool import AsyncConnectionPool, PoolClosed, PoolTimeout

from regie.core.errors import InvalidInput, OutcomeUnknown, RegieError, Unavailable
from regie.core.release import Release
from regie.store import data_keys, migrating
from regie.store.keys import TENANT
from regie.store.sealer import SealBroken, Sealer
from regie.store.sending import Connection

CONNECTION = "connect_timeout=10 application_name=regie"
KEEPALIVES = "keepalives_idle=10 keepalives_interval=5 keepalives_count=3 tcp_user_timeout=30000"
"""A cut network is noticed in about half a minute, not in two hours."""
LIMITS = (
    "-c idle_in_transaction_session_timeout=60s -c lock_timeout=20s -c statement_timeout=60s "
    "-c client_connection_check_interval=1s"
)
"""No statement of ours takes long: what does is stuck, and must not keep others from their rows.

Nor does the server go on for whoever is gone: a cancellation that comes before its statement is lost on it.
"""
BY_KEY = (
    "-c enable_seqscan=off -c enable_bitmapscan=off -c enable_hashjoin=off -c enable_mergejoin=off "
    "-c plan_cache_mode=force_generic_plan"
)
"""For processes whose statements ask for a few rows by their keys, as they must not be planned otherwise.

A table that has never been analysed counts as small: the look for due timers read every run there was. And since there
is one way to carry such a statement out, it is planned once: planning a claim each time took as long as making it.
"""
KEYS_READ_EVERY_S: Final = 60.0
"""Seconds after which a process has learned of a data key that another one has made."""
KEYS_FORGOTTEN_S: Final = 300.0
"""Seconds without reading them after which all are read, and not only those of the last minutes."""
RELEASES_KEPT = 16
PROOF = b"regie"


class Sent:
    """A statement sent together with others; what came of it is known when `Transaction.together` is over."""

    def __init__(self, cursor: AsyncCursor[DictRow]) -> None:
        self._cursor = cursor

    @property
    def is_done(self) -> bool:
        """Whether it was carried out; if not, it or one before it failed."""
        return self._cursor.pgresult is not None

    @property
    def touched(self) -> int:
        """The number of rows it touched."""
        return self._cursor.rowcount

    async def rows(self) -> list[DictRow]:
        """All its rows."""
        return await self._cursor.fetchall()


class Transaction:
    """One transaction under way. Only store modules send statements with it; everybody else hands it to them.

    Whoever has it may ask it for the time.
    """

    def __init__(
        self, connection: AsyncConnection[DictRow], sealer: Sealer, releases: dict[str, Release], tenant: str = ""
    ) -> None:
        self.connection = connection
        self.sealer = sealer
        self.releases = releases
        """Releases read before, by digest; they never change."""
        self.doom: RegieError | None = None
        """Set when a part of what belongs together is missing: the transaction cannot be committed any more."""
        self._tenant = tenant
        self._is_begun = False

    async def rows(self, query: LiteralString, values: Mapping[str, object] | None = None) -> list[DictRow]:
        """Run a statement and give all its rows."""
        return await (await self._run(query, values)).fetchall()

    async def row(self, query: LiteralString, values: Mapping[str, object] | None = None) -> DictRow | None:
        """Run a statement and give its first row, if any."""
        return await (await self._run(query, values)).fetchone()

    async def rows_of_each(self, *statements: tuple[LiteralString, Mapping[str, object]]) -> list[list[DictRow]]:
        """Run several statements in one round trip, and give the rows of each."""
        with explained(self.connection):
            async with self.connection.pipeline():
                await self._begin()
                cursors = [await self.connection.execute(query, values) for query, values in statements]
            return [await cursor.fetchall() for cursor in cursors]

    async def clock(self) -> datetime:
        """The time by the database's clock, which goes on within a transaction."""
        [row] = await self.rows("select clock_timestamp() as at")
        at: datetime = row["at"]
        return at

    async def change(self, query: LiteralString, values: Mapping[str, object]) -> int:
        """Run a statement and give the number of rows it touched; -1 inside `together()`."""
        return (await self._run(query, values)).rowcount

    async def send(self, query: LiteralString, values: Mapping[str, object] | None = None) -> Sent:
        """Run a statement inside `together()` whose answer is looked at behind it."""
        return Sent(await self._run(query, values))

    async def change_each(self, query: LiteralString, values: Sequence[Mapping[str, object]]) -> None:
        """Run a statement once for each set of values, in one round trip."""
        if values:
            with explained(self.connection):
                async with self.connection.pipeline():
                    await self._begin()
                    await self.connection.cursor().executemany(query, values)

    @asynccontextmanager
    async def together(self, *, is_last: bool = False) -> AsyncIterator[None]:
        """Send the statements inside without waiting for each answer; an error shows at the end.

        Args:
            is_last: Commit with them, in the same round trip. What comes behind is a transaction of its own.

        Raises:
            OutcomeUnknown: The connection was lost while committing with them.
        """
        with explained(self.connection):
            async with self.connection.pipeline():
                await self._begin()
                yield
                if is_last:
                    await self.commit()

    async def commit(self) -> None:
        """Make it so; `Database.transaction` does at its end. What comes behind is a transaction of its own."""
        _require_whole(self)
        await _commit(self.connection, may_have_written=not self.connection.read_only)
        self._is_begun = False

    async def _run(self, query: LiteralString, values: Mapping[str, object] | None) -> AsyncCursor[DictRow]:
        with explained(self.connection):
            if self._is_begun:
                return await self.connection.execute(query, values)
            # The first statement takes along what begins the transaction.
            async with self.connection.pipeline():
                await self._begin()
                return await self.connection.execute(query, values)

    async def _begin(self) -> None:
        """Say whose rows it is about, until it ends; inside a pipeline, in front of the first statement."""
        if self._tenant and not self._is_begun:
            await self.connection.execute("select set_config(%s, %s, true)", [TENANT, self._tenant])
        # Where each statement is committed by itself the next one begins anew.
        self._is_begun = not (self._tenant and self.connection.autocommit)


class Listener:
    """Hears hints on a connection of its own."""

    def __init__(self, connection: AsyncConnection[DictRow]) -> None:
        self._connection = connection

    async def wait(self, timeout_s: float) -> set[str]:
        """Wait for hints and give their payloads; none when the time is over.

        Raises:
            Unavailable: The connection is gone, and with it every hint and lock it had.
        """
        with explained(self._connection):
            return {hint.payload async for hint in self._connection.notifies(timeout=timeout_s, stop_after=1)}


class Database:
    """One process's way to the database.

    Args:
        dsn: Connection string of the role that owns the tables.
        sealer: Seals what must not be readable there.
        max_connections: Most connections of its pool.
        wait_s: Seconds to wait for a free connection, or for a database that is away.
        by_key: Whether every statement asks for rows by their keys, as those of workers and gateway do.
    """

    def __init__(
        self, dsn: str, sealer: Sealer, *, max_connections: int = 10, wait_s: float = 10.0, by_key: bool = False
    ) -> None:
        self._dsn = make_conninfo(dsn, **conninfo_to_dict(f"{CONNECTION} {KEEPALIVES}"))
        self._sealer = sealer.at(self._dsn)
        self._keys_read_at: dict[str, float] = {}
        self._is_checked = False
        self._wait_s = wait_s
        self._releases = _Releases()
        self._pool: AsyncConnectionPool[AsyncConnection[DictRow]] = AsyncConnectionPool(
            make_conninfo(self._dsn, options=f"{LIMITS} {BY_KEY}" if by_key else LIMITS),
            connection_class=Connection,
            kwargs={"row_factory": dict_row},
            min_size=1,
            max_size=max_connections,
            timeout=wait_s,
            check=_check_alive,
            open=False,
        )

    async def open(self) -> None:
        """Connect, and make sure that tables and sealing key are the ones this code and this installation have.

        Raises:
            Unavailable: The database does not answer.
            migrating.MigrationRefused: It is older or newer than this code.
            SealBroken: What is stored was sealed with another key file.
        """
        try:
            await self._pool.open(wait=True, timeout=self._wait_s)
            async with self.transaction() as tx:
                await migrating.check(tx.connection)
                await self._prove_key(tx)
            self._is_checked = True
            await self._learn_keys()
        except PoolTimeout:
            await self.close()
            raise Unavailable("The database does not answer.", hint="Is it running? Try: regie up") from None
        except BaseException:
            await self.close()
            raise

    async def close(self) -> None:
        """Close every connection."""
        await self._pool.close()

    async def __aenter__(self) -> Self:
        await self.open()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    def transaction(self, tenant: str = "") -> AbstractAsyncContextManager[Transaction]:
        """A transaction: committed at the end of the block, rolled back when anything is raised in it.

        Args:
            tenant: Whose rows it is about. The gateway's login sees no others, and none of any tenant without it.

        Raises:
            Unavailable: The database does not answer or asks to try again; nothing happened.
            OutcomeUnknown: The connection was lost while committing; read again what the transaction was about.
            InvalidInput: A value cannot be stored, such as a text with a zero character.
        """
        return self._transact(tenant, read_only=False)

    def reading(self, tenant: str = "") -> AbstractAsyncContextManager[Transaction]:
        """A transaction that cannot write, for lists and pages; never `OutcomeUnknown`.

        All of it sees the same moment: a run's row, its state and its steps fit together.

        Args:
            tenant: As for `transaction`.
        """
        return self._transact(tenant, read_only=True)

    @asynccontextmanager
    async def glance(self, tenant: str = "") -> AsyncIterator[Transaction]:
        """For a statement that only reads: each sees its own moment, so nothing need be begun and ended for it.

        Args:
            tenant: As for `transaction`.
        """
        await self._learn_keys(tenant)
        async with self._glance(tenant) as tx:
            yield tx

    @asynccontextmanager
    async def listen(self, channel: LiteralString) -> AsyncIterator[Listener]:
        """Hear hints on a channel, on a connection of its own, until the end of the block."""
        async with self.apart() as connection:
            with explained(connection):
                await connection.execute(sql.SQL("listen {}").format(sql.Identifier(channel)))
            yield Listener(connection)

    @asynccontextmanager
    async def apart(self) -> AsyncIterator[AsyncConnection[DictRow]]:
        """A connection outside the pool, committing each statement: for session locks and hints."""
        connection = await self.connect_apart()
        try:
            yield connection
        finally:
            await connection.close()

    async def connect_apart(self) -> AsyncConnection[DictRow]:
        """The same for whoever keeps it longer than a block, and closes it.

        Raises:
            Unavailable: The database does not answer.
        """
        with explained(None):
            return await Connection.connect(self._dsn, autocommit=True, row_factory=dict_row)

    @asynccontextmanager
    async def _connection(self) -> AsyncIterator[AsyncConnection[DictRow]]:
        """A connection of the pool."""
        try:
            connection = await self._pool.getconn()
        except PoolTimeout:
            raise Unavailable(f"No connection to the database within {self._wait_s:.0f} s.") from None
        except PoolClosed:
            raise Unavailable("This process has closed its database.") from None
        try:
            yield connection
        finally:
            # Whoever is cancelled once more while giving it back must not take it along.
            await asyncio.shield(self._pool.putconn(connection))

    @asynccontextmanager
    async def _glance(self, tenant: str) -> AsyncIterator[Transaction]:
        async with self._connection() as connection:
            await connection.set_autocommit(True)
            try:
                yield Transaction(connection, self._sealer, self._releases, tenant)
            finally:
                # One that was cut off in between does not go back into the pool.
                if connection.info.transaction_status is pq.TransactionStatus.IDLE:
                    await connection.set_autocommit(False)

    async def _learn_keys(self, tenant: str = "") -> None:
        """Read data keys ahead, so that sealing and opening need not ask for them.

        Args:
            tenant: Whose; everybody's that this login sees when it is empty.
        """
        read_at = self._keys_read_at.get(tenant)
        now = time.monotonic()
        if not self._is_checked or (read_at is not None and now < read_at + KEYS_READ_EVERY_S):
            return
        is_long_ago = read_at is None or now > read_at + KEYS_FORGOTTEN_S
        self._keys_read_at[tenant] = now
        try:
            async with self._glance(tenant) as tx:
                rows = await tx.rows(data_keys.READ_AHEAD, {"tenant": tenant, "all": is_long_ago})
        except BaseException:
            self._keys_read_at.pop(tenant, None)
            raise
        self._sealer.data_keys.learn(rows)

    @asynccontextmanager
    async def _transact(self, tenant: str, *, read_only: bool) -> AsyncIterator[Transaction]:
        await self._learn_keys(tenant)
        async with self._connection() as connection:
            kind = (read_only or None, IsolationLevel.REPEATABLE_READ if read_only else None)
            # Mostly it is of that kind already, and telling the driver costs as much as a question to the database.
            if (connection.read_only, connection.isolation_level) != kind:
                await connection.set_read_only(kind[0])
                await connection.set_isolation_level(kind[1])
            tx = Transaction(connection, self._sealer, self._releases, tenant)
            try:
                yield tx
                if connection.info.transaction_status is not pq.TransactionStatus.IDLE or tx.doom is not None:
                    await tx.commit()
            except BaseException:
                with suppress(psycopg.Error):
                    await connection.rollback()
                raise

    async def _prove_key(self, tx: Transaction) -> None:
        address = {"tenant": "", "domain": "", "table": "sealing_key.proof", "pk": str(self._sealer.current)}
        find: LiteralString = "select proof from regie.sealing_key where key_id = %(id)s"
        row = await tx.row(find, {"id": self._sealer.current})
        if row is None:
            await tx.change(
                "insert into regie.sealing_key (key_id, proof) values (%(id)s, %(proof)s) on conflict do nothing",
                {"id": self._sealer.current, "proof": self._sealer.seal(PROOF, **address)},
            )
            row = await tx.row(find, {"id": self._sealer.current})
        try:
            if row is not None and self._sealer.open(row["proof"], **address) == PROOF:
                return
        except SealBroken:
            pass
        raise SealBroken(
            "The key file does not belong to this database.",
            hint="Restore the key file it was made with; without it nothing stored can be read.",
        )


class _Releases(dict[str, Release]):
    """The releases read last, by digest; the oldest makes room."""

    def __setitem__(self, digest: str, release: Release) -> None:
        while len(self) >= RELEASES_KEPT:
            del self[next(iter(self))]
        super().__setitem__(digest, release)


@contextmanager
def explained(connection: AsyncConnection[Any] | None) -> Iterator[None]:
    """Turn the driver's errors into ours. What is left is a mistake of ours and stays as it is."""
    try:
        yield
    except psycopg.Error as error:
        if isinstance(error, psycopg.OperationalError) or (connection is not None and connection.closed):
            # The message of the server may quote a row; the code says enough.
            raise Unavailable(f"The database cannot do this now ({migrating.reason_of(error)}).") from error
        if isinstance(error, psycopg.DataError):
            raise InvalidInput(f"The database cannot store a value ({migrating.reason_of(error)}).") from error
        raise


def _require_whole(tx: Transaction) -> None:
    """Refuse to commit a transaction of which a part failed, even when somebody caught that error.

    PostgreSQL answers COMMIT with ROLLBACK then, and the driver lets that pass.
    """
    if tx.doom is not None:
        raise tx.doom
    if tx.connection.info.transaction_status is pq.TransactionStatus.INERROR:
        raise Unavailable("A statement of the transaction failed, so all of it was rolled back.")


async def _commit(connection: AsyncConnection[DictRow], *, may_have_written: bool) -> None:
    idle = connection.info.transaction_status is pq.TransactionStatus.IDLE
    try:
        await connection.commit()
    except psycopg.Error as error:
        if connection.closed and may_have_written and not idle:
            raise OutcomeUnknown(
                "The connection to the database was lost while committing.",
                hint="Read again what the transaction was about.",
            ) from error
        with explained(connection):
            raise


async def _check_alive(connection: AsyncConnection[DictRow]) -> None:
    """Before a pooled connection is used: an idle one with something to read has usually been closed by the server.

    Raises:
        psycopg.OperationalError: It is gone; the pool replaces it.
    """
    readable = select.poll()
    readable.register(connection.fileno(), select.POLLIN | select.POLLHUP | select.POLLERR)
    if readable.poll(0):
        await AsyncConnectionPool.check_connection(connection)
