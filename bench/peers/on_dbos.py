"""Five steps on DBOS, its system database on our PostgreSQL: `python -m bench.peers.on_dbos DATABASE_URL`."""

from __future__ import annotations

import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from dbos import DBOS, DBOSConfig

from bench.peers.answering import answer

BEGUN: dict[int, float] = {}


@DBOS.step()
async def step(run: int, value: int) -> int:
    """Do nothing."""
    if value == 1:
        BEGUN[run] = time.monotonic()
    return value


@DBOS.workflow()
async def five(run: int) -> int:
    """Five steps, one after the other."""
    return sum([await step(run, value) for value in range(1, 6)])


class OnDbos:
    """The engine in this process; its queue is not used, which would only be slower."""

    async def run_one(self, number: int) -> float:
        """See `answering.Peer`."""
        began_s = time.monotonic()
        handle = await DBOS.start_workflow_async(five, number)
        await handle.get_result()
        return BEGUN.pop(number) - began_s


@asynccontextmanager
async def opened() -> AsyncIterator[OnDbos]:
    """DBOS, launched."""
    config: DBOSConfig = {"name": "bench", "system_database_url": sys.argv[1], "log_level": "ERROR"}
    DBOS(config=config)
    DBOS.launch()
    try:
        yield OnDbos()
    finally:
        DBOS.destroy()


if __name__ == "__main__":
    answer(opened)
