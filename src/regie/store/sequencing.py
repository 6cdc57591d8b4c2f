"""How the notary takes leaves in: one transaction from the intake to the logs, under a role that may do nothing else.

What is deleted from the intake is what was seen there, so a leaf whose transaction commits late is taken in late and
never skipped, as it would be by whoever remembers the last number. Only the notary calls it.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import LiteralString
from uuid import UUID

from psycopg import AsyncConnection
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from psycopg.rows import dict_row

from regie.core.audit import leaf_hash
from regie.core.errors import Unavailable
from regie.core.merkle import EMPTY_ROOT, Edge, Span, TilePlace
from regie.core.signed_note import Checkpoint, SignedNote
from regie.store import logs, migrating
from regie.store.attesting import Attesters
from regie.store.database import CONNECTION, KEEPALIVES, LIMITS, explained
from regie.store.logs import ANCHOR, Connection

LOCK = 7_238_415_004
"""Advisory lock of whoever sequences; any number that nothing else uses."""
AT_ONCE = 10_000
"""Leaves in one transaction: 500 are a third as fast (measured), many more hold memory and locks for long."""


@dataclass(frozen=True)
class Taken:
    """A leaf from the intake, or one that the notary itself writes into the anchor log."""

    log_id: int
    entry_id: str
    run: str | None
    run_seq: int | None
    leaf: bytes
    at: datetime

    @property
    def hash(self) -> bytes:
        """RFC 6962 leaf hash, 32 bytes."""
        return leaf_hash(self.leaf)


@dataclass(frozen=True)
class Standing:
    """A log before a turn: its name, its newest checkpoint's size and root, and how many leaves it holds."""

    log_id: int
    origin: str
    size: int
    root: bytes
    leaves: int


@dataclass(frozen=True)
class Grown:
    """What becomes of one log in a turn."""

    log_id: int
    first: int
    leaves: Sequence[Taken]
    tiles: Sequence[tuple[TilePlace, bytes]]
    checkpoint: Checkpoint
    note: SignedNote
    anchor_idx: int | None


_WRITE_LEAVES: LiteralString = """
    insert into audit.leaf (log_id, idx, entry_id, run_id, run_seq, leaf, leaf_hash, at)
    select * from unnest(%b::int4[], %b::int8[], %b::uuid[], %b::uuid[], %b::int4[], %b::bytea[], %b::bytea[],
                         %b::timestamptz[])"""


