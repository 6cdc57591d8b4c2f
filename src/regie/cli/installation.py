"""One installation on this machine: its folder, its database, its release, its processes."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import getpass
import json
import os
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from regie.cli.pools import Pools
from regie.cli.ports import free_port
from regie.cli.processes import Process, Supervisor
from regie.core.audit import Actor
from regie.core.errors import InvalidInput, Unavailable
from regie.core.release import Release
from regie.settings import Settings, read_or_make_token
from regie.store import releases, walls
from regie.store.database import Database
from regie.store.migrating import migrate
from regie.store.postgres_server import PostgresServer
from regie.store.sealer import Sealer
from regie.store.walls import Login

Say = Callable[[str], None]


def operator() -> Actor:
    """Whoever runs the command line: the operator, under the name of the machine's user."""
    return Actor(type="operator", id=getpass.getuser())


@dataclass
class Installation:
    """Where things are and how they are started.

    Args:
        settings: Of this installation.
        say: Shows progress to whoever waits.
    """

    settings: Settings
    say: Say

    def server(self) -> PostgresServer | None:
        """The database server that Regie itself looks after; none when the operator has one."""
        return None if self.settings.database_url else PostgresServer(self.settings.home / "postgres", say=self.say)

    def start_database(self) -> str:
        """The address of the database, started if it is ours."""
        server = self.server()
        return self.settings.database_url if server is None else server.ensure().dsn

    @asynccontextmanager
    async def database(self) -> AsyncIterator[Database]:
        """The database, migrated and open."""
        dsn = await asyncio.to_thread(self.start_database)
        await migrate(dsn)
        async with Database(dsn, Sealer.from_file(self.settings.sealing_key_file)) as database:
            yield database

    def running_address(self) -> str | None:
        """The address of the database if it may answer now; nothing is started for it."""
        server = self.server()
        if server is None:
            return self.settings.database_url
        found = server.address() if self.settings.home.exists() else None
        return found.dsn if found else None

    @asynccontextmanager
    async def running_database(self) -> AsyncIterator[Database]:
        """The database as it is: neither started nor migrated for this.

        Raises:
            Unavailable: It does not run, or does not answer.
        """
        dsn = self.running_address()
        if dsn is None:
            raise Unavailable(
                f"Nothing runs in {self.settings.home}.", hint="`regie up` loads the workspace as it starts."
            )
        async with Database(dsn, Sealer.from_file(self.settings.sealing_key_file)) as database:
            yield database

    async def load(self, database: Database) -> Release:
        """Check the workspace and make it the current release.

        Raises:
            DefinitionError: It has faults; the release before stays current.
        """
        release = self.read_release()
        async with database.transaction() as tx:
            await releases.put(tx, release, by=operator())
        return release

    def read_release(self) -> Release:
        """Read and check the workspace, connections included. Changes nothing.

        Raises:
            DefinitionError: It has faults.
            InvalidInput: It has no tenants.
        """
        # Reading a workspace takes the whole catalogue and every connector; most commands need neither.
        from regie.cli.checking import checked_release  # noqa: PLC0415  for whoever loads a release

        folder = self.settings.workspace_folder
        release = checked_release(folder)
        if not release.tenants:
            raise InvalidInput(
                f"The workspace {folder} has no tenants.",
                hint="A tenant is a file tenants/NAME.yaml; `regie demo` makes one to look at.",
            )
        return release

    async def start(self, supervisor: Supervisor, dsn: str, database: Database) -> Process:
        """Start gateway, web, notary and the workers of each domain in use; the web process is given back.

        Args:
            dsn: Connection string of the owner of the tables.
            database: Open for as long as they run: workers of domains that come into use meanwhile are started too.

        Raises:
            WallRefused: The owner of the database may not make logins for them.
        """
        settings = self.settings
        read_or_make_token(settings.web_token_file)
        read_or_make_token(settings.operator_token_file)
        read_or_make_token(settings.metrics_token_file)
        own = (walls.Process.WEB, walls.Process.GATEWAY, walls.Process.NOTARY)
        logins = [Login(each, read_or_make_token(settings.database_token_file(each))) for each in own]
        web_dsn, gateway_dsn, notary_dsn = await walls.build(dsn, logins)
        logs = settings.home / "logs"
        # Chosen here, so that a process that is started again answers where it did before, and so that all of them can
        # start at once.
        gateway_port = free_port(settings.gateway_port)
        common = {
            "home": str(settings.home),
            "gateway_url": f"http://127.0.0.1:{gateway_port}",
            "crash_at": "",
            "traces_url": settings.traces_url,
        }
        at_gateway = {"database_url": gateway_dsn, "gateway_port": str(gateway_port), "crash_at": settings.crash_at}
        gateway = Process("gateway", "regie.gateway", logs, environment={**common, **at_gateway}, with_secrets=True)
        at_web = {
            "database_url": web_dsn,
            "port": str(settings.port or free_port()),
            "local_accounts": str(settings.local_accounts),
        }
        web = Process("web", "regie.web", logs, environment={**common, **at_web})
        at_notary = {"database_url": "", "notary_database_url": settings.notary_database_url or notary_dsn}
        if (port := settings.notary_metrics_port) is not None:
            # As for the others: one that is started again tells them where it did before.
            at_notary["notary_metrics_port"] = str(port or free_port())
        notary = Process("notary", "regie.notary", logs, environment={**common, **at_notary})
        pools = Pools(settings, supervisor, dsn, common)
        workers = await pools.more(database, crash_at=settings.crash_at)
        await supervisor.add_together(gateway, web, notary, *workers)
        supervisor.watchers.append(asyncio.create_task(pools.follow(database)))
        return web

    @contextlib.contextmanager
    def alone(self) -> Iterator[None]:
        """Keep others from starting what runs here, from the first preparation until everything has stopped.

        Raises:
            InvalidInput: Somebody else has started it, or the folder cannot be used.
        """
        try:
            self.settings.home.mkdir(parents=True, exist_ok=True, mode=0o700)
            lock = self._lock_file.open("w")
        except OSError as error:
            raise InvalidInput(
                f"The folder {self.settings.home} cannot be used: {error.strerror}.",
                hint="Set REGIE_HOME to a folder of yours.",
            ) from error
        with lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError as error:
                raise InvalidInput(
                    f"Regie already runs in {self.settings.home}, or is just being started or stopped.",
                    hint="Stop it first: regie down. Or use another REGIE_HOME.",
                ) from error
            # Whatever a start that was killed has left behind.
            self.forget_state()
            yield

    def write_state(self, **addresses: str) -> None:
        """Say what runs here and where, for other commands."""
        draft = self.settings.state_file.with_suffix(".new")
        draft.write_text(json.dumps({"pid": os.getpid(), **addresses}))
        draft.replace(self.settings.state_file)

    def read_state(self) -> dict[str, str]:
        """What runs here; empty when nothing does.

        The lock tells, not the process id: that of an `up` that was killed may be anybody's by now.
        """
        try:
            state = json.loads(self.settings.state_file.read_text())
            with self._lock_file.open() as lock:
                fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return {name: str(value) for name, value in state.items()}
        except (OSError, ValueError):
            pass
        return {}

    @property
    def _lock_file(self) -> Path:
        """Held by whoever starts, runs or stops this installation."""
        return self.settings.home / "up.lock"

    def forget_state(self) -> None:
        """Nothing runs here any more."""
        self.settings.state_file.unlink(missing_ok=True)


def real_home(settings: Settings) -> Settings:
    """The settings with an absolute home, so that every process means the same folder."""
    return settings.model_copy(update={"home": Path(settings.home).absolute()})


def demo_file(settings: Settings) -> Path:
    """The file that makes an installation a demo."""
    return settings.home / "demo.json"


def demo_home(settings: Settings) -> bool:
    """Whether this installation is the demo."""
    return demo_file(settings).exists()
