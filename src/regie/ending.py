"""Ending tasks for certain, so that whatever began them can end too."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import Any

AGAIN_AFTER_S = 0.5
"""Between two times of telling a task to end."""


async def ended(tasks: Iterable[asyncio.Future[Any]]) -> None:
    """Cancel tasks until each is over. What they gave or raised is left in them, and counts as seen.

    Once is not enough: before Python 3.12 `asyncio.wait_for` forgets a cancellation that comes together with what it
    waits for, and with it so does everything that is built on it, such as a pool of connections. A task that does
    something again and again then never ends, nor does whoever waits for it.
    """
    left = set(tasks)
    while left:
        for task in left:
            task.cancel()
        done, left = await asyncio.wait(left, timeout=AGAIN_AFTER_S)
        for task in done:
            if not task.cancelled():
                task.exception()
