"""How long runs of a worker that died or hangs stand still: from the blow to the moment another worker has them."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass, field

from regie.core.errors import RegieError
from regie.store import run_lists, runs, workers
from regie.store.database import Database
from regie.store.runs import RunRow

LOOK_S = 0.02
LONGEST_S = 90.0
MOST_RUNS = 500


@dataclass(frozen=True)
class Takeover:
    """One of them, in seconds.

    Attributes:
        at_s: When the worker was struck, after the start of the storm.
        cause: `kill` or `stop`.
        held: How many runs the worker had.
        first_s: Until the first of them was with another worker.
        last_s: Until the last one was.
        is_alone: Nothing else went wrong shortly before or meanwhile.
    """

    at_s: float
    cause: str
    held: int
    first_s: float
    last_s: float
    is_alone: bool


@dataclass
class Takeovers:
    """Measures them.

    Args:
        database: A way to the database that nobody disturbs.
    """

    database: Database
    found: list[Takeover] = field(default_factory=list)
    began_s: float = field(default_factory=time.monotonic)

    async def held_by(self, pid: int) -> list[RunRow]:
        """The runs that the worker with this process id owns; none when the database does not answer."""
        try:
            async with self.database.reading() as tx:
                mine = {row.id for row in await workers.list_workers(tx) if f"-{pid}-" in row.name}
                return [row for row in await run_lists.list_runs(tx, limit=MOST_RUNS) if row.owner in mine]
        except RegieError:
            return []

    async def measure(self, held: list[RunRow], cause: str, is_alone: Alone) -> None:
        """Watch runs until each is with another owner, or gave up the ghost of needing one."""
        began_s = time.monotonic()
        waiting = {row.key: row for row in held}
        moved: list[float] = []
        while waiting and time.monotonic() - began_s < LONGEST_S:
            for row in await self._read(list(waiting.values())):
                before = waiting[row.key]
                if row.fence > before.fence:
                    moved.append(time.monotonic() - began_s)
                    del waiting[row.key]
                elif row.owner is None and row.seq > before.seq:
                    # The worker let go of it in its last moment.
                    del waiting[row.key]
            await asyncio.sleep(LOOK_S)
        if moved:
            self.found.append(
                Takeover(began_s - self.began_s, cause, len(held), min(moved), max(moved), is_alone.still())
            )

    async def _read(self, rows: list[RunRow]) -> list[RunRow]:
        try:
            async with self.database.reading() as tx:
                found = [await runs.get(tx, row.key) for row in rows]
        except RegieError:
            return []
        return [row for row in found if row is not None]


class Alone:
    """Tells whether anything else went wrong near something that is being measured.

    Args:
        blows: When each blow was struck, in seconds of a monotonic clock; it grows.
    """

    MARGIN_S = 2.0

    def __init__(self, blows: list[float]) -> None:
        self._blows = blows
        self._own_s = time.monotonic()

    def still(self) -> bool:
        """Whether no other blow came since shortly before this was made."""
        near = [blow for blow in self._blows if blow > self._own_s - self.MARGIN_S]
        return len(near) <= 1
