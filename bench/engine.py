"""Five-step runs through the real worker loop: one at a time, and many at once."""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field

from bench.stand import Stand
from bench.workload import CATALOGUE, DOMAIN, FIVE, LAST, Doer, request
from regie.core.status import RunStatus
from regie.engine.postgres import PostgresEngine
from regie.engine.working import WorkerLoop, keep_what_is_loaded
from regie.store import audit, run_lists
from regie.store.database import Database

SLOTS = 256
"""Steps that do nothing need many in hand: what is ready together is committed together."""
LOOK_S = 0.05
STARTERS = 8
"""Who start runs at the same time when the engine is loaded."""


@dataclass
class Bed:
    """A worker and whoever starts runs for it, in one process.

    Attributes:
        begun_s: When the first step of a run began, by run.
        over: Set for a run when its last step begins.
    """

    database: Database
    begun_s: dict[str, float] = field(default_factory=dict)
    over: dict[str, asyncio.Event] = field(default_factory=dict)
    _numbers: itertools.count[int] = field(default_factory=itertools.count)

    def __post_init__(self) -> None:
        """Set up the worker."""
        self.loop = WorkerLoop(self.database, CATALOGUE, Doer(self._note), [DOMAIN], name="bench", slots=SLOTS)
        self.engine = PostgresEngine(self.database, self.loop)

    def _note(self, run: str, place: str, at_s: float) -> None:
        self.begun_s.setdefault(run, at_s)
        if place == LAST:
            self.over.setdefault(run, asyncio.Event()).set()

    async def run_one(self, workflow: str = FIVE) -> float:
        """Start a run and wait until its last step has been handed out and no run is in hand; start to first step."""
        began_s = time.monotonic()
        started = await self.engine.start(request(workflow, f"t{next(self._numbers)}"))
        await self.over.setdefault(started.key.run, asyncio.Event()).wait()
        while self.loop.hands:
            await asyncio.wait(list(self.loop.hands))
        return self.begun_s[started.key.run] - began_s

    async def accept(self, number: int, workflow: str = FIVE) -> None:
        """Start so many as fast as it goes."""
        numbers = itertools.count()

        async def start() -> None:
            while next(numbers) < number:
                await self.engine.start(request(workflow, f"t{next(self._numbers)}"))

        await asyncio.gather(*(start() for _ in range(STARTERS)))

    async def all_over(self) -> None:
        """Wait until every run is over."""
        while await self._open():  # noqa: ASYNC110  what is waited for is in a database
            await asyncio.sleep(LOOK_S)

    @asynccontextmanager
    async def at_work(self) -> AsyncIterator[None]:
        """Let the worker work."""
        stop = asyncio.Event()
        keep_what_is_loaded()
        working = asyncio.create_task(self.loop.run(stop))
        try:
            yield
        finally:
            stop.set()
            await working

    async def _open(self) -> int:
        async with self.database.reading() as tx:
            counts = await run_lists.count_by_status(tx)
        return counts.get(RunStatus.RUNNING, 0) + counts.get(RunStatus.WAITING, 0)


@asynccontextmanager
async def bed(stand: Stand) -> AsyncIterator[Bed]:
    """A worker at work on a fresh database."""
    async with stand.opened(await stand.loaded()) as database:
        made = Bed(database)
        async with made.at_work():
            await made.run_one()
            yield made


@dataclass(frozen=True)
class OneAtATime:
    """Runs in a second, and seconds from start to first step of each."""

    runs_per_s: float
    first_step_s: list[float]


async def one_at_a_time(stand: Stand, seconds: float, workflow: str = FIVE) -> OneAtATime:
    """Start a run, wait until it is over, start the next."""
    async with bed(stand) as made:
        began_s, delays = time.monotonic(), []
        while (spent_s := time.monotonic() - began_s) < seconds:
            delays.append(await made.run_one(workflow))
        return OneAtATime(len(delays) / spent_s, delays)


@contextmanager
def unaudited() -> Iterator[None]:
    """No leaf is made or written meanwhile, which no installation can have: to measure what they cost."""
    link = audit.link
    audit.link = lambda chain, facts: (chain, [])  # noqa: ARG005  as the one it stands for
    try:
        yield
    finally:
        audit.link = link


@dataclass(frozen=True)
class Loaded:
    """Many runs, first accepted, then moved by one worker.

    Attributes:
        runs_per_s: Of both parts together, one after the other.
        moved_per_s: Of the worker alone, from its start until the last run is over.
        cpu_ms, moving_cpu_ms: Of this process for each run, in both parts and in the second.
    """

    runs_per_s: float
    moved_per_s: float
    cpu_ms: float
    moving_cpu_ms: float


async def loaded(stand: Stand, number: int, workflow: str = FIVE) -> Loaded:
    """So many runs at once."""
    async with stand.opened(await stand.loaded()) as database:
        made = Bed(database)
        began_s, began_cpu_s = time.monotonic(), time.process_time()
        await made.accept(number, workflow)
        accepted_s, accepted_cpu_s = time.monotonic(), time.process_time()
        async with made.at_work():
            await made.all_over()
            over_s, over_cpu_s = time.monotonic(), time.process_time()
    return Loaded(
        runs_per_s=number / (over_s - began_s),
        moved_per_s=number / (over_s - accepted_s),
        cpu_ms=(over_cpu_s - began_cpu_s) / number * 1000,
        moving_cpu_ms=(over_cpu_s - accepted_cpu_s) / number * 1000,
    )
