"""What tests in several folders need: a PostgreSQL server of their own, and a database of its own for each test."""

from __future__ import annotations

import asyncio
import gc
import os
import shutil
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Generator, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import SimpleNamespace
from typing import Any, TypeVar

import psycopg
import pytest
from hypothesis import HealthCheck, settings
from psycopg import sql
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from regie.cli import processes
from regie.store import walls
from regie.store.database import Database
from regie.store.migrating import migrate
from regie.store.postgres_folders import OWNER_NOTE
from regie.store.postgres_server import SERVICE_ROOT, PostgresServer
from regie.store.sealer import Sealer
from regie.store.walls import Login
from regie_sandbox.servers.process import NotInstalled

from .databases import Databases
from .nursery import forking

T = TypeVar("T")
Admin = psycopg.Connection[tuple[Any, ...]]
TEMPLATE = "regie_template"
DOMAINS = ("identity", "hr", "support", "certificates", "things")
"""The domains whose workers have a login in the databases of the tests."""
PASSWORD = "a password of the tests"
ROOM_BYTES = 2 * 1024**3
"""What the servers of all test processes may take."""
LONGEST_FIRST = ("e2e", "torture", "docs", "pages")
"""Folders whose files take minutes: begun last, each would keep one process busy while the others have nothing left."""
SLOW_THROUGHOUT = "\npytestmark = pytest.mark.slow\n"
"""The line of a file whose tests are all slow."""

# How long an example takes says how busy the machine is. What a test sets itself stands against this.
settings.register_profile(
    "regie",
    parent=settings.default,
    deadline=None,
    print_blob=True,
    suppress_health_check=[HealthCheck.too_slow],
)
settings.load_profile("regie")


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Where slow tests are left out, do not even read files of nothing else: a hundred and forty of them."""
    left_out = config.getoption("markexpr") == "not slow" and collection_path.suffix == ".py"
    return True if left_out and SLOW_THROUGHOUT in collection_path.read_text(encoding="utf-8") else None


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with the files that take longest."""
    here = Path(__file__).parent
    items.sort(key=lambda item: item.path.relative_to(here).parts[0] not in LONGEST_FIRST)


def pytest_collection_finish() -> None:
    """Have the collector of garbage pass over what lasts as long as the process: some hundred thousand objects."""
    gc.collect()
    gc.freeze()


@contextmanager
def _needing_what_is_installed() -> Iterator[None]:
    """Skip what needs a server of a vendor that is not on this machine, with the reason; on CI it fails."""
    try:
        yield
    except NotInstalled as lacking:
        if os.environ.get("CI"):  # noqa: TID251  tests may look
            pytest.fail(str(lacking))
        # Elsewhere a developer may lack the server, and the reason says what to install.
        pytest.skip(str(lacking))


def pytest_runtest_setup(item: pytest.Item) -> None:
    """See that what needs a database is known as slow."""
    needs_database = isinstance(item, pytest.Function) and "postgres_server" in item.fixturenames
    if needs_database and item.get_closest_marker("slow") is None:
        pytest.fail("It needs a database: mark it as slow.", pytrace=False)


@pytest.hookimpl(wrapper=True)
def pytest_fixture_setup() -> Generator[None, T, T]:
    """Begin with a fixture."""
    with _needing_what_is_installed():
        return (yield)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call() -> Generator[None, T, T]:
    """Run a test."""
    with _needing_what_is_installed():
        return (yield)


@pytest.fixture(scope="session")
def nursery() -> Iterator[SimpleNamespace]:
    """What forks processes for the tests of this test process."""
    with forking() as found:
        yield found


@pytest.fixture(scope="module")
def quick_starts(nursery: SimpleNamespace) -> Iterator[None]:
    """Installations that tests of the module start have their processes forked."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(processes, "asyncio", nursery)
        yield


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[PostgresServer]:
    """A server for this test process; it is deleted at the end."""
    folder = Path(tempfile.mkdtemp(prefix="regie-", dir=_memory()))
    # Under root the server runs under another account, which must be able to enter.
    folder.chmod(0o755)
    server = PostgresServer(folder / "postgres", service_root=folder / "service")
    try:
        _in_a_hurry(server)
        yield server
    finally:
        server.remove()
        shutil.rmtree(folder)


@pytest.fixture(scope="session", autouse=True)
def nothing_left_outside(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Under root the server of an installation keeps its data outside of its folder: those of the tests are deleted."""
    yield
    own = tmp_path_factory.getbasetemp()
    for note in SERVICE_ROOT.glob(f"*/{OWNER_NOTE}"):
        home = Path()
        with suppress(OSError):  # another test process deletes its own at the same time
            home = Path(note.read_text(encoding="utf-8").strip())
        if own in home.parents:
            PostgresServer(home).remove()


def _memory() -> Path | None:
    """A folder in memory, if the machine has one with room; a test that needs a disk makes a server of its own.

    A third of the time of a test with a database went into looking for free inodes: ext4 passes over those of files
    that were deleted in the last seconds, and emptied databases leave many.
    """
    memory = Path("/dev/shm")  # noqa: S108  the folder in it has a name of its own
    has_room = os.access(memory, os.W_OK) and shutil.disk_usage(memory).free > ROOM_BYTES
    return memory if has_room else None


