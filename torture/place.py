"""An installation to torture: the demo's, with two workers, all of its processes behind a proxy to the database."""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import shutil
import signal
import tempfile
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx2
import yaml
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from regie.cli.api import Api
from regie.cli.demo_world import TENANT, up_demo, world
from regie.cli.installation import Installation
from regie.cli.processes import Process
from regie.cli.running import Services
from regie.cli.story import Story, telling
from regie.core.errors import RegieError
from regie.settings import Settings
from regie.store.database import Database
from regie.store.postgres_server import PostgresServer
from regie.store.sealer import Sealer
from torture.disk import NoDisk, SmallDisk, small_disk
from torture.proxy import ChaosProxy
from torture.schedule import NOTARY, PROCESSES, SKEWED, Kind
from torture.skewed import AS_IT_IS, library, set_clock

SLOTS = 16
"""Runs that one worker moves at the same time."""
RUNG_S = 12
"""How long each rung of the approval ladder waits; two of them are silence for good."""
LOOK_S = 0.05
RULES = {
    # A desk that gives up after five tries would lose requests that Regie never saw: not what is examined here.
    "webhook_retries": 10_000,
    "webhook_timeout_seconds": 6.0,
}


@dataclass
class Place:
    """The installation and every way to reach it.

    Attributes:
        database: Straight to the server, past the proxy: for looking, never for what is examined.
        frozen: Processes that stand still at the moment, by name.
        clock: The file that the clock of one worker follows.
        disk: Where the database lies.
        left_out: Disturbances that this machine does not allow, and why.
    """

    story: Story
    installation: Installation
    server: PostgresServer
    proxy: ChaosProxy
    database: Database
    said: list[str] = field(default_factory=list)
    frozen: set[str] = field(default_factory=set)
    releases: int = 0
    clock: Path | None = None
    disk: SmallDisk | None = None
    left_out: dict[str, str] = field(default_factory=dict)

    @property
    def services(self) -> Services:
        """Addresses and supervisor."""
        return self.story.services

    @property
    def sandbox(self) -> httpx2.AsyncClient:
        """The hand above the imaginary world."""
        return self.story.sandbox.http

    @property
    def operator(self) -> Api:
        """The API, as the operator."""
        return self.story.operator

    def process(self, name: str) -> Process:
        """One of the installation's processes."""
        return next(each for each in self.services.supervisor.processes if each.name == name)

    def send(self, name: str, number: signal.Signals) -> int:
        """Send a signal to a process; its id, or 0 when it does not run."""
        pid = self.process(name).pid
        if pid:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, number)
        return pid

    def thaw(self) -> None:
        """Let every process go on that stands still."""
        for name in PROCESSES:
            self.send(name, signal.SIGCONT)
        self.frozen.clear()

    def heal(self) -> None:
        """Undo whatever still disturbs it."""
        self.proxy.heal()
        if self.disk is not None:
            self.disk.clear()
        if self.clock is not None:
            set_clock(self.clock, AS_IT_IS)
        self.thaw()

    def starts(self) -> Counter[str]:
        """How often each process has become ready."""
        return Counter({process.name: process.starts for process in self.services.supervisor.processes})

    async def change_tenant(self, change: Callable[[dict[str, Any]], None]) -> None:
        """Edit the tenant's file and make the workspace the current release, as an operator would."""
        file = self.services.settings.workspace_folder / "tenants" / f"{TENANT}.yaml"
        tenant = yaml.safe_load(file.read_text(encoding="utf-8"))
        change(tenant)
        file.write_text(yaml.safe_dump(tenant, sort_keys=False, allow_unicode=True), encoding="utf-8")
        await self.installation.load(self.database)
        self.releases += 1


@asynccontextmanager
async def standing(seed: int) -> AsyncIterator[Place]:
    """A fresh installation in a temporary folder; everything of it is removed at the end."""
    folder = Path(tempfile.mkdtemp(prefix="regie-torture-"))
    # Under root the database runs under another account, which must be able to enter.
    folder.chmod(0o755)  # noqa: ASYNC240  nothing else runs yet
    said: list[str] = []
    settings = Settings(home=folder / "home", port=0, database_url="", workspace=None, crash_at="", workers=2)
    left_out: dict[str, str] = {}
    try:
        async with AsyncExitStack() as stack:
            disk = _disk(folder, settings, stack, left_out)
            services = await stack.enter_async_context(up_demo(settings, said.append))
            installation = Installation(services.settings, said.append)
            server = installation.server()
            if server is None:
                raise RuntimeError("a torture place looks after its own database")
            address = server.ensure()
            listen = folder / "proxy" / f".s.PGSQL.{address.port}"
            listen.parent.mkdir()
            proxy = await stack.enter_async_context(
                ChaosProxy(listen, address.socket_dir / listen.name, random.Random(seed))  # noqa: S311  repeatable
            )
            sealer = Sealer.from_file(services.settings.sealing_key_file)
            database = await stack.enter_async_context(Database(address.dsn, sealer, wait_s=30))
            story = await stack.enter_async_context(telling(services))
            place = Place(story, installation, server, proxy, database, said, disk=disk, left_out=left_out)
            _give_a_clock(place, folder / "clock")
            (await place.sandbox.patch("/sandbox/rules", json=RULES)).raise_for_status()
            await place.change_tenant(_make_ladder_short)
            await _go_behind_the_proxy(place, make_conninfo(address.dsn, host=str(listen.parent)))
            try:
                yield place
            finally:
                place.heal()
    finally:
        with contextlib.suppress(RegieError):
            PostgresServer(settings.home / "postgres").remove()
        shutil.rmtree(folder, ignore_errors=True)


def _disk(folder: Path, settings: Settings, stack: AsyncExitStack, left_out: dict[str, str]) -> SmallDisk | None:
    """A disk of its own for the database, unmounted when the stack ends."""
    settings.home.mkdir(mode=0o755)
    # A folder that exists is taken for a demo's only when it says so.
    world(settings)
    try:
        return stack.enter_context(small_disk(settings.home / "postgres", folder / "disk"))
    except NoDisk as reason:
        left_out[Kind.DISK.value] = str(reason)
        return None


def _give_a_clock(place: Place, file: Path) -> None:
    """Have the supervisor start one worker from now on so that its clock can be turned."""
    found = library()
    if found is None:
        place.left_out[Kind.CLOCK.value] = "libfaketime is not installed; on Debian: apt-get install libfaketime"
        return
    set_clock(file, AS_IT_IS)
    process = place.process(SKEWED)
    process.arguments = (str(found), str(file), process.module, *process.arguments)
    process.module = "torture.skewed"
    place.clock = file


def _make_ladder_short(tenant: dict[str, Any]) -> None:
    tenant["settings"]["identity"] = {
        "manager_answers_within": f"{RUNG_S}s",
        "remind_after": "5s",
        "officer_answers_within": f"{RUNG_S}s",
    }


async def _go_behind_the_proxy(place: Place, dsn: str) -> None:
    """Start every process again with the proxy's address for the database's."""
    for name in PROCESSES:
        process = place.process(name)
        if name == NOTARY:
            own = process.environment["notary_database_url"]
            process.environment["notary_database_url"] = make_conninfo(own, host=conninfo_to_dict(dsn)["host"])
        else:
            own = process.environment["database_url"]
            process.environment.update(
                database_url=make_conninfo(own, host=conninfo_to_dict(dsn)["host"]), slots=str(SLOTS)
            )
        starts = process.starts
        place.send(name, signal.SIGKILL)
        while process.starts == starts:  # noqa: ASYNC110  another process is what is waited for
            await asyncio.sleep(LOOK_S)
