"""Locks on things of the outside world, shared by all gateway processes on one database.

The gateway holds one for the time of a change, so that two runs about the same thing do not look and act in between
each other.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

import psycopg
from psycopg import AsyncConnection
from psycopg.rows import DictRow

from regie.store.database import Database, explained

WAIT = "30s"
"""Longest wait for somebody else's change; then the asker tries again later."""

MOST_HELD = 20
"""Targets one process holds at the same time: each takes a connection, and the server has a hundred for everybody."""


class TargetLocks:
    """Advisory locks of the database, each on a connection of its own: it ends with the connection.

    The connections are kept: making one costs more than all else that a change asks of the database.
    """

    def __init__(self, database: Database) -> None:
        self._database = database
        self._places = asyncio.Semaphore(MOST_HELD)
        self._idle: list[AsyncConnection[DictRow]] = []

    async def aclose(self) -> None:
        """Close the connections that nobody uses."""
        while self._idle:
            await self._idle.pop().close()

    @asynccontextmanager
    async def hold(self, tenant: str, target: str) -> AsyncIterator[bool]:
        """Wait until nobody else holds the target of a tenant, and hold it while inside; gives whether one had to wait.

        Raises:
            Unavailable: Somebody else keeps it for too long, or the database does not answer.
        """
        named = hashlib.sha256(b"\x00".join([b"target", tenant.encode(), target.encode()])).digest()
        # Two targets with the same 64 bits would only wait for each other.
        key = int.from_bytes(named[:8], "big", signed=True)
        async with self._places:
            connection, has_waited = await self._locked(key)
            try:
                yield has_waited
            finally:
                await self._unlock(connection, key)

    async def _locked(self, key: int) -> tuple[AsyncConnection[DictRow], bool]:
        """A connection that holds the lock; a kept one may have ended meanwhile, and then the next is tried."""
        while self._idle:
            connection = self._idle.pop()
            has_waited = await self._lock_by(connection, key)
            if has_waited is not None:
                return connection, has_waited
        connection = await self._database.connect_apart()
        try:
            with explained(connection):
                await connection.execute("select set_config('lock_timeout', %(wait)s, false)", {"wait": WAIT})
            return connection, await _lock(connection, key)
        except BaseException:
            await connection.close()
            raise

    async def _lock_by(self, connection: AsyncConnection[DictRow], key: int) -> bool | None:
        """Lock by a kept connection, and tell whether that took a wait; none when it is gone."""
        try:
            return await _lock(connection, key)
        except BaseException as error:
            was_lost = connection.closed
            await connection.close()
            if was_lost and isinstance(error, Exception):
                return None
            raise

    async def _unlock(self, connection: AsyncConnection[DictRow], key: int) -> None:
        """Let go, and keep the connection; one that does not answer lets go by its end."""
        is_free = False
        with suppress(psycopg.Error):
            cursor = await connection.execute("select pg_advisory_unlock(%(key)s) as is_free", {"key": key})
            row = await cursor.fetchone()
            is_free = row is not None and bool(row["is_free"])
        if is_free:
            self._idle.append(connection)
        else:
            await connection.close()


async def _lock(connection: AsyncConnection[DictRow], key: int) -> bool:
    """Lock, and tell whether that took a wait."""
    with explained(connection):
        cursor = await connection.execute("select pg_try_advisory_lock(%(key)s) as is_free", {"key": key})
        row = await cursor.fetchone()
        if row is not None and row["is_free"]:
            return False
        await connection.execute("select pg_advisory_lock(%(key)s)", {"key": key})
        return True
