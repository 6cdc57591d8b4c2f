"""`python -m torture.notary`: kills the notary and the database for a while, and looks whether the logs lack anything.

Writers write leaves all the time, each under an id that they chose. What the database acknowledged must be in a log
exactly once; what it did not may be there or not, never twice. Every checkpoint is derived again from the leaves.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import logging
import os
import random
import secrets
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from uuid import uuid4

from regie.cli.processes import Process, Supervisor
from regie.core.audit import Actor, Event, Fact, leaf_hash
from regie.core.errors import OutcomeUnknown, RegieError
from regie.core.merkle import Edge, Span
from regie.core.signed_note import Checkpoint, KeyKind, VerifierKey
from regie.crashpoints import CrashPoint
from regie.notary import bundle
from regie.store import audit, logs, walls
from regie.store.database import Database
from regie.store.keys import RunKey
from regie.store.logs import ANCHOR, Log
from regie.store.migrating import migrate
from regie.store.postgres_server import PostgresServer
from regie.store.sealer import Sealer
from regie_verify.checking import check

WRITERS = 6
PLACES = [(tenant, domain) for tenant in ("acme", "umbrella", "example") for domain in ("identity", "hr")]
EVERY_S = "0.05"
"""Twenty turns a second: the more turns, the more of them are hit."""
BLOW_EACH_S = 0.7
CUT_PART = 0.4
"""Part of the blows after which it also ends by itself."""
DATABASE_IN = 8
"""One blow of so many hits the database."""
PAGE = 2_000
QUIET_WITHIN_S = 60.0
ACTOR = Actor(type="gateway", id="torture")


@dataclass
class Outcome:
    """What came of it. `unknown` were neither acknowledged nor refused; some of them are in the logs."""

    seed: int
    seconds: float
    acknowledged: int = 0
    unknown: int = 0
    kills: int = 0
    database_stops: int = 0
    turns_cut: int = 0
    logged: int = 0
    checkpoints: int = 0
    lost: int = 0
    doubled: int = 0
    gaps: int = 0
    faults: list[str] = field(default_factory=list)

    @property
    def is_good(self) -> bool:
        """Whether nothing is missing, doubled or wrong."""
        return not (self.lost or self.doubled or self.gaps or self.faults)


@dataclass
class _Written:
    """What writers have written, by entry id."""

    acknowledged: set[str] = field(default_factory=set)
    unknown: set[str] = field(default_factory=set)


async def torture(seed: int, seconds: float) -> Outcome:
    """Torture a notary of its own, in a temporary folder, and examine its logs."""
    chance = random.Random(seed)  # noqa: S311  repeatable
    outcome = Outcome(seed, seconds)
    written = _Written()
    async with _standing() as (server, database, process, folder):
        stop = asyncio.Event()
        writers = [
            asyncio.create_task(_write(database, random.Random(chance.random()), written, stop))  # noqa: S311
            for _ in range(WRITERS)
        ]
        until_s = time.monotonic() + seconds
        while time.monotonic() < until_s:
            await asyncio.sleep(chance.uniform(0.3, 1.7) * BLOW_EACH_S)
            await _strike(chance, server, process, outcome)
        stop.set()
        await asyncio.gather(*writers)
        outcome.acknowledged, outcome.unknown = len(written.acknowledged), len(written.unknown)
        await _quiet(database)
        await _examine(database, written, outcome, folder)
    return outcome


@asynccontextmanager
async def _standing() -> AsyncIterator[tuple[PostgresServer, Database, Process, Path]]:
    folder = Path(tempfile.mkdtemp(prefix="regie-torture-notary-"))
    folder.chmod(0o755)  # noqa: ASYNC240  nothing else runs yet
    server = PostgresServer(folder / "postgres")
    supervisor = Supervisor(lambda _: None)
    try:
        dsn = (await asyncio.to_thread(server.ensure)).dsn
        await migrate(dsn)
        [url] = await walls.build(dsn, [walls.Login(walls.Process.NOTARY, secrets.token_urlsafe(16))])
        environment = {
            "home": str(folder),
            "notary_database_url": url,
            "notary_every_s": EVERY_S,
            "crash_at": "",
        }
        async with Database(dsn, Sealer.from_file(folder / "sealing.json"), wait_s=30) as database:
            process = Process("notary", "regie.notary", folder / "logs", environment=environment)
            await supervisor.add(process)
            supervisor.keep(server.is_running, server.ensure)
            yield server, database, process, folder
    finally:
        await supervisor.stop()
        with suppress(RegieError):
            server.remove()
        shutil.rmtree(folder, ignore_errors=True)


async def _strike(chance: random.Random, server: PostgresServer, process: Process, outcome: Outcome) -> None:
    if chance.randrange(DATABASE_IN) == 0:
        outcome.database_stops += 1
        if chance.random() < 0.5:
            await asyncio.to_thread(server.stop, mode="immediate")
        else:
            await asyncio.to_thread(server.kill)
        await asyncio.to_thread(server.ensure)
        return
    pid = process.pid
    if not pid:
        return
    if chance.random() < CUT_PART:
        # It comes back, takes some turns, and ends in the middle of one: leaves are out of the intake and in no log.
        process.environment["crash_at"] = f"{CrashPoint.IN_NOTARY}:{chance.randint(2, 9)}"
        outcome.turns_cut += 1
    outcome.kills += 1
    with suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)


async def _write(database: Database, chance: random.Random, written: _Written, stop: asyncio.Event) -> None:
    """Write leaves of runs, some in one transaction, some that are rolled back."""
    while not stop.is_set():
        tenant, domain = chance.choice(PLACES)
        key = RunKey(tenant, domain, str(uuid4()))
        facts = [Fact(event=Event.STEP_FINISHED, actor=ACTOR, detail={"n": n}) for n in range(chance.randint(1, 8))]
        ids: set[str] = set()
        try:
            async with database.transaction() as tx:
                chain, entries = await audit.begin(tx, key, corr=key.run, ticket="", facts=facts)
                ids = {entry.entry_id for entry in entries}
                async with audit.written_with(tx, audit.addressed([(key, entries)]), chain.at):
                    pass
                await asyncio.sleep(chance.choice([0, 0, 0, 0.02]))
        except OutcomeUnknown:
            written.unknown |= ids
        except RegieError:
            await asyncio.sleep(0.05)
        else:
            written.acknowledged |= ids


async def _quiet(database: Database) -> None:
    """Wait until the notary has taken everything in."""
    until_s = time.monotonic() + QUIET_WITHIN_S
    while time.monotonic() < until_s:
        with suppress(RegieError):
            async with database.reading() as tx:
                if (await logs.waiting(tx))[0] == 0:
                    return
        await asyncio.sleep(0.1)


async def _examine(database: Database, written: _Written, outcome: Outcome, folder: Path) -> None:
    found: Counter[str] = Counter()
    async with database.reading() as tx:
        [(public, _), *_] = await logs.signing_keys(tx)
        every = await logs.list_logs(tx)
        left = (await logs.waiting(tx))[0]
    if left:
        outcome.faults.append(f"{left} leaves are still in the intake")
    for log in every:
        if log.size:
            await _derive(database, log, public, found, outcome)
        if log.size and (log.tenant, log.domain) != ANCHOR:
            path = folder / f"bundle-{log.log_id}"
            async with database.reading() as tx:
                with bundle.sink(path) as into:
                    await bundle.export(tx, log, into)
            outcome.faults += [f"{log.origin}: {fault.message}" for fault in check(path).faults]
    outcome.lost = len(written.acknowledged - set(found))
    outcome.doubled = sum(count > 1 for count in found.values())
    strangers = set(found) - written.acknowledged - written.unknown
    # A transaction whose commit failed for good must leave nothing.
    outcome.faults += [f"{len(strangers)} leaves are logged that nobody wrote"] if strangers else []
    outcome.logged = sum(found.values())


async def _derive(database: Database, log: Log, public: bytes, found: Counter[str], outcome: Outcome) -> None:
    """Every checkpoint again from the leaves, which must stand without gaps."""
    hashes: list[bytes] = []
    for first in range(0, log.size, PAGE):
        async with database.reading() as tx:
            page = await logs.leaves(tx, log, Span(first, min(first + PAGE, log.size)))
        outcome.gaps += min(PAGE, log.size - first) - len(page)
        hashes += [leaf_hash(leaf) for _, leaf in page]
        if (log.tenant, log.domain) != ANCHOR:
            found.update(str(json.loads(leaf)["entry_id"]) for _, leaf in page)
    tree, after = Edge(), 0
    key = VerifierKey(log.origin, KeyKind.LOG, public)
    while True:
        async with database.reading() as tx:
            checkpoints = await logs.checkpoints(tx, log, after)
        if not checkpoints:
            return
        for each in checkpoints:
            tree.grow(hashes[tree.size : each.size])
            outcome.checkpoints += 1
            if Checkpoint.parse(each.note.text) != Checkpoint(log.origin, each.size, tree.root()):
                outcome.faults.append(f"{log.origin}: the checkpoint of size {each.size} is not over its leaves")
            if not key.has_signed(each.note):
                outcome.faults.append(f"{log.origin}: the checkpoint of size {each.size} is not signed")
        after = checkpoints[-1].size


def main() -> None:
    """Torture and say what came of it; exit with 1 when anything was lost, doubled or wrong."""
    parser = argparse.ArgumentParser(prog="python -m torture.notary", description=__doc__)
    parser.add_argument("--seconds", type=float, default=60.0, help="how long (default: 60)")
    parser.add_argument("--seed", type=int, help="draw the same blows again (default: new ones)")
    given = parser.parse_args()
    logging.getLogger("psycopg").setLevel(logging.CRITICAL)
    seed = secrets.randbits(31) if given.seed is None else given.seed
    outcome = asyncio.run(torture(seed, given.seconds))
    sys.stdout.write(json.dumps({**asdict(outcome), "good": outcome.is_good}, indent=2) + "\n")
    sys.exit(not outcome.is_good)


if __name__ == "__main__":
    main()
