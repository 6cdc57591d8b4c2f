"""Hears that a run has changed, without asking again and again. The web keeps one ear for all its live pages.

A watched run is one whose lock somebody holds shared (see migration 0002): only then does a commit send a hint. A hint
may be lost when a connection breaks; then `hear` raises, and whoever listened looks again after listening anew.
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

from psycopg import AsyncConnection
from psycopg.rows import DictRow

from regie.store.database import Database, Listener, explained

CHANGED: Final = "regie_run"
"""Channel of hints that a run has changed; the payload is its id."""
SEED: Final = 7_238_415_003
"""With the run's id it makes the key of the lock; migration 0002 has the same number."""


class Ear:
    """Hears of changes on one connection, and holds the locks of what is watched on another."""

    def __init__(self, listener: Listener, holding: AsyncConnection[DictRow]) -> None:
        self._listener = listener
        self._holding = holding
        self.watched: set[str] = set()
        """Ids of the runs whose locks it holds."""

    async def watch(self, run: str) -> None:
        """From now on every change of this run is heard. What was committed before can be read already.

        Raises:
            Unavailable: The connection is gone.
        """
        with explained(self._holding):
            await self._holding.execute("select pg_advisory_lock_shared(hashtextextended(%s, %s))", [run, SEED])
        self.watched.add(run)

    async def leave(self, run: str) -> None:
        """Stop hearing of this run.

        Raises:
            Unavailable: The connection is gone, and nothing is watched any more.
        """
        self.watched.discard(run)
        with explained(self._holding):
            await self._holding.execute("select pg_advisory_unlock_shared(hashtextextended(%s, %s))", [run, SEED])

    async def check(self) -> None:
        """Make sure that what is watched is still held.

        Raises:
            Unavailable: The connection is gone, and nothing is watched any more.
        """
        with explained(self._holding):
            await self._holding.execute("select 1")

    async def hear(self, timeout_s: float) -> set[str]:
        """The ids of runs that have changed, as soon as there are any; none when the time is over.

        Raises:
            Unavailable: The connection is gone; hints may have been lost.
        """
        return await self._listener.wait(timeout_s)


@asynccontextmanager
async def listening(database: Database) -> AsyncIterator[Ear]:
    """An ear, until the end of the block.

    Raises:
        Unavailable: The database does not answer.
    """
    async with database.listen(CHANGED) as listener, database.apart() as holding:
        yield Ear(listener, holding)
