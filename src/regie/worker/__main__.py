"""A worker as a process: `python -m regie.worker [--domain NAME ...]`. `regie up` starts it.

Prints one line of JSON once it is registered. On SIGTERM or SIGINT it takes no more runs and finishes what it has in
hand. When the database connection that carries its lock is lost it exits with 1: it counts as dead, and must be. With
`REGIE_WORKER_METRICS_PORT` it tells its metrics there.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import secrets
import signal
import socket
import sys
from collections.abc import Sequence

import structlog
import uvloop

from regie import crashpoints, logs
from regie.core.errors import InvalidInput, RegieError, Unavailable
from regie.domains import load_catalogue
from regie.ending import ended
from regie.engine.working import WorkerLoop, keep_what_is_loaded
from regie.gateway_client import GatewayClient
from regie.settings import Settings, read_or_make_token
from regie.store import releases, workers
from regie.store.database import Database
from regie.store.sealer import Sealer
from regie.telemetry import exporting, metrics
from regie.telemetry.telling import telling
from regie.worker.emptying import Emptier
from regie.worker.observing import Observed
from regie.worker.performer import BlockPerformer
from regie.worker.starting import Starter

FINISH_WITHIN_S = 10.0
"""Seconds for what is in hand once the process is told to stop; what is left over goes to another worker."""
LOOK_EVERY_S = 0.05
MOST_CONNECTIONS = 20

log = structlog.get_logger(__name__)


async def work(settings: Settings, chosen: Sequence[str]) -> None:
    """Work until told to stop.

    Args:
        chosen: Domains to work for; all of the current release when there are none.

    Raises:
        InvalidInput: A setting is missing or wrong, or there is no such domain.
        Unavailable: The database does not answer, or the connection with this worker's lock is lost.
        FencedOut: This worker was taken for dead.
    """
    crashpoints.arm(settings.crash_at)
    if not settings.database_url or not settings.gateway_url:
        raise InvalidInput(
            "A worker needs REGIE_DATABASE_URL and REGIE_GATEWAY_URL.", hint="`regie up` starts it with both."
        )
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    sealer = Sealer.from_file(settings.sealing_key_file, domains=chosen or None)
    async with (
        contextlib.AsyncExitStack() as clients,
        telling(settings, "worker", settings.worker_metrics_port) as told_at,
        Database(settings.database_url, sealer, max_connections=MOST_CONNECTIONS, by_key=True) as database,
    ):
        served = await _domains(database, chosen)
        gateways = {
            domain: await clients.enter_async_context(
                GatewayClient(settings.gateway_url, read_or_make_token(settings.worker_token_file(domain)))
            )
            for domain in served
        }
        clients.enter_context(exporting.exported(settings.traces_url, "worker"))
        catalogue = load_catalogue()
        observed = Observed(BlockPerformer(catalogue, gateways.__getitem__))
        loop = WorkerLoop(
            database,
            catalogue,
            observed,
            domains=served,
            name=f"{socket.gethostname()}-{os.getpid()}-{secrets.token_hex(2)}",
            slots=settings.slots,
            watcher=observed,
        )
        starter = Starter(database, catalogue, gateways.__getitem__, served)
        emptier = Emptier(database, served)
        keep_what_is_loaded()
        metrics.WORKER_SLOTS.set(loop.slots)
        metrics.WORKER_RUNS.set_function(lambda: len(loop.live))
        await _run(database, loop, (starter, emptier), stop, told_at)


async def _domains(database: Database, chosen: Sequence[str]) -> list[str]:
    async with database.reading() as tx:
        known = sorted((await releases.current(tx)).domains)
    unknown = sorted(set(chosen) - set(known))
    if unknown:
        raise InvalidInput(f"There is no domain {', '.join(unknown)}.", hint="Known: " + ", ".join(known))
    return sorted(set(chosen)) or known


async def _run(
    database: Database, loop: WorkerLoop, beside: Sequence[Starter | Emptier], stop: asyncio.Event, told_at: str
) -> None:
    """Let the loop and what runs beside it run, say when it is registered, and give them a limited time to finish."""
    running = asyncio.create_task(loop.run(stop))
    others = [asyncio.create_task(each.run(stop)) for each in beside]
    announcing = asyncio.create_task(_announce(database, loop, told_at))
    stopping = asyncio.create_task(stop.wait())
    try:
        await asyncio.wait({running, stopping}, return_when=asyncio.FIRST_COMPLETED)
        at_work = {running, *others} if stop.is_set() else {running}
        _, unfinished = await asyncio.wait(at_work, timeout=FINISH_WITHIN_S)
        if running in unfinished:
            log.warning("worker:unfinished", runs=len(loop.live))
    finally:
        await ended([running, *others, announcing, stopping])
    if not running.cancelled():
        running.result()
    log.info("worker:stopped", worker=loop.name)


async def _announce(database: Database, loop: WorkerLoop, told_at: str) -> None:
    """Print that the worker is ready once others can see it."""
    while True:
        with contextlib.suppress(Unavailable):
            async with database.reading() as tx:
                if any(row.name == loop.name for row in await workers.list_workers(tx)):
                    break
        await asyncio.sleep(LOOK_EVERY_S)
    said = {"ready": True, "worker": loop.name, "domains": list(loop.domains), "metrics": told_at}
    sys.stdout.write(json.dumps(said) + "\n")
    sys.stdout.flush()


def main() -> None:
    """Work; exit with 1 and one line in the log when that cannot be."""
    parser = argparse.ArgumentParser(prog="python -m regie.worker", description=__doc__)
    parser.add_argument("--domain", action="append", default=[], help="work for this domain only; may be repeated")
    given = parser.parse_args()
    logs.configure()
    try:
        uvloop.run(work(Settings(), given.domain))
    except RegieError as error:
        log.critical("worker:failed", kind=type(error).__name__, reason=error.message, hint=error.hint)
        sys.exit(1)


if __name__ == "__main__":
    main()
