"""Tasks end for certain, also those that forget that they were told to."""

from __future__ import annotations

import asyncio
import contextlib

from regie.ending import ended


async def again_and_again(deaf: int) -> None:
    """A duty that forgets a cancellation as often as it is told, as `asyncio.wait_for` made it before Python 3.12."""
    while True:
        try:
            await asyncio.sleep(3600)
        except asyncio.CancelledError:
            if deaf == 0:
                raise
            deaf -= 1


async def test_a_task_that_forgets_a_cancellation_is_ended() -> None:
    tasks = [asyncio.create_task(again_and_again(deaf)) for deaf in (0, 1, 2)]
    await asyncio.sleep(0)
    async with asyncio.timeout(20):
        await ended(tasks)
    assert all(task.cancelled() for task in tasks)


async def test_what_a_task_raised_is_left_in_it() -> None:
    async def fails() -> None:
        raise ValueError

    task = asyncio.create_task(fails())
    await asyncio.sleep(0)
    await ended([task])
    assert isinstance(task.exception(), ValueError)


async def test_whoever_ends_tasks_can_be_cancelled_itself() -> None:
    task = asyncio.create_task(again_and_again(1))
    await asyncio.sleep(0)
    ending = asyncio.create_task(ended([task]))
    await asyncio.sleep(0.01)
    ending.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await ending
    assert ending.cancelled()
    await ended([task])


async def test_nothing_to_end_is_over_at_once() -> None:
    await ended([])
