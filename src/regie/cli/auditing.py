"""Commands about the audit log as a whole: which logs there are, what to keep of them, bundles, checking, keys."""

from __future__ import annotations

import asyncio
import importlib.util
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, TypeVar

import typer

from regie.cli.installation import Installation, real_home
from regie.cli.terminal import Json, err, out, print_json, print_table, say
from regie.core.errors import InvalidInput, Unavailable
from regie.core.signed_note import KeyKind, VerifierKey
from regie.notary import bundle
from regie.notary.bundle import Exported
from regie.notary.examining import faults_of_anchor
from regie.notary.keys import KeyFile
from regie.notary.witnessing import WitnessPolicy
from regie.settings import Settings
from regie.store import audit, logs, run_lists
from regie.store.database import Database, Transaction
from regie.store.keys import Cursor
from regie.store.logs import ANCHOR, Log

Tenant = Annotated[
    str, typer.Option(help="Tenant it is about; may be left out with --domain for facts about the deployment.")
]
Domain = Annotated[str, typer.Option(help="Domain of that tenant.")]
VERIFIER = "regie_verify"
PAGE = 500
SIGNED_WITHIN_S = 30.0
POLL_S = 0.1
T = TypeVar("T")


def list_logs(as_json: Json = False) -> None:
    """List the logs: one for each tenant and domain, one for the deployment, and the anchor."""
    found = asyncio.run(_logs())
    if as_json:
        print_json(
            [{"tenant": log.tenant, "domain": log.domain, "origin": log.origin, "size": log.size} for log in found]
        )
    else:
        rows = ((log.tenant, log.domain, log.origin, log.size) for log in found)
        print_table(("tenant", "domain", "log", "entries"), rows, nothing="Nothing has been logged.")


def checkpoint(tenant: Tenant = "", domain: Domain = "") -> None:
    """Print the newest signed checkpoint of a log. Keep it: it shows later that nothing before it was changed."""

    async def ask(tx: Transaction) -> str:
        log = await logs.find(tx, tenant, domain)
        newest = await logs.newest(tx, log)
        if newest is None:
            raise InvalidInput(f"Nothing of {log.origin} has been signed yet.", hint="Try again in some seconds.")
        return newest.raw

    sys.stdout.write(asyncio.run(_reading(ask)))


def keys() -> None:
    """Print the policy for auditors: the notary's public keys, and the witnesses that must have signed."""

    async def ask(tx: Transaction) -> str:
        anchor = await logs.find(tx, *ANCHOR)
        public = [key for key, _ in await logs.signing_keys(tx)]
        return bundle.policy(anchor.origin, public, WitnessPolicy.read(Settings().witnesses).lines)

    sys.stdout.write(asyncio.run(_reading(ask)))


