"""Starts runs that nobody asks for: by schedule and by poll. Runs in every worker, beside the loop that moves runs.

Any number of workers do the same at the same time: rows are claimed with SKIP LOCKED, and each trigger starts one run.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Sequence

import structlog

from regie.core.block import Catalogue
from regie.core.errors import InvalidInput, OutcomeUnknown, Unavailable
from regie.ending import ended
from regie.gateway_client import GatewayClient
from regie.store import releases, schedules
from regie.store.database import Database
from regie.worker.polls import Poller
from regie.worker.schedules import Scheduler

LOOK_EVERY_S = 1.0
"""Seconds between two looks: a run starts at most that much later than planned."""
POLLS_AT_ONCE = 4
"""Polls that one worker asks at the same time."""

log = structlog.get_logger(__name__)


class Starter:
    """Schedules and polls of the domains that a worker serves.

    Args:
        gateways: How to ask the gateway, by domain.
    """

    def __init__(
        self,
        database: Database,
        catalogue: Catalogue,
        gateways: Callable[[str], GatewayClient],
        domains: Sequence[str],
        *,
        look_every_s: float = LOOK_EVERY_S,
    ) -> None:
        self._database = database
        self._domains = domains
        self._scheduler = Scheduler(database, domains)
        self._poller = Poller(database, catalogue, gateways, domains)
        self._look_every_s = look_every_s
        self._kept = ""
        self._schedules = self._polls = 0
        self._asking: set[asyncio.Task[None]] = set()

    async def run(self, stop: asyncio.Event) -> None:
        """Look again and again until told to stop, then finish what is being asked.

        What is cut off is asked again by another worker when its hold is over.
        """
        try:
            while not stop.is_set():
                await self._look()
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(self._look_every_s):
                        await stop.wait()
            await self.settle()
        finally:
            await ended(self._asking)

    async def look(self) -> None:
        """One look: bring the rows in line with the release, start what is due, ask what is due.

        Raises:
            Unavailable, OutcomeUnknown: The database does not answer now.
            InvalidInput: There is no release yet.
        """
        await self._keep()
        # Where nothing of a kind is planned, nobody asks for it every second.
        while self._schedules and await self._scheduler.fire():
            pass
        free = POLLS_AT_ONCE - len(self._asking) if self._polls else 0
        for claimed, release in await self._poller.claim(free) if free else []:
            task = asyncio.create_task(self._poller.poll(claimed, release))
            self._asking.add(task)
            task.add_done_callback(self._done)

    async def settle(self) -> None:
        """Wait until nothing is being asked any more."""
        while self._asking:
            await asyncio.wait(self._asking)
            await asyncio.sleep(0)

    async def _look(self) -> None:
        try:
            await self.look()
        except (Unavailable, OutcomeUnknown, InvalidInput) as error:
            log.warning("starter:waits", reason=error.message)
        except Exception:  # runs must go on moving; `regie doctor` tells of schedules that are overdue
            log.exception("starter:broke")

    async def _keep(self) -> None:
        async with self._database.reading() as tx:
            last = await releases.history(tx, limit=1)
        if not last or last[0].digest == self._kept:
            return
        async with self._database.transaction() as tx:
            now = await schedules.take_turn(tx)
            release = await releases.current(tx)
            self._schedules = await self._scheduler.keep(tx, release, now)
            self._polls = await self._poller.keep(tx, release)
        self._kept = release.digest

    def _done(self, task: asyncio.Task[None]) -> None:
        self._asking.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            log.warning("poll:left", kind=type(error).__name__)