class Turn:
    """One transaction of the notary."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    async def take(self, limit: int = AT_ONCE) -> list[Taken]:
        """Take leaves out of the intake, the oldest first; one that a log holds already is not given again."""
        cursor = await self._connection.execute(
            """with taken as (
                   delete from audit.intake
                   where ctid = any(array(select ctid from audit.intake order by at, run_seq limit %s))
                   returning log_id, entry_id, run_id, run_seq, leaf, at)
               select * from taken t where not exists (select from audit.leaf l where l.entry_id = t.entry_id)
               order by at, run_seq""",
            [limit],
        )
        return [
            Taken(row["log_id"], str(row["entry_id"]), row["run_id"], row["run_seq"], bytes(row["leaf"]), row["at"])
            for row in await cursor.fetchall()
        ]

    async def logs(self, log_ids: Sequence[int]) -> dict[int, Standing]:
        """How some logs stand."""
        cursor = await self._connection.execute(
            """select l.log_id, l.origin, coalesce(c.size, 0) as size, coalesce(c.root, %s) as root,
                      coalesce((select max(idx) + 1 from audit.leaf f where f.log_id = l.log_id), 0) as leaves
               from audit.log l left join lateral (
                   select size, root from audit.checkpoint c where c.log_id = l.log_id order by size desc limit 1
               ) c on true
               where l.log_id = any(%s)""",
            [EMPTY_ROOT, list(log_ids)],
        )
        return {row["log_id"]: Standing(**row) for row in await cursor.fetchall()}

    async def anchor(self) -> tuple[int, str]:
        """Number and name of the anchor log."""
        cursor = await self._connection.execute(
            "select log_id, origin from audit.log where (tenant, domain) = (%s, %s)", ANCHOR
        )
        row = await cursor.fetchone()
        if row is None:
            raise Unavailable("The database has no anchor log.", hint="Migrate it first.")
        return row["log_id"], row["origin"]

    async def edge(self, log_id: int, size: int) -> Edge:
        """What a log needs to grow on."""
        return await logs.edge_of(self._connection, log_id, size)

    async def now(self) -> datetime:
        """The database's clock."""
        cursor = await self._connection.execute("select clock_timestamp() as at")
        row = await cursor.fetchone()
        if row is None:
            raise Unavailable("The database does not tell the time.")
        at: datetime = row["at"]
        return at

    async def keys(self) -> dict[bytes, tuple[int, datetime]]:
        """The public keys that have signed here, with the size of the anchor log and the time of their beginning."""
        cursor = await self._connection.execute(
            "select public, from_size, at from audit.signing_key order by from_size"
        )
        return {bytes(row["public"]): (row["from_size"], row["at"]) for row in await cursor.fetchall()}

    async def add_key(self, public: bytes, from_size: int) -> None:
        """Remember a public key."""
        await self._connection.execute(
            "insert into audit.signing_key (public, from_size) values (%s, %s)", [public, from_size]
        )

    async def write(self, grown: Sequence[Grown]) -> None:
        """Write what became of logs."""
        leaves = [
            (log.log_id, idx, UUID(each.entry_id), each.run, each.run_seq, each.leaf, each.hash, each.at)
            for log in grown
            for idx, each in enumerate(log.leaves, start=log.first)
        ]
        async with self._connection.cursor() as cursor:
            if leaves:
                # In columns: COPY, which is as fast, is refused where rows have walls.
                await cursor.execute(_WRITE_LEAVES, [list(column) for column in zip(*leaves, strict=True)])
            tiles = [(log.log_id, *place, data) for log in grown for place, data in log.tiles]
            if tiles:
                await cursor.executemany(
                    "insert into audit.tile (log_id, level, n, data) values (%s, %s, %s, %s)", tiles
                )
            await cursor.executemany(
                "insert into audit.checkpoint (log_id, size, root, note, anchor_idx) values (%s, %s, %s, %s, %s)",
                [
                    (log.log_id, log.checkpoint.size, log.checkpoint.root, str(log.note), log.anchor_idx)
                    for log in grown
                ],
            )

    async def checkpoint(self, log_id: int) -> tuple[int, SignedNote] | None:
        """Size and note of the newest checkpoint of a log."""
        cursor = await self._connection.execute(
            "select size, note from audit.checkpoint where log_id = %s order by size desc limit 1", [log_id]
        )
        row = await cursor.fetchone()
        return None if row is None else (row["size"], SignedNote.parse(row["note"]))

    async def consistency(self, log_id: int, size: int, spans: Sequence[Span]) -> list[bytes]:
        """The hashes that prove how a log continues."""
        return await logs.proof(self._connection, log_id, size, spans)

    async def cosigned(self, anchor_size: int, witness: str, line: str) -> None:
        """Keep what a witness has put under a checkpoint of the anchor log."""
        await self._connection.execute(
            "insert into audit.cosignature (anchor_size, witness, line) values (%s, %s, %s) on conflict do nothing",
            [anchor_size, witness, line],
        )

    async def waiting(self) -> int:
        """How many leaves are in the intake."""
        cursor = await self._connection.execute("select count(*) as n from audit.intake")
        row = await cursor.fetchone()
        return 0 if row is None else int(row["n"])

    @property
    def attesters(self) -> Attesters:
        """What parties outside have said."""
        return Attesters(self._connection)


class LogDatabase:
    """The notary's way to the database: one connection, made anew when it is lost.

    Args:
        dsn: Connection string of the notary's own role.
    """

    def __init__(self, dsn: str) -> None:
        self._dsn = make_conninfo(dsn, options=LIMITS, **conninfo_to_dict(f"{CONNECTION} {KEEPALIVES}"))
        self._connection: Connection | None = None
        self._one_at_a_time = asyncio.Lock()

    async def close(self) -> None:
        """Close the connection."""
        if self._connection is not None:
            await self._connection.close()
            self._connection = None

    @asynccontextmanager
    async def turn(self) -> AsyncIterator[Turn]:
        """One transaction, alone: committed at the end of the block, rolled back when anything is raised in it.

        Raises:
            Unavailable: The database does not answer, or another notary is at work. What was lost while committing may
                have happened: read again.
            migrating.MigrationRefused: The tables are older or newer than this code.
        """
        async with self._one_at_a_time, self._turn() as turn:
            yield turn

    @asynccontextmanager
    async def _turn(self) -> AsyncIterator[Turn]:
        connection = await self._opened()
        try:
            with explained(connection):
                async with connection.transaction():
                    await _require_alone(connection)
                    yield Turn(connection)
        except BaseException:
            await self.close()
            raise

    async def _opened(self) -> Connection:
        if self._connection is None:
            with explained(None):
                connection = await AsyncConnection.connect(self._dsn, autocommit=True, row_factory=dict_row)
            try:
                await migrating.check(connection)
            except BaseException:
                await connection.close()
                raise
            self._connection = connection
        return self._connection


async def _require_alone(connection: Connection) -> None:
    cursor = await connection.execute("select pg_try_advisory_xact_lock(%s) as alone", [LOCK])
    row = await cursor.fetchone()
    if row is None or not row["alone"]:
        raise Unavailable("Another notary is at work on this database.")
