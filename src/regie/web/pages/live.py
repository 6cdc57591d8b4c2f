"""Live pages: one listener for the whole process tells each open page when its run has changed.

A page holds one connection of server-sent events (HTML standard, 9.2). Nothing is asked of the database until a change
is heard of; then the page's parts are made anew, and those that differ are sent.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Coroutine

import structlog

from regie.core.errors import Unavailable
from regie.store.database import Database
from regie.store.watching import Ear, listening

MOST_WATCHED = 500
"""Live pages of one process; each holds a connection."""
LOOK_AGAIN_AFTER_S = 2.0
"""Seconds before listening anew when the database went away."""
LISTEN_FOR_S = 30.0

log = structlog.get_logger(__name__)


class Watching:
    """Who watches which run in this process. Listens only while somebody does."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._watchers: dict[str, set[asyncio.Event]] = {}
        self._ear: Ear | None = None
        self._following = asyncio.Lock()
        self._listening: asyncio.Task[None] | None = None
        self._settling: set[asyncio.Task[None]] = set()

    @property
    def count(self) -> int:
        """How many pages watch."""
        return sum(len(events) for events in self._watchers.values())

    @contextlib.asynccontextmanager
    async def changes(self, run: str) -> AsyncIterator[asyncio.Event]:
        """An event that is set whenever the run may have changed, until the end of the block.

        Raises:
            Unavailable: Too many watch already.
        """
        if self.count >= MOST_WATCHED:
            raise Unavailable("Too many live pages are open.", after_s=60)
        changed = asyncio.Event()
        self._watchers.setdefault(run, set()).add(changed)
        try:
            self._settle(run)
            yield changed
        finally:
            self._watchers[run].discard(changed)
            if not self._watchers[run]:
                del self._watchers[run]
            self._settle(run)

    def _settle(self, run: str) -> None:
        """Have the ear follow what is watched: begin to listen with the first watcher, end with the last.

        In tasks of its own: the request that came or went may be cancelled at any moment, its query must not.
        """
        if not self._watchers:
            if self._listening is not None:
                self._listening.cancel()
            self._listening = None
        elif self._listening is None:
            self._listening = self._begin(self._listen())
        elif self._ear is not None:
            self._begin(self._follow(self._ear, run))

    def _begin(self, work: Coroutine[None, None, None]) -> asyncio.Task[None]:
        task = asyncio.create_task(work)
        self._settling.add(task)
        task.add_done_callback(self._settling.discard)
        return task

    async def _follow(self, ear: Ear, run: str) -> None:
        # When the ear's connections are gone, whoever hears with it begins anew.
        with contextlib.suppress(Unavailable):
            async with self._following:
                if run in self._watchers and run not in ear.watched:
                    await ear.watch(run)
                    # What changed before the lock was held has not been told.
                    self._wake(run)
                elif run not in self._watchers and run in ear.watched:
                    await ear.leave(run)

    async def _listen(self) -> None:
        while True:
            try:
                async with listening(self._database) as ear:
                    await self._hear(ear)
            except Unavailable as error:
                self._ear = None
                log.warning("live:deaf", reason=error.message)
            await asyncio.sleep(LOOK_AGAIN_AFTER_S)

    async def _hear(self, ear: Ear) -> None:
        self._ear = ear
        for run in list(self._watchers):
            await self._follow(ear, run)
        while True:
            for run in await ear.hear(LISTEN_FOR_S):
                self._wake(run)
            await ear.check()

    def _wake(self, run: str) -> None:
        for changed in self._watchers.get(run, ()):
            changed.set()
