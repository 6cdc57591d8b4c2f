"""A worker's loop over a database: claim, move, pump timers, beat, rescue what dead workers left behind."""

from __future__ import annotations

import asyncio
import contextlib
import gc
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import structlog

from regie import logs
from regie.core.audit import Actor
from regie.core.block import Catalogue
from regie.core.errors import FencedOut, InvalidInput, OutcomeUnknown, RegieError, Unavailable
from regie.core.format import FORMAT
from regie.core.release import Release
from regie.core.status import StepStatus
from regie.ending import ended
from regie.engine.committing import GroupCommit
from regie.engine.live import NOTHING_SEEN, POLL_S, LiveRun
from regie.engine.port import Performer, Unwatched, Watcher
from regie.engine.postgres import PostgresEngine
from regie.store import claims, dropped, events, liveness, releases, timers, workers
from regie.store.database import Database, Transaction
from regie.store.keys import RunKey

BEAT_S = 5.0
"""How often a worker says it is alive; silence of 15 s counts as dead."""
RESCUE_S = 0.5
"""How often a worker looks for runs whose owner is gone."""
KEPT_PART = 8
"""Of a worker's slots, the part that a domain with more than its even share leaves to the others: an eighth."""
ROUTE_S = 1.0
"""How often a worker looks for events from outside that have not been brought to those who wait."""
CLEAR_S = 600.0
"""How often a worker deletes what has been kept long enough."""
LOCKED_S = 0.05
"""Pause before a timer is looked at again that is due while somebody changes its run."""
SWEEP_S = 30.0
"""How often a worker looks for runs that nothing would wake. There are none, unless something is broken."""
RECONNECT_S = 2.0
"""Pause before a dropped run is told of again to a database that does not answer."""

log = structlog.get_logger(__name__)


def keep_what_is_loaded() -> None:
    """Spare the memory's collector what stays for as long as the process: for whoever lets a worker run in it.

    Going through all that is loaded, again and again, took a tenth of what a loaded worker did.
    """
    gc.collect()
    gc.freeze()


