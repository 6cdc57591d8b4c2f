"""Locks on things of the outside world, shared by all gateway processes on one database.

The gateway holds one for the time of a change, so that two runs about the same thing do not look and act in between
each other.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from regie.store.database import Database, explained

WAIT = "30s"
"""Longest wait for somebody else's change; then the asker tries again later."""

MOST_HELD = 20
"""Targets one process holds at the same time: each takes a connection, and the server has a hundred for everybody."""


class TargetLocks:
    """Advisory locks of the database, each on a connection of its own: it ends with the connection."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._places = asyncio.Semaphore(MOST_HELD)

    @asynccontextmanager
    async def hold(self, tenant: str, target: str) -> AsyncIterator[None]:
        """Wait until nobody else holds the target of a tenant, and hold it while inside.

        Raises:
            Unavailable: Somebody else keeps it for too long, or the database does not answer.
        """
        named = hashlib.sha256(b"\x00".join([b"target", tenant.encode(), target.encode()])).digest()
        # Two targets with the same 64 bits would only wait for each other.
        key = int.from_bytes(named[:8], "big", signed=True)
        async with self._places, self._database.apart() as connection:
            with explained(connection):
                await connection.execute("select set_config('lock_timeout', %(wait)s, false)", {"wait": WAIT})
                await connection.execute("select pg_advisory_lock(%(key)s)", {"key": key})
            yield