def _in_a_hurry(server: PostgresServer) -> None:
    """Start it, and let passwords be checked in one round: tests connect some thousand times, without a pool."""
    addresses = (server.ensure().dsn, server.admin_dsn())
    with psycopg.connect(server.admin_dsn(), autocommit=True) as admin:
        admin.execute("alter system set scram_iterations = 1")
        admin.execute("set scram_iterations = 1")
        admin.execute("select pg_reload_conf()")
        for parts in map(conninfo_to_dict, addresses):
            statement = sql.SQL("alter role {} password {}")
            admin.execute(statement.format(sql.Identifier(str(parts["user"])), sql.Literal(parts["password"])))


@pytest.fixture(scope="session")
def postgres_dsn(postgres_server: PostgresServer) -> str:
    """Connection string of the superuser."""
    return postgres_server.admin_dsn()


@pytest.fixture(scope="session")
def postgres_admin(postgres_dsn: str) -> Iterator[Admin]:
    """A connection of the superuser: one for all tests, since a connection costs more than what it is asked."""
    with psycopg.connect(postgres_dsn, autocommit=True) as connection:
        yield connection


@pytest.fixture(scope="session")
def database_template(postgres_server: PostgresServer, postgres_admin: Admin) -> str:
    """Name of a migrated database without connections, to be copied."""
    address = postgres_server.ensure()
    postgres_admin.execute(sql.SQL("create database {} owner regie").format(sql.Identifier(TEMPLATE)))
    asyncio.run(migrate(make_conninfo(address.dsn, dbname=TEMPLATE)))
    return TEMPLATE


@pytest.fixture(scope="session")
def database_logins(postgres_server: PostgresServer, database_template: str) -> dict[str, str]:
    """Connection strings of the processes in the template, workers by their domain: `web`, `worker-hr`."""
    own = (walls.Process.WEB, walls.Process.GATEWAY, walls.Process.NOTARY)
    logins = [Login(each, PASSWORD) for each in own]
    logins += [Login(walls.Process.WORKER, PASSWORD, domain) for domain in DOMAINS]
    address = make_conninfo(postgres_server.ensure().dsn, dbname=database_template)
    built = asyncio.run(walls.build(address, logins))
    names = ["-".join(filter(None, (login.process, login.domain))) for login in logins]
    return dict(zip(names, built, strict=True))


@pytest.fixture
def url_of(database_logins: dict[str, str], database_url: str, postgres_admin: Admin) -> Callable[[str], str]:
    """The connection string of a process to the database of the test."""
    return lambda process: login(postgres_admin, database_logins[process], database_url)


def login(admin: Admin, address: str, database_url: str) -> str:
    """The connection string of a process, as one of `database_logins`, to the database of another one."""
    user, name = (str(conninfo_to_dict(each)[part]) for each, part in ((address, "user"), (database_url, "dbname")))
    # An installation that another test has run on this server gave it a password of its own.
    admin.execute(sql.SQL("alter role {} password {}").format(sql.Identifier(user), sql.Literal(PASSWORD)))
    return make_conninfo(address, dbname=name)


@pytest.fixture(scope="session")
def databases(postgres_dsn: str, database_template: str, database_logins: dict[str, str]) -> Databases:
    """Where the tests get their databases from."""
    return Databases(postgres_dsn, database_template)


@pytest.fixture
def database_url(
    request: pytest.FixtureRequest, postgres_server: PostgresServer, postgres_admin: Admin, databases: Databases
) -> Iterator[str]:
    """Connection string of a fresh, migrated database, as its owner."""
    name = databases.give(postgres_admin)
    yield make_conninfo(postgres_server.ensure().dsn, dbname=name)
    is_crashing = request.node.get_closest_marker("crashing") is not None
    left = _still_connected(postgres_admin, name, patience_s=5.0 if is_crashing else 30.0)
    databases.take_back(postgres_admin, name, is_left=bool(left))
    # Whoever finds it later, when memory is cleared, is another test.
    assert not left or is_crashing, f"The test left connections to its database open: {left}"


def _still_connected(admin: Admin, name: str, *, patience_s: float) -> list[str]:
    """What the connections did last that are still there a while after a test; a process that ends takes a moment."""
    until = time.monotonic() + patience_s
    while True:
        query = (
            "select pid || ': ' || query from pg_stat_activity where datname = %s and backend_type = 'client backend'"
        )
        left = [str(text) for (text,) in admin.execute(query, [name])]
        if not left or time.monotonic() > until:
            return left
        time.sleep(0.02)


@pytest.fixture
def sealer(tmp_path: Path) -> Sealer:
    """A sealer with a key of its own."""
    return Sealer.from_file(tmp_path / "keys" / "sealing.json")


@pytest.fixture
async def database(database_url: str, sealer: Sealer) -> AsyncIterator[Database]:
    """An open database, fresh and migrated."""
    async with Database(database_url, sealer) as opened:
        yield opened


@pytest.fixture
async def web_database(database: Database, url_of: Callable[[str], str], sealer: Sealer) -> AsyncIterator[Database]:
    """The same database as the web opens it."""
    async with Database(url_of("web"), sealer) as opened:
        yield opened


@pytest.fixture
async def gateway_database(database: Database, url_of: Callable[[str], str], sealer: Sealer) -> AsyncIterator[Database]:
    """The same database as the gateway opens it."""
    async with Database(url_of("gateway"), sealer, by_key=True) as opened:
        yield opened
