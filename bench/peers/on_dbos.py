"""Five steps on DBOS, its system database on our PostgreSQL: `python -m bench.peers.on_dbos DATABASE_URL`."""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from dbos import DBOS, DBOSConfig

from bench.peers.answering import answer

BEGUN: dict[int, float] = {}
OVER: set[int] = set()
QUEUE = "many"
LOOK_S = 0.01


@DBOS.step()
async def step(run: int, value: int) -> int:
    """Do nothing."""
    if value == 1:
        BEGUN[run] = time.monotonic()
    return value


@DBOS.workflow()
async def five(run: int) -> int:
    """Five steps, one after the other."""
    total: int = sum([await step(run, value) for value in range(1, 6)])
    OVER.add(run)
    return total


class OnDbos:
    """The engine in this process; its queue is used only where runs must be accepted before anything moves them."""

    async def run_one(self, number: int) -> float:
        """See `answering.Peer`."""
        began_s = time.monotonic()
        handle = await DBOS.start_workflow_async(five, number)
        await handle.get_result()
        return BEGUN.pop(number) - began_s

    async def move(self, numbers: list[int]) -> float:
        """See `answering.Mover`. The worker is a process of its own: the library is launched once in each."""
        await DBOS.register_queue_async(QUEUE, polling_interval_sec=LOOK_S)
        for number in numbers:
            await DBOS.enqueue_workflow_async(QUEUE, five, number)
        worker = await asyncio.create_subprocess_exec(
            sys.executable,
            *("-m", "bench.peers.on_dbos", sys.argv[1], str(len(numbers))),
            stdout=asyncio.subprocess.PIPE,
        )
        said, _ = await worker.communicate()
        return float(said)


async def work(number: int) -> float:
    """Take runs from the queue until so many are over; seconds from the launch."""
    DBOS(config=_config())
    DBOS.listen_queues([QUEUE])
    began_s = time.monotonic()
    DBOS.launch()
    while len(OVER) < number:  # noqa: ASYNC110  the library has no event for it
        await asyncio.sleep(LOOK_S)
    took_s = time.monotonic() - began_s
    DBOS.destroy()
    return took_s


def _config() -> DBOSConfig:
    return {"name": "bench", "system_database_url": sys.argv[1], "log_level": "ERROR"}


@asynccontextmanager
async def opened() -> AsyncIterator[OnDbos]:
    """DBOS, launched."""
    DBOS(config=_config())
    # Nobody takes anything from a queue yet.
    DBOS.listen_queues([])
    DBOS.launch()
    try:
        yield OnDbos()
    finally:
        DBOS.destroy()


if __name__ == "__main__":
    if len(sys.argv) > 2:
        sys.stdout.write(f"{asyncio.run(work(int(sys.argv[2])))}\n")
    else:
        answer(opened)
