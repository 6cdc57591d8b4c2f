"""Trouble that lasts for minutes, with a clock that is turned by hand; and a disk without room."""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import httpx2
import pytest

from regie.core.audit import Actor
from regie.core.errors import Failure, RegieError, Throttled, Unavailable
from regie.core.run_events import Event, Failed
from regie.core.status import RunStatus
from regie.core.tenant import SecretRef, Tenant
from regie.domains import load_catalogue
from regie.engine.inline import InlineEngine
from regie.engine.port import StartRequest, Task
from regie.gateway.keeping import keep_secrets
from regie.gateway_client import GatewayClient
from regie.store import releases, run_lists, runs
from regie.store.database import Database
from regie.store.migrating import migrate
from regie.store.postgres_process import ServerFailed
from regie.store.postgres_server import PostgresServer
from regie.store.sealer import Sealer
from regie.web.app import make_web
from regie.workspace.loading import load_release

from .stage import OFFBOARD, regie

pytestmark = pytest.mark.slow

OPERATOR = Actor(type="operator", id="operator")
TENANT = Tenant(tenant="acme", title="Acme", domains=("identity",), connections={})
RELEASE = load_release(None, load_catalogue()).model_copy(update={"tenants": {"acme": TENANT}})


class Silent:
    """An outside world in which everything fails in the same way."""

    def __init__(self, error: RegieError) -> None:
        self.failure = Failure.of(error)
        self.asked: list[str] = []

    async def perform(self, task: Task) -> Event:
        self.asked.append(task.work.place)
        return Failed(place=task.work.place, attempt=task.work.attempt, failure=self.failure)


@pytest.mark.parametrize(
    ("error", "at_least_s", "at_most_s"),
    [
        pytest.param(Unavailable("Jira Cloud: GET answered 503"), 120, 250, id="jira-down-for-good"),
        pytest.param(Throttled("Jira Cloud: GET answered 429", after_s=120), 1080, 1330, id="jira-throttles-for-good"),
    ],
)
async def test_jira_stays_away(error: RegieError, at_least_s: float, at_most_s: float) -> None:
    performer = Silent(error)
    engine = InlineEngine(RELEASE, load_catalogue(), performer)
    started = await engine.start(
        StartRequest(tenant="acme", workflow=OFFBOARD, trigger_key="t", started_by=OPERATOR, ticket="ITSM-1")
    )
    await engine.settle()
    while await engine.turn_clock():
        await engine.settle()
    state = await engine.state(started.key)
    assert (state.status, state.failure) == (RunStatus.FAILED, performer.failure)
    assert performer.asked == ["start"] * 10
    assert at_least_s <= engine.now_s <= at_most_s


# --- no room on the disk ----------------------------------------------------------------------------------------------


@pytest.fixture
def small_disk(request: pytest.FixtureRequest) -> Iterator[Path]:
    """A disk of so many MB; needs the right to mount."""
    folder = Path(tempfile.mkdtemp(prefix="regie-small-"))
    folder.chmod(0o755)
    options = f"size={request.param}m,mode=0755"
    mounted = subprocess.run(
        ["/bin/mount", "-t", "tmpfs", "-o", options, "tmpfs", str(folder)], capture_output=True, check=False
    )
    if mounted.returncode:
        folder.rmdir()
        pytest.skip(f"a small disk cannot be made here: {mounted.stderr.decode().strip()}")
    try:
        yield folder
    finally:
        subprocess.run(["/bin/umount", "--lazy", str(folder)], check=True)
        folder.rmdir()


def fill(disk: Path) -> None:
    """Leave no room on a disk."""
    with contextlib.suppress(OSError), (disk / "ballast").open("wb", buffering=0) as ballast:
        while ballast.write(b"\0" * 65536):
            pass


@pytest.mark.parametrize("small_disk", [100], indirect=True)
@pytest.mark.row("disk-full-at-start")
def test_a_disk_too_small_for_a_database(small_disk: Path) -> None:
    server = PostgresServer(small_disk / "postgres", service_root=small_disk / "service")
    with pytest.raises(ServerFailed, match=r"MB are free|No space left|disk is full"):
        server.ensure()
    assert not (small_disk / "postgres" / "data").exists(), "no half-made database is left"
    server.remove()


@pytest.mark.parametrize("small_disk", [420], indirect=True)
@pytest.mark.row("disk-full")
async def test_a_disk_that_fills_up_while_the_database_runs(small_disk: Path, tmp_path: Path) -> None:
    server = PostgresServer(small_disk / "postgres", service_root=small_disk / "service")
    try:
        dsn = server.ensure().dsn
        await migrate(dsn)
        async with Database(dsn, Sealer.from_file(tmp_path / "keys" / "sealing.json"), wait_s=2) as database:
            async with database.transaction() as tx:
                await releases.put(tx, RELEASE, by=OPERATOR)
            await fill_up_and_free(small_disk, database, server)
    finally:
        server.remove()


async def fill_up_and_free(disk: Path, database: Database, server: PostgresServer) -> None:
    """Start runs until there is no room; with room again it goes on, and every run that was accepted is there."""
    token = secrets.token_urlsafe(8)
    web = make_web(database, GatewayClient("http://127.0.0.1:9", "x"), operator_token=token)
    headers = {"Authorization": f"Bearer {token}"}
    accepted: set[str] = set()
    transport = httpx2.ASGITransport(web)
    async with httpx2.AsyncClient(transport=transport, base_url="http://web", headers=headers, timeout=60) as http:

        async def start() -> httpx2.Response:
            given = {"employee": "jan@example.com", "last_day": "2026-12-31"}
            body = {"tenant": "acme", "workflow": OFFBOARD, "input": given, "ticket": "T" * 200}
            answer = await http.post("/v1/runs", json=body)
            if answer.status_code == 201:
                accepted.add(answer.json()["id"])
            return answer

        assert (await start()).status_code == 201
        fill(disk)
        refused = None
        for _ in range(20_000):
            answer = await start()
            if answer.status_code != 201:
                refused = answer
                break
        assert refused is not None, "the disk never got full"
        assert refused.status_code == 503, refused.text
        assert refused.headers["Content-Type"] == "application/problem+json"
        assert "Retry-After" in refused.headers
        (disk / "ballast").unlink()
        server.ensure()
        for _ in range(100):
            if (await start()).status_code == 201:
                break
            await asyncio.sleep(0.1)
        else:
            pytest.fail("with room on the disk it did not go on")
    async with database.reading() as tx:
        assert sum((await run_lists.count_by_status(tx)).values()) >= len(accepted)
        for run in accepted:
            assert await runs.find(tx, run) is not None, "an accepted run is lost"


@pytest.mark.parametrize("small_disk", [1], indirect=True)
@pytest.mark.row("disk-full-secret")
def test_a_secret_for_which_there_is_no_room(small_disk: Path) -> None:
    home = small_disk / "home"
    kept = SecretRef(domain="identity", name="old")
    keep_secrets(home / "vault.sealed", "acme", {kept: "hush"})
    before = (home / "vault.sealed").read_bytes()
    fill(small_disk)
    done = regie(home, "secret", "put", "secret://identity/new", "--tenant", "acme", stdin="x" * 50_000)
    assert done.returncode == 1
    assert "No space left on device." in done.stderr
    assert "Traceback" not in done.stderr
    assert (home / "vault.sealed").read_bytes() == before
    assert {file.name for file in home.iterdir()} == {"vault.sealed", "vault.key", "vault.lock"}