@dataclass
class WorkerLoop:
    """Moves the runs of some domains.

    Args:
        database: Where the runs are.
        catalogue: The blocks.
        performer: Carries out work.
        domains: Whose runs to move.
        name: For people, in the list of workers.
        slots: How many runs at the same time; parked runs take none.
        hands: What sees each run through, with its key.
        watcher: Is told which runs are taken and let go.
        reads: Up to which format it reads runs; what is written in a later one is left to newer workers.
    """

    database: Database
    catalogue: Catalogue
    performer: Performer
    domains: Sequence[str]
    name: str = "worker"
    slots: int = 32
    watcher: Watcher = field(default_factory=Unwatched)
    reads: int = FORMAT
    groups: dict[str, GroupCommit] = field(init=False)
    live: dict[RunKey, LiveRun] = field(default_factory=dict)
    hands: dict[asyncio.Task[None], RunKey] = field(default_factory=dict)
    _id: str = field(default="", init=False)

    def __post_init__(self) -> None:
        """Make the places where its runs bring their commits: a quiet domain never waits for those of a flooded one."""
        self.groups = {domain: GroupCommit(self.database) for domain in self.domains}

    async def run(self, stop: asyncio.Event) -> None:
        """Work until told to stop, then finish the work in hand; what comes after it is left to other workers.

        Raises:
            Unavailable: The connection that carries this worker's lock is gone: it counts as dead, and must be.
            FencedOut: It was declared dead.
        """
        async with workers.registered(self.database, name=self.name, domains=self.domains, reads=self.reads) as worker:
            self.actor = Actor(type="worker", id=worker.id)
            self._id = worker.id
            self._strays: set[claims.Claim] = set()
            self._freed, self._timed, self._stop = asyncio.Event(), asyncio.Event(), stop
            claiming = asyncio.create_task(self._claiming(worker, stop))
            duties = {
                claiming,
                asyncio.create_task(self._repeat(BEAT_S, lambda: self._beat(worker.id))),
                asyncio.create_task(self._repeat(RESCUE_S, lambda: self._rescue(worker.id))),
                asyncio.create_task(self._repeat(ROUTE_S, self._route)),
                asyncio.create_task(self._repeat(CLEAR_S, self._clear)),
                asyncio.create_task(self._repeat(SWEEP_S, self._sweep)),
            }
            try:
                await self._until(claiming, duties)
                for live in self.live.values():
                    live.is_leaving = True
                # It goes on beating meanwhile, or others would take what it is about to finish.
                while self.hands:
                    await self._until(asyncio.gather(*self.hands), duties - {claiming})
            finally:
                self._id = ""
                await ended([*duties, *self.hands])

    async def _until(self, goal: asyncio.Future[Any], duties: set[asyncio.Task[None]]) -> None:
        """Wait for something unless a duty fails first; no duty ever ends well before that."""
        await asyncio.wait({goal, *duties}, return_when=asyncio.FIRST_COMPLETED)
        for task in (*duties, goal):
            if task.done():
                task.result()

    async def _claiming(self, worker: workers.Worker, stop: asyncio.Event) -> None:
        """Wait for a hint, a due timer, a free slot or the poll; then take what is ready."""
        while not stop.is_set():
            self._timed.clear()
            # Before looking: what is let go of meanwhile may make room for what was left behind.
            self._freed.clear()
            free = self.slots - len(self.hands)
            taken = await self._take_ready(worker)
            due_s = POLL_S if taken.due_s is None else taken.due_s
            if due_s == 0:
                if await self._fire_due():
                    continue
                due_s = LOCKED_S
            # Few were taken of many that are left: a quota is used up, and looking again finds nothing.
            if not (taken.is_left_behind and 0 < len(taken.runs) < free <= 2 * len(taken.runs)):
                await self._wait(worker, stop, min(POLL_S, due_s), is_short=taken.is_left_behind)

    async def _take_ready(self, worker: workers.Worker) -> claims.Taken:
        """Take what is ready and see each of it through."""
        try:
            async with self.database.transaction() as tx:
                free, held = self._room()
                most = self._most(held, free)
                taken = await claims.take(tx, worker.id, self.domains, free, held=held, most=most, reads=self.reads)
                readable = [(run, release) for run in taken.runs if (release := await self._release_of(tx, run))]
        except (Unavailable, OutcomeUnknown) as error:
            # What it may have taken without knowing is found among its strays.
            log.warning("worker:waits", reason=str(error))
            return claims.NOTHING
        for run, release in readable:
            self.adopt(run, release)
        return taken

    async def _fire_due(self) -> int:
        """Turn due timers into events of their runs, which makes these ready; give how many.

        Whether it was done is not asked when the answer is lost: a timer fires once, whoever looks next.
        """
        try:
            async with self.database.transaction() as tx:
                return await timers.fire_due(tx, self.domains)
        except (Unavailable, OutcomeUnknown) as error:
            log.warning("worker:waits", reason=str(error))
            return 0

    def _most(self, held: Mapping[str, int], free: int) -> dict[str, int]:
        """How many runs of each domain it may have. Beyond its even share, a domain leaves some slots to the others.

        So a run of a quiet domain does not wait until a run of a flooded one lets go of a slot.
        """
        if len(self.domains) < 2:
            return dict.fromkeys(self.domains, self.slots)
        share, kept = max(1, self.slots // len(self.domains)), max(1, self.slots // KEPT_PART)
        return {domain: max(share, held[domain] + max(0, free - kept)) for domain in self.domains}

    async def _release_of(self, tx: Transaction, run: claims.Claimed) -> Release | None:
        """The release a run is pinned to; none when it cannot be read, and then the run is set aside."""
        try:
            return await releases.get(tx, run.release)
        except (InvalidInput, ValueError) as error:
            with logs.about(**run.claim.key._asdict(), corr=run.corr):
                log.exception("run:set_aside", reason="its release cannot be read")
            await claims.set_aside(tx, run.claim, type(error).__name__)
            return None

    async def _wait(self, worker: workers.Worker, stop: asyncio.Event, most_s: float, *, is_short: bool) -> None:
        hint = asyncio.ensure_future(worker.wait(most_s))
        others = [asyncio.ensure_future(stop.wait()), asyncio.ensure_future(self._timed.wait())]
        if is_short:
            others.append(asyncio.ensure_future(self._freed.wait()))
        try:
            await asyncio.wait({hint, *others}, return_when=asyncio.FIRST_COMPLETED)
            if hint.done():
                hint.result()
                self._nudge()
        finally:
            await ended([hint, *others])

    def _nudge(self) -> None:
        """Let runs that wait for somebody while work of theirs is out look into their inbox."""
        for live in self.live.values():
            if any(step.status is StepStatus.WAITING for step in live.state.steps.values()):
                live.nudged.set()

    def room_for(self, domain: str) -> str | None:
        """See `port.Hands`."""
        if not self._id or self._stop.is_set() or domain not in self.domains:
            return None
        free, held = self._room()
        return self._id if free > 0 and held[domain] < self._most(held, free)[domain] else None

    def _room(self) -> tuple[int, Counter[str]]:
        """How many slots are free, and how many runs of each domain it has."""
        return self.slots - len(self.hands), Counter(key.domain for key in self.hands.values())

    def adopt(self, claimed: claims.Claimed, release: Release) -> None:
        """See `port.Hands`."""
        task = asyncio.create_task(self._see_through(claimed, release))
        self.hands[task] = claimed.claim.key
        task.add_done_callback(self._free)

    def _free(self, task: asyncio.Task[None]) -> None:
        self.hands.pop(task, None)
        self._freed.set()

    async def _see_through(self, claimed: claims.Claimed, release: Release) -> None:
        key, claim = claimed.claim.key, claimed.claim
        live: LiveRun | None = None
        self.watcher.took(claimed)
        try:
            live = LiveRun(
                self.groups[key.domain],
                claimed,
                release,
                self.catalogue,
                self.performer,
                self.actor,
                self._timed,
            )
            live.is_leaving = self._stop.is_set()
            self.live[key] = live
            await live.live()
            self.watcher.let_go(claimed, live.state)
        except FencedOut:
            log.info("run:fenced_out", run=key.run)
        except Exception:  # a run must never be left without an owner that moves it, whatever went wrong
            log.exception("run:dropped", run=key.run)
            await self._drop(live.claim if live else claim)
        finally:
            # It may be back in other hands of this worker already.
            if live is not None and self.live.get(key) is live:
                del self.live[key]

    async def _drop(self, claim: claims.Claim) -> None:
        """Let go of a run, so that it is neither stuck nor tried without end in a rush."""
        while True:
            try:
                async with self.database.transaction() as tx:
                    pause_s = await dropped.drop(tx, claim)
            except (Unavailable, OutcomeUnknown):
                await asyncio.sleep(RECONNECT_S)
                continue
            except RegieError as error:
                # Fenced out: somebody else has it.
                log.info("run:not_dropped", run=claim.key.run, reason=type(error).__name__)
                return
            if pause_s is None:
                log.error("run:set_aside", run=claim.key.run, reason="it was dropped again and again")
            return

    async def _beat(self, worker: str) -> None:
        async with self.database.transaction() as tx:
            await workers.beat(tx, worker)

    async def _rescue(self, worker: str) -> None:
        """Make runs ready whose worker is gone, that were dropped, or that are this worker's without its knowing.

        The answer to a claim may have been lost. What seems to be such a run may just be on its way here, so it is
        given back when it was seen before.
        """
        async with self.database.transaction() as tx:
            rescued = await workers.rescue(tx)
            await dropped.bring_back(tx, self.domains)
            strays = set(await claims.strays(tx, worker, list(self.hands.values())))
            for stray in strays & self._strays:
                with contextlib.suppress(FencedOut):
                    await claims.park(tx, stray, NOTHING_SEEN)
        self._strays = strays - self._strays
        if rescued:
            log.info("runs:rescued", runs=len(rescued))

    async def _route(self) -> None:
        engine = PostgresEngine(self.database)
        while await engine.route_one(self.domains):
            pass

    async def _clear(self) -> None:
        async with self.database.transaction() as tx:
            await events.clear_old(tx, self.domains)

    async def _sweep(self) -> None:
        async with self.database.transaction() as tx:
            swept = await liveness.sweep(tx, list(self.domains))
        for key in swept.woken:
            log.error("run:woken", run=key.run, reason="nothing would have woken it")
        for key in swept.set_aside:
            log.error("run:set_aside", run=key.run, reason="it fell asleep again")

    async def _repeat(self, every_s: float, duty: Callable[[], Awaitable[None]]) -> None:
        """Do something again and again; once more or less does not matter."""
        while True:
            await asyncio.sleep(every_s)
            try:
                await duty()
            except (Unavailable, OutcomeUnknown) as error:
                log.warning("worker:waits", reason=str(error))
