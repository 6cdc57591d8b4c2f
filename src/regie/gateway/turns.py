"""One at a time: whoever works on a thing takes its turn, so that two runs do not look and act mixed."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Hashable
from contextlib import asynccontextmanager


class Turns:
    """Queues within this process, one for each thing, gone when nobody stands in them."""

    def __init__(self) -> None:
        self._queues: dict[Hashable, tuple[asyncio.Lock, int]] = {}

    @asynccontextmanager
    async def take(self, thing: Hashable) -> AsyncIterator[bool]:
        """Wait for the turn, and keep it while inside; gives whether somebody had it before."""
        lock, waiting = self._queues.get(thing, (asyncio.Lock(), 0))
        self._queues[thing] = (lock, waiting + 1)
        try:
            async with lock:
                yield waiting > 0
        finally:
            lock, waiting = self._queues.pop(thing)
            if waiting > 1:
                self._queues[thing] = (lock, waiting - 1)
