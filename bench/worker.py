"""A worker in a process of its own for measurements over processes: `python -m bench.worker DSN KEYFILE`.

Says `ready` once it is registered, then each run as it comes to a step, with the moment on the monotonic clock.
"""

from __future__ import annotations

import argparse
import asyncio
import signal
import sys
from collections.abc import Sequence
from pathlib import Path

import uvloop

from bench.engine import SLOTS
from bench.stand import CONNECTIONS
from bench.workload import CATALOGUE, DOMAIN, WOKEN, Doer
from regie.engine.working import WorkerLoop, keep_what_is_loaded
from regie.store import workers
from regie.store.database import Database
from regie.store.sealer import Sealer

LOOK_S = 0.01


def _say(*words: object) -> None:
    sys.stdout.write(" ".join(map(str, words)) + "\n")
    sys.stdout.flush()


async def _work(dsn: str, key_file: Path, domains: Sequence[str], told: str) -> None:
    def note(run: str, place: str, at_s: float) -> None:
        if place == told:
            _say(run, repr(at_s))

    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    async with Database(dsn, Sealer.from_file(key_file), max_connections=CONNECTIONS, by_key=True) as database:
        loop = WorkerLoop(database, CATALOGUE, Doer(note), domains, name="bench", slots=SLOTS)
        keep_what_is_loaded()
        working = asyncio.create_task(loop.run(stop))
        while not await _is_registered(database):  # noqa: ASYNC110  what is waited for is in a database
            await asyncio.sleep(LOOK_S)
        _say("ready")
        await working


async def _is_registered(database: Database) -> bool:
    async with database.reading() as tx:
        return bool(await workers.list_workers(tx))


def main() -> None:
    """Work until told to stop."""
    parser = argparse.ArgumentParser(prog="python -m bench.worker", description=__doc__)
    parser.add_argument("dsn")
    parser.add_argument("key_file", type=Path)
    parser.add_argument("--domain", action="append", default=[], help="whose runs to move; may be repeated")
    parser.add_argument("--tell", default=WOKEN, help="the step at which a run is told")
    given = parser.parse_args()
    uvloop.run(_work(given.dsn, given.key_file, given.domain or [DOMAIN], given.tell))


if __name__ == "__main__":
    main()
