from __future__ import annotations

import asyncio
import json
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path

import httpx2
import psycopg
import pytest

from regie.core.audit import Actor
from regie.core.definition import Definition, Kind, Step
from regie.core.release import Release
from regie.core.schedule import latest_until, trigger_key
from regie.core.starts import ScheduleStart
from regie.core.status import RunStatus
from regie.core.tenant import Domain, Tenant
from regie.engine.port import StartRequest
from regie.engine.postgres import PostgresEngine
from regie.settings import child_environment
from regie.store import releases, run_lists, runs, schedules, workers
from regie.store.database import Database
from regie.worker.__main__ import FINISH_WITHIN_S

pytestmark = pytest.mark.slow

Start = Callable[..., subprocess.Popen[str]]


@pytest.fixture
async def loaded(database: Database) -> None:
    domains = {
        name: Domain(domain=name, title=name, owner="team:it", classification="internal") for name in ("identity", "hr")
    }
    release = Release(definitions={}, domains=domains, tenants={}, blocks={})
    async with database.transaction() as tx:
        await releases.put(tx, release, by=Actor(type="operator", id="operator"))


@pytest.fixture
def start(tmp_path: Path, database: Database, database_url: str) -> Iterator[Start]:
    started: list[subprocess.Popen[str]] = []

    def begin(*arguments: str, **more: str) -> subprocess.Popen[str]:
        settings = {
            "home": str(tmp_path),
            "database_url": database_url,
            "gateway_url": "http://127.0.0.1:9",
            "crash_at": "",
            **more,
        }
        process = subprocess.Popen(
            [sys.executable, "-m", "regie.worker", *arguments],
            env=child_environment(**settings),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        started.append(process)
        return process

    yield begin
    for process in started:
        if process.poll() is None:
            process.kill()
        process.communicate()


def ready(process: subprocess.Popen[str]) -> dict[str, object]:
    assert process.stdout is not None
    said: dict[str, object] = json.loads(process.stdout.readline())
    assert said["ready"] is True
    return said


async def registered(database: Database) -> list[tuple[str, tuple[str, ...]]]:
    async with database.reading() as tx:
        return [(row.name, row.domains) for row in await workers.list_workers(tx)]


async def test_it_registers_for_every_domain_and_leaves(start: Start, database: Database, loaded: None) -> None:
    process = start()
    said = ready(process)
    assert said["domains"] == ["hr", "identity"]
    assert await registered(database) == [(said["worker"], ("hr", "identity"))]
    process.send_signal(signal.SIGTERM)
    out, err = process.communicate(timeout=20)
    assert (process.returncode, out) == (0, "")
    assert [json.loads(line)["event"] for line in err.splitlines()] == ["worker:stopped"]
    assert await registered(database) == []


async def test_it_works_for_chosen_domains(start: Start, database: Database, loaded: None) -> None:
    assert ready(start("--domain", "hr"))["domains"] == ["hr"]
    process = start("--domain", "hr", "--domain", "nothing")
    _, err = process.communicate(timeout=30)
    assert process.returncode == 1
    assert "There is no domain nothing." in json.loads(err.splitlines()[-1])["reason"]


async def test_what_it_cannot_finish_goes_to_another(start: Start, database: Database) -> None:
    """The gateway takes the question and never answers: the worker stops all the same, and the run is free again."""
    step = Step(
        place="access",
        id="access",
        kind=Kind.USES,
        uses="identity.list_access",
        arguments={"user": "jan.janssen@example.com"},
        line=1,
        column=1,
    )
    definition = Definition(workflow="identity.look", title="Look", owner="team:it", steps=(step,))
    release = Release(
        definitions={definition.workflow: definition},
        domains={
            "identity": Domain(domain="identity", title="identity", owner="team:it", classification="internal"),
        },
        tenants={"acme": Tenant(tenant="acme", title="Acme", domains=("identity",), connections={})},
        blocks={"identity.list_access": ("identity.list_access",)},
    )
    operator = Actor(type="operator", id="operator")
    async with database.transaction() as tx:
        await releases.put(tx, release, by=operator)
    request = StartRequest(tenant="acme", workflow=definition.workflow, trigger_key="t", started_by=operator)
    key = (await PostgresEngine(database).start(request)).key
    with socket.create_server(("127.0.0.1", 0)) as silent:
        silent.settimeout(20)
        process = start(gateway_url=f"http://127.0.0.1:{silent.getsockname()[1]}")
        ready(process)
        question, _ = await asyncio.to_thread(silent.accept)
        with question:
            began = time.monotonic()
            process.send_signal(signal.SIGTERM)
            _, err = process.communicate(timeout=30)
            took_s = time.monotonic() - began
    assert process.returncode == 0
    said = [json.loads(line)["event"] for line in err.splitlines()]
    assert said[:2] == ["worker:unfinished", "worker:stopped"]
    assert FINISH_WITHIN_S <= took_s < FINISH_WITHIN_S + 5
    async with database.reading() as tx:
        row = await runs.get(tx, key)
    assert row is not None
    assert (row.status, row.owner) == (RunStatus.RUNNING, None)


async def test_two_of_them_start_what_is_due_once(start: Start, database: Database) -> None:
    nightly = ScheduleStart(cron="30 3 * * *", zone="Europe/Amsterdam")
    definition = Definition(
        workflow="identity.nightly",
        title="Nightly",
        owner="team:it",
        start=(nightly,),
        steps=(Step(place="0", kind=Kind.END, line=1, column=1),),
    )
    tenants = [f"tenant-{number}" for number in range(30)]
    release = Release(
        definitions={definition.workflow: definition},
        domains={"identity": Domain(domain="identity", title="identity", owner="team:it", classification="internal")},
        tenants={slug: Tenant(tenant=slug, title=slug, domains=("identity",), connections={}) for slug in tenants},
        blocks={},
    )
    async with database.transaction() as tx:
        await releases.put(tx, release, by=Actor(type="operator", id="operator"))
        now = await tx.clock()
        past = latest_until(nightly.cron, nightly.zone, now, since=now - timedelta(days=2))
        assert past is not None
        keys = [schedules.StartKey(slug, "identity", definition.workflow, nightly.identity) for slug in tenants]
        planned = [schedules.Planned(key, past, past) for key in keys]
        await schedules.keep(tx, ["identity"], ["identity"], planned)
    workers_of_it = [start(), start()]
    for process in workers_of_it:
        ready(process)
    async with asyncio.timeout(30):
        while True:
            async with database.reading() as tx:
                found = await run_lists.list_runs(tx, limit=100)
            if len(found) >= len(tenants) and all(row.status is RunStatus.DONE for row in found):
                break
            await asyncio.sleep(0.05)
    assert sorted(row.key.tenant for row in found) == sorted(tenants)
    assert {row.trigger_key for row in found} == {trigger_key(definition.workflow, past)}
    for process in workers_of_it:
        process.send_signal(signal.SIGTERM)
        _, err = process.communicate(timeout=20)
        assert [json.loads(line)["event"] for line in err.splitlines()] == ["worker:stopped"]


async def test_without_its_lock_it_ends(
    start: Start, database: Database, postgres_dsn: str, database_url: str, loaded: None
) -> None:
    process = start()
    ready(process)
    name = psycopg.conninfo.conninfo_to_dict(database_url)["dbname"]
    with psycopg.connect(postgres_dsn, autocommit=True) as admin:
        admin.execute(
            """select pg_terminate_backend(pid) from pg_locks l join pg_database d on d.oid = l.database
               where l.locktype = 'advisory' and l.classid = %s::oid and d.datname = %s""",
            (workers.LOCKS, name),
        )
    _, err = process.communicate(timeout=30)
    assert process.returncode == 1
    [line] = err.splitlines()
    failed = json.loads(line)
    assert (failed["event"], failed["kind"], failed["level"]) == ("worker:failed", "Unavailable", "critical")


@pytest.mark.parametrize("more", [{"database_url": ""}, {"gateway_url": ""}, {"crash_at": "nowhere"}], ids=str)
def test_what_it_cannot_start_with_is_one_line(start: Start, more: dict[str, str]) -> None:
    process = start(**more)
    out, err = process.communicate(timeout=30)
    assert (process.returncode, out) == (1, "")
    [line] = err.splitlines()
    assert json.loads(line)["event"] == "worker:failed"


def test_without_a_release_it_does_not_work(start: Start) -> None:
    process = start()
    _, err = process.communicate(timeout=30)
    assert process.returncode == 1
    assert "No release" in json.loads(err.splitlines()[-1])["reason"]


async def test_it_tells_its_metrics_where_it_is_asked_to_and_only_with_the_token(
    start: Start, tmp_path: Path, loaded: None
) -> None:
    address = str(ready(start(worker_metrics_port="0"))["metrics"])
    token = (tmp_path / "keys" / "metrics.token").read_text()
    async with httpx2.AsyncClient(trust_env=False) as http:
        assert (await http.get(address)).status_code == 401
        told = await http.get(address, headers={"Authorization": f"Bearer {token}"})
        assert "regie_worker_slots 32.0" in told.text
        (tmp_path / "keys" / "metrics.token").chmod(0o644)
        refused = await http.get(address, headers={"Authorization": f"Bearer {token}"})
        assert refused.status_code == 401, "a token that others can read lets nobody in"
    assert ready(start())["metrics"] == ""


async def test_a_port_for_metrics_that_is_taken_is_named(start: Start, loaded: None) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        process = start(worker_metrics_port=str(port))
        _, err = process.communicate(timeout=30)
    assert process.returncode == 1
    assert f"Port {port} cannot be used" in json.loads(err.splitlines()[-1])["reason"]
