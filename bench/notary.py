"""`python -m bench.notary`: how fast the notary takes leaves in and a bundle is checked, in leaves a second."""

from __future__ import annotations

import argparse
import asyncio
import json
import shutil
import sys
import tempfile
import time
from contextlib import suppress
from pathlib import Path
from uuid import uuid4

from pydantic import JsonValue

from regie.core.audit import Actor, Event, Fact
from regie.core.errors import RegieError
from regie.notary import bundle
from regie.notary.keys import KeyFile
from regie.notary.sequencing import Sequencer
from regie.store import audit, logs, walls
from regie.store.database import Database
from regie.store.keys import RunKey
from regie.store.migrating import migrate
from regie.store.postgres_server import PostgresServer
from regie.store.sealer import Sealer
from regie.store.sequencing import LogDatabase
from regie_verify.checking import check

FACTS_A_RUN = 10
RUNS_AT_ONCE = 100
ACTOR = Actor(type="worker", id="bench")
DETAIL: dict[str, JsonValue] = {"place": "close/0", "output_sha256": "0" * 64, "attempt": 1}


async def _fill(database: Database, leaves: int, customers: int) -> None:
    """Write leaves of runs, in turn for each customer."""
    facts = [Fact(event=Event.STEP_FINISHED, actor=ACTOR, detail=dict(DETAIL)) for _ in range(FACTS_A_RUN)]
    for first in range(0, leaves // FACTS_A_RUN, RUNS_AT_ONCE):
        async with database.transaction() as tx:
            chains = []
            for n in range(first, min(first + RUNS_AT_ONCE, leaves // FACTS_A_RUN)):
                key = RunKey(f"customer-{n % customers}", "identity", str(uuid4()))
                chain, entries = await audit.begin(tx, key, corr=key.run, ticket="ITSM-1", facts=facts)
                chains.append((key, entries))
            async with audit.written_with(tx, audit.addressed(chains), chain.at):
                pass


async def measure(leaves: int) -> dict[str, float]:
    """Fill an intake and empty it, for one log and for two hundred; then export and check the one."""
    folder = Path(tempfile.mkdtemp(prefix="regie-bench-notary-"))
    folder.chmod(0o755)  # noqa: ASYNC240  nothing else runs
    server = PostgresServer(folder / "postgres")
    figures: dict[str, float] = {}
    try:
        dsn = server.ensure().dsn
        await migrate(dsn)
        [url] = await walls.build(dsn, [walls.Login(walls.Process.NOTARY, "bench")])
        log_database = LogDatabase(url)
        sequencer = Sequencer(log_database, KeyFile(folder / "signing.json"))
        async with Database(dsn, Sealer.from_file(folder / "sealing.json")) as database:
            for customers in (1, 200):
                await _fill(database, leaves, customers)
                began_s, count = time.perf_counter(), 0
                while (done := await sequencer.step()).leaves:
                    count += done.leaves
                figures[f"leaves/s into {customers} logs"] = round(count / (time.perf_counter() - began_s))
            async with database.reading() as tx:
                log = await logs.find(tx, "customer-0", "identity")
                began_s = time.perf_counter()
                with bundle.sink(folder / "bundle") as into:
                    await bundle.export(tx, log, into)
            figures["leaves/s exported"] = round(log.size / (time.perf_counter() - began_s))
        await log_database.close()
        began_s = time.perf_counter()
        report = check(folder / "bundle")
        figures["leaves/s checked"] = round(log.size / (time.perf_counter() - began_s))
        if not report.is_whole:
            raise RuntimeError(report.as_text())
    finally:
        with suppress(RegieError):
            server.remove()
        shutil.rmtree(folder, ignore_errors=True)
    return figures


def main() -> None:
    """Measure and print the figures as JSON."""
    parser = argparse.ArgumentParser(prog="python -m bench.notary", description=__doc__)
    parser.add_argument("--leaves", type=int, default=40_000, help="in the intake each time (default: 40,000)")
    given = parser.parse_args()
    sys.stdout.write(json.dumps(asyncio.run(measure(given.leaves)), indent=2) + "\n")


if __name__ == "__main__":
    main()
