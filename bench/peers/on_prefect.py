"""Five tasks on Prefect, its server on our PostgreSQL: `python -m bench.peers.on_prefect PORT`.

`turn.py` puts the server's address, its database and its folder into the environment: Prefect reads them on import.
"""

from __future__ import annotations

import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from prefect import flow, task

from bench.peers.answering import answer, answering_at, server

BEGUN: dict[int, float] = {}


@task(persist_result=True)
async def step(run: int, value: int) -> int:
    """Do nothing."""
    if value == 1:
        BEGUN[run] = time.monotonic()
    return value


@flow(persist_result=True)
async def five(run: int) -> int:
    """Five tasks, one after the other."""
    return sum([await step(run, value) for value in range(1, 6)])


class OnPrefect:
    """Flows in this process; the server keeps their states."""

    async def run_one(self, number: int) -> float:
        """See `answering.Peer`."""
        began_s = time.monotonic()
        await five(number)
        return BEGUN.pop(number) - began_s


@asynccontextmanager
async def opened() -> AsyncIterator[OnPrefect]:
    """The server."""
    port = int(sys.argv[1])
    program = str(Path(sys.executable).parent / "prefect")
    with server(program, "server", "start", "--host=127.0.0.1", f"--port={port}", "--no-ui"):
        async with answering_at(port):
            yield OnPrefect()


if __name__ == "__main__":
    answer(opened)
