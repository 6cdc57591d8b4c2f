"""How a peer is spoken to: one JSON line each way. Runs in the peers' environment; only the standard library is here.

`turn.py` starts `python -m bench.peers.on_NAME`, reads `{"ready": true}`, writes `{"single": SECONDS}`,
`{"loaded": RUNS}` or `{"moved": RUNS}`, and reads the figures.
"""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager, contextmanager
from typing import Any, Protocol, TextIO, runtime_checkable

AT_ONCE = 64
"""Runs under way while loaded: as many as Regie's worker has slots in `bench.engine`."""
WITHIN_S = 90.0
"""Longest that a peer's server may take to answer."""
STOP_WITHIN_S = 10.0
LOOK_S = 0.1


class Peer(Protocol):
    """An engine that runs five steps."""

    async def run_one(self, number: int) -> float:
        """Start a run and wait until it is over; seconds from the start to its first step."""
        ...


@runtime_checkable
class Mover(Protocol):
    """One that can accept runs while nothing moves them."""

    async def move(self, numbers: list[int]) -> float:
        """Accept runs, and then have one worker move them: seconds from its start until the last one is over."""
        ...


def answer(opened: Callable[[], AbstractAsyncContextManager[Peer]]) -> None:
    """Open the peer and answer until there are no more questions."""
    # Libraries print what they like; only answers may go where they are read.
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "w", buffering=1)
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    asyncio.run(_answer(opened, answers))


async def _answer(opened: Callable[[], AbstractAsyncContextManager[Peer]], answers: TextIO) -> None:
    numbers = iter(range(10**9))
    async with opened() as peer:
        await peer.run_one(next(numbers))
        print(json.dumps({"ready": True}), file=answers)
        while line := await asyncio.to_thread(sys.stdin.readline):
            print(json.dumps(await measured(peer, json.loads(line), numbers)), file=answers)


async def measured(peer: Peer, question: dict[str, Any], numbers: Iterator[int]) -> dict[str, Any]:
    """Carry out what is asked: runs one after the other for some seconds, or so many with `AT_ONCE` under way.

    Or so many that are there before a worker is, where the peer can do that; none else.
    """
    if "moved" in question:
        if not isinstance(peer, Mover):
            return {}
        return {"runs_per_s": question["moved"] / await peer.move([next(numbers) for _ in range(question["moved"])])}
    began_s = time.monotonic()
    if "single" in question:
        delays = []
        while (spent_s := time.monotonic() - began_s) < question["single"]:
            delays.append(await peer.run_one(next(numbers)))
        return {"runs_per_s": len(delays) / spent_s, "first_step_s": delays}
    waiting = iter(range(question["loaded"]))

    async def hand() -> None:
        for _ in waiting:
            await peer.run_one(next(numbers))

    await asyncio.gather(*(hand() for _ in range(AT_ONCE)))
    return {"runs_per_s": question["loaded"] / (time.monotonic() - began_s)}


@contextmanager
def server(*command: str) -> Iterator[None]:
    """A server of the peer for as long as the block lasts; what it says goes to standard error."""
    process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=sys.stderr, stderr=sys.stderr)
    try:
        yield
    finally:
        process.terminate()
        try:
            process.wait(STOP_WITHIN_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


@asynccontextmanager
async def answering_at(port: int) -> AsyncIterator[None]:
    """Wait until something listens at a port of this machine.

    Raises:
        TimeoutError: Nothing does.
    """
    async with asyncio.timeout(WITHIN_S):
        while True:
            try:
                _, writer = await asyncio.open_connection("127.0.0.1", port)
            except OSError:
                await asyncio.sleep(LOOK_S)
            else:
                writer.close()
                break
    yield