def export(
    path: Annotated[Path, typer.Argument(help="Folder to make, or a file ending in .zip.")],
    tenant: Tenant = "",
    domain: Domain = "",
    since: Annotated[datetime | None, typer.Option("--from", help="Only what was written from then on, UTC.")] = None,
    until: Annotated[datetime | None, typer.Option("--to", help="Only what was written before then, UTC.")] = None,
    with_people: Annotated[
        bool, typer.Option("--with-people", help="Say who the people are, but for erased ones.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Write a bundle of one log that an auditor can check without us.

    VERIFY.md in it says how. It holds the hashes of the whole log, and the entries of the time that was asked for.
    """
    done = asyncio.run(_export(path, (tenant, domain), _utc(since), _utc(until), with_people=with_people))
    if as_json:
        print_json(
            {
                "path": str(path),
                "origin": done.origin,
                "size": done.size,
                "first": done.span.first,
                "end": done.span.end,
                "witnessed": done.witnessed,
                "checkpoint": done.checkpoint,
            }
        )
    else:
        out.print(f"{path}: {done.span.end - done.span.first} of {done.size} entries of {done.origin}.", markup=False)
        out.print(f"Check it: regie-verify {path}", markup=False, soft_wrap=True)


def verify(
    path: Annotated[Path | None, typer.Argument(help="A bundle; without one every log of this installation.")] = None,
    policy: Annotated[Path | None, typer.Option(help="Keys and witnesses to trust; else those of the bundle.")] = None,
    kept: Annotated[list[Path] | None, typer.Option(help="A checkpoint kept from earlier; may be repeated.")] = None,
    tsa: Annotated[Path | None, typer.Option(help="PEM file of the timestamp authority to trust.")] = None,
    as_json: Json = False,
) -> None:
    """Check a bundle, or every log of this installation, and name the first entry that something is wrong with.

    Exit code 0 when everything holds, 1 when something was altered, 2 when a bundle cannot be read. With --json, the
    report of a bundle; of an installation those of all logs, and what is wrong with the anchor and with rows of runs.
    """
    if importlib.util.find_spec(VERIFIER) is None:
        raise InvalidInput("The package regie-verify is not installed.", hint="`make setup` in a clone installs it.")
    given = [
        *(("--policy", str(policy)) if policy else ()),
        *(part for each in kept or () for part in ("--kept", each)),
        *(("--tsa", str(tsa)) if tsa else ()),
    ]
    if path is not None:
        raise typer.Exit(_verified(path, [*map(str, given), *(("--json",) if as_json else ())]).returncode)
    if given:
        raise InvalidInput(
            "A policy, kept checkpoints and an authority are about one log.", hint="Export it, and check that."
        )
    raise typer.Exit(asyncio.run(_verify_all(as_json=as_json)))


def rotate_key() -> None:
    """Have the notary sign with a new key. The old one names it, and signs beside it for 30 days.

    Give auditors and witnesses the new policy meanwhile: regie audit keys
    """
    settings = real_home(Settings())
    file = KeyFile(settings.signing_key_file)
    if not file.exists():
        raise InvalidInput(
            f"There is no key in {settings.signing_key_file} yet.", hint="`regie up` makes the first one."
        )
    new = file.add()
    named = VerifierKey("the new key", KeyKind.LOG, new.public)
    out.print(f"The notary uses it from its next turn on: {named.public.hex()}", markup=False)


async def _logs() -> list[Log]:
    return await _reading(logs.list_logs)


async def prove(settings: Settings, tenant: str, domain: str, path: Path) -> Exported:
    """Wait until everything written so far is signed, and write the bundle of a log.

    Raises:
        Unavailable: The notary does not get to it.
    """
    deadline_s = time.monotonic() + SIGNED_WITHIN_S
    async with Installation(settings, say).running_database() as database:
        while True:
            async with database.reading() as tx:
                if (await logs.waiting(tx))[0] == 0:
                    log = await logs.find(tx, tenant, domain)
                    with bundle.sink(path) as into:
                        return await bundle.export(
                            tx, log, into, witness_lines=WitnessPolicy.read(settings.witnesses).lines
                        )
            if time.monotonic() > deadline_s:
                raise Unavailable("The notary does not sign what was written.", hint="See logs/notary.log.")
            await asyncio.sleep(POLL_S)


async def _reading(ask: Callable[[Transaction], Awaitable[T]]) -> T:
    """Ask the database as it is; without a running `regie up` it is started for that."""
    async with _database() as database, database.reading() as tx:
        return await ask(tx)


@asynccontextmanager
async def _database() -> AsyncIterator[Database]:
    installation = Installation(real_home(Settings()), say)
    opened = installation.running_database() if installation.running_address() else installation.database()
    async with opened as database:
        yield database


async def _export(
    path: Path, of: tuple[str, str], since: datetime | None, until: datetime | None, *, with_people: bool
) -> Exported:
    lines = WitnessPolicy.read(Settings().witnesses).lines

    async def ask(tx: Transaction) -> Exported:
        log = await logs.find(tx, *of)
        with bundle.sink(path) as into:
            return await bundle.export(
                tx, log, into, since=since, until=until, witness_lines=lines, with_people=with_people
            )

    return await _reading(ask)


async def _verify_all(*, as_json: bool) -> int:
    """Export every log to a folder that is thrown away, check it, and compare runs with what their rows remember."""
    worst, reports = 0, []
    lines = WitnessPolicy.read(Settings().witnesses).lines
    async with _database() as database:
        async with database.reading() as tx:
            found = [log for log in await logs.list_logs(tx) if log.size and (log.tenant, log.domain) != ANCHOR]
        with tempfile.TemporaryDirectory(prefix="regie-audit-") as folder:
            for log in found:
                path = Path(folder) / str(log.log_id)
                async with database.reading() as tx:
                    now = await logs.find(tx, log.tenant, log.domain)
                    with bundle.sink(path) as into:
                        await bundle.export(tx, now, into, witness_lines=lines)
                done = await asyncio.to_thread(_verified, path, *((["--json"], subprocess.PIPE) if as_json else ()))
                # Of a bundle that cannot be read there is no report; the verifier says why on standard error.
                reports += [json.loads(done.stdout)] if done.stdout else []
                worst = max(worst, done.returncode)
        async with database.reading() as tx:
            faults = await faults_of_anchor(tx)
        faults += await _faults_of_runs(database)
    code = max(worst, int(bool(faults)))
    if as_json:
        print_json({"ok": code == 0, "logs": reports, "faults": faults})
    for fault in faults:
        err.print(fault, markup=False)
    return code


async def _faults_of_runs(database: Database) -> list[str]:
    """What is wrong with chains of runs, entries that the notary has not taken in yet included."""
    faults: list[str] = []
    before: Cursor | None = None
    while True:
        async with database.reading() as tx:
            page = await run_lists.list_runs(tx, limit=PAGE, before=before)
            for row in page:
                faults += [f"run {row.key.run}: {fault}" for fault in await audit.verify(tx, row.key)]
        if not page:
            return faults
        before = page[-1].cursor


def _verified(path: Path, arguments: Sequence[str] = (), into: int | None = None) -> subprocess.CompletedProcess[bytes]:
    """Let the verifier look, in a process of its own: it shares nothing with Regie but the bundle.

    Args:
        into: `subprocess.PIPE` to have what it prints; it prints for itself when nothing is said.
    """
    return subprocess.run([sys.executable, "-m", VERIFIER, str(path), *arguments], stdout=into, check=False)


def _utc(moment: datetime | None) -> datetime | None:
    return None if moment is None else moment.replace(tzinfo=moment.tzinfo or UTC)
