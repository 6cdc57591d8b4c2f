"""What `regie doctor` looks at without a database: Python, folders, files, room, server programs, processes."""

from __future__ import annotations

import os
import shutil
import stat
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx2

from regie.cli.findings import Finding, info, ok, problem, warning
from regie.cli.installation import Installation
from regie.core.errors import RegieError
from regie.settings import Settings
from regie.store import postgres_binaries
from regie.store.sealer import Sealer

OLDEST_PYTHON = (3, 11)
LITTLE_BYTES = 1024**3
"""Room below which somebody should look."""
LEAST_BYTES = 200 * 1024**2
"""Room below which the database may stop at any moment; it also needs that much to begin with."""
ANSWER_WITHIN_S = 5.0


def python() -> Finding:
    """The version of Python."""
    version = ".".join(map(str, sys.version_info[:3]))
    if sys.version_info < OLDEST_PYTHON:
        return problem("python", f"Python is {version}.", "Regie needs Python 3.11 or newer.")
    return ok("python", f"Python {version}.")


def home(settings: Settings) -> Finding:
    """The folder of the installation."""
    folder = settings.home
    try:
        found = folder.stat()
    except FileNotFoundError:
        return info("home", f"There is no installation in {folder}.", "Make one to look at: regie demo")
    except OSError as error:
        return problem(
            "home", f"{folder} cannot be looked at: {error.strerror}.", "Set REGIE_HOME to a folder of yours."
        )
    if wrong := _wrong_with(folder, found):
        return problem("home", *wrong)
    return ok("home", f"{folder}.")


def _wrong_with(folder: Path, found: os.stat_result) -> tuple[str, str] | None:
    """What is wrong with the installation's folder, and the remedy."""
    if not stat.S_ISDIR(found.st_mode):
        return f"{folder} is no folder.", "Set REGIE_HOME to a folder of yours."
    if found.st_uid != os.geteuid():
        return f"{folder} belongs to another user.", f"chown {_me()} {folder}, or set REGIE_HOME."
    if not os.access(folder, os.W_OK | os.X_OK):
        return f"{folder} cannot be written.", f"chmod u+rwx {folder}, or set REGIE_HOME."
    if found.st_mode & 0o022:
        return f"Others may write in {folder}.", f"chmod go-w {folder}"
    return None


def _me() -> str:
    return str(os.geteuid())


def private_files(settings: Settings) -> Iterator[Finding]:
    """Keys, tokens, passwords and the vault: nobody else may read them."""
    places = [
        *(settings.keys.iterdir() if settings.keys.is_dir() else ()),
        settings.vault_file,
        settings.vault_file.with_suffix(".key"),
        settings.sign_ins_file,
        settings.signing_key_file,
        *((settings.deposit_credentials,) if settings.deposit_credentials else ()),
        settings.home / "postgres" / "passwords.json",
    ]
    found = [file for file in sorted(places) if file.is_file()]
    count = 0
    for file in found:
        status = file.stat()
        if status.st_mode & 0o077:
            count += 1
            yield problem("private files", f"Others may read {file}.", f"chmod 600 {file}")
        if status.st_uid != os.geteuid():
            count += 1
            yield problem("private files", f"{file} belongs to another user.", f"chown {_me()} {file}")
    if settings.sealing_key_file.is_file():
        try:
            Sealer.from_file(settings.sealing_key_file)
        except RegieError as error:
            count += 1
            yield problem("private files", error.message, error.hint or "")
    if found and not count:
        yield ok("private files", f"{len(found)} keys, tokens and vaults, closed to others.")


def room(folder: Path) -> Finding:
    """Space on the disk."""
    there = next(each for each in (folder, *folder.parents) if each.exists())
    free = shutil.disk_usage(there).free
    said = f"{free // 1024**2} MB are free at {there}."
    if free < LEAST_BYTES:
        return problem("disk", said, "Free some space: the database stops when there is none.")
    if free < LITTLE_BYTES:
        return warning("disk", said, "Free some space before it runs out.")
    return ok("disk", said)


def server_programs(settings: Settings) -> Finding:
    """The database server that Regie brings along."""
    if settings.database_url:
        return info("database programs", "Not needed: REGIE_DATABASE_URL names a server of yours.")
    try:
        return ok("database programs", f"PostgreSQL {postgres_binaries.installed()}.")
    except RegieError as error:
        return problem("database programs", error.message, error.hint or "")


def processes(installation: Installation) -> Iterator[Finding]:
    """What `regie up` runs here, and whether it answers."""
    settings = installation.settings
    state = installation.read_state()
    if not state and settings.state_file.exists():
        yield warning(
            "processes",
            f"{settings.state_file} says that Regie runs, and its process is gone.",
            "Start it again: regie up. What was under way goes on.",
        )
        return
    if not state:
        yield info("processes", "Nothing runs.", "Start it: regie up")
        return
    yield ok("processes", f"`regie up` runs as process {state['pid']}.")
    for name in ("gateway", "web"):
        if address := state.get(name):
            yield _answering(name, address, settings)


def _answering(name: str, address: str, settings: Settings) -> Finding:
    log = settings.home / "logs" / f"{name}.log"
    remedy = f"Look at the end of {log}; `regie down` and `regie up` start it afresh."
    try:
        answer = httpx2.get(f"{address}/health", timeout=ANSWER_WITHIN_S, trust_env=False)
    except httpx2.HTTPError as error:
        return problem(name, f"It does not answer at {address} ({type(error).__name__}).", remedy)
    if answer.is_success:
        return ok(name, f"Answers at {address}.")
    try:
        said = str(answer.json().get("detail", ""))
    except (ValueError, AttributeError):
        said = "with something else than an answer"
    return problem(name, f"It answers {answer.status_code} at {address}: {said}", remedy)
