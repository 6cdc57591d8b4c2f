"""Five activities on the Temporal development server, kept in a file: `python -m bench.peers.on_temporal FOLDER PORT`.

The development server keeps its state in SQLite; PostgreSQL is for the full server, which no wheel contains.
"""

from __future__ import annotations

import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path

from temporalio import activity, workflow
from temporalio.client import Client
from temporalio.worker import UnsandboxedWorkflowRunner, Worker

from bench.peers.answering import answer, answering_at, server

QUEUE = "bench"
BEGUN: dict[int, float] = {}


@activity.defn
async def step(run: int, value: int) -> int:
    """Do nothing."""
    if value == 1:
        BEGUN[run] = time.monotonic()
    return value


@workflow.defn
class Five:
    """Five activities, one after the other."""

    @workflow.run
    async def run(self, run: int) -> int:
        """See the class."""
        total = 0
        for value in range(1, 6):
            total += await workflow.execute_activity(
                step, args=[run, value], start_to_close_timeout=timedelta(seconds=60)
            )
        return total


class OnTemporal:
    """Worker and client in this process."""

    def __init__(self, client: Client) -> None:
        self._client = client

    async def run_one(self, number: int) -> float:
        """See `answering.Peer`."""
        began_s = time.monotonic()
        await self._client.execute_workflow(Five.run, number, id=f"five-{number}", task_queue=QUEUE)
        return BEGUN.pop(number) - began_s


@asynccontextmanager
async def opened() -> AsyncIterator[OnTemporal]:
    """The development server and a worker."""
    folder, port = Path(sys.argv[1]), int(sys.argv[2])
    program = str(Path(sys.executable).parent / "temporal")
    file = folder / "temporal.db"
    options = ["--headless", "--ip=127.0.0.1", f"--port={port}", f"--db-filename={file}", "--log-level=error"]
    with server(program, "server", "start-dev", *options):
        async with answering_at(port):
            client = await Client.connect(f"127.0.0.1:{port}")
            # Without the sandbox, which only costs time: this workflow is known to be deterministic.
            async with Worker(
                client,
                task_queue=QUEUE,
                workflows=[Five],
                activities=[step],
                workflow_runner=UnsandboxedWorkflowRunner(),
            ):
                yield OnTemporal(client)


if __name__ == "__main__":
    answer(opened)
