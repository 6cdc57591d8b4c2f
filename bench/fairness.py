"""One domain starts a run every 100 ms while another is flooded: how long the first waits, and what the second keeps.

Measured alone and together, in turn, with one worker process for both domains and with one each. What is started in the
flood is there before the workers are, so that starting it is not measured.
"""

from __future__ import annotations

import asyncio
import itertools
import time
import uuid
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field

from bench.parked import Elsewhere, elsewhere
from bench.stand import Stand
from bench.workload import LAST, request
from regie.core.tenant import Quota
from regie.engine.postgres import PostgresEngine
from regie.store import choosing, quotas
from regie.store.database import Database

QUIET, FLOODED = "hr", "support"
QUOTA = 10
"""Runs of the flooded domain in hands at the same time."""
EVERY_S = 0.1
STARTERS = 4
TOGETHER = 100
"""Runs of the flood that are started in one transaction."""
LOOK_S = 0.1
PATIENCE_S = 60.0
ONE_WORKER: Sequence[Sequence[str]] = ((QUIET, FLOODED),)
A_WORKER_EACH: Sequence[Sequence[str]] = ((QUIET,), (FLOODED,))


@dataclass
class Fairness:
    """One set of workers.

    Attributes:
        alone_s: Start to last step of each quiet run while there is no flood.
        flooded_s: The same in the flood.
        alone_per_s: Runs in a second of the flooded domain, nothing else going on; one value a round.
        flooded_per_s: The same while the quiet one goes on.
    """

    alone_s: list[float] = field(default_factory=list)
    flooded_s: list[float] = field(default_factory=list)
    alone_per_s: list[float] = field(default_factory=list)
    flooded_per_s: list[float] = field(default_factory=list)


async def fairness(stand: Stand, flood: int, seconds: float, rounds: int, workers: Sequence[Sequence[str]]) -> Fairness:
    """Measure one set of workers.

    Args:
        flood: Runs of the flooded domain.
        seconds: How long the quiet domain is measured alone, in each round.
        workers: The domains of each worker process.
    """
    found = Fairness()
    for _ in range(rounds):
        async with _bed(stand, workers, 0) as (database, working):
            found.alone_s += await _quiet(database, working, asyncio.create_task(asyncio.sleep(seconds)))
        async with _bed(stand, workers, flood) as (database, _):
            found.alone_per_s.append(flood / await _drained(database))
        async with _bed(stand, workers, flood) as (database, working):
            draining = asyncio.create_task(_drained(database))
            found.flooded_s += await _quiet(database, working, draining)
            found.flooded_per_s.append(flood / await draining)
    return found


@asynccontextmanager
async def _bed(
    stand: Stand, workers: Sequence[Sequence[str]], flood: int
) -> AsyncIterator[tuple[Database, list[Elsewhere]]]:
    """A fresh database with a flood in it, and the workers."""
    dsn = await stand.loaded({QUIET: Quota(), FLOODED: Quota(runs=QUOTA)})
    async with stand.opened(dsn) as database, AsyncExitStack() as stack:
        engine, numbers = PostgresEngine(database), itertools.count()

        async def start() -> None:
            while (first := next(numbers) * TOGETHER) < flood:
                async with database.transaction() as tx:
                    for n in range(first, min(first + TOGETHER, flood)):
                        await engine.start_in(tx, request("five", f"f{n}", FLOODED))

        await asyncio.gather(*(start() for _ in range(STARTERS)))
        working = [
            await stack.enter_async_context(
                elsewhere(stand, dsn, "--tell", LAST, *(word for name in domains for word in ("--domain", name)))
            )
            for domains in workers
        ]
        yield database, working


async def _quiet(
    database: Database, working: Sequence[Elsewhere], until: asyncio.Task[None] | asyncio.Task[float]
) -> list[float]:
    """Start a run every so often until something has ended; how long each took to its last step."""
    engine, took = PostgresEngine(database), list[asyncio.Task[float]]()
    ours = working[0]

    async def one(number: int) -> float:
        began_s = time.monotonic()
        started = await engine.start(request("five", f"q{number}", QUIET))
        return await asyncio.wait_for(ours.when(started.key.run), PATIENCE_S) - began_s

    for number in itertools.count():
        if until.done():
            break
        took.append(asyncio.create_task(one(number)))
        await asyncio.sleep(EVERY_S)
    return list(await asyncio.gather(*took))


async def _drained(database: Database) -> float:
    """Seconds until nothing of the flood is left."""
    began_s = time.monotonic()
    while True:
        async with database.reading() as tx:
            # Counting those that are ready takes long while they are many.
            is_left = (await choosing.choose(tx, str(uuid.uuid4()), [FLOODED], 0)).is_left_behind
            left = is_left or [use for use in await quotas.use(tx) if use.domain == FLOODED and use.in_hands]
        if not left:
            return time.monotonic() - began_s
        await asyncio.sleep(LOOK_S)
