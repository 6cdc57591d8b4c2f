from __future__ import annotations

import json
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import closing
from http.client import HTTPConnection
from pathlib import Path

import httpx2
import pytest

from regie.settings import child_environment, read_or_make_token
from regie.store.database import Database

from .stage import OFFBOARD, Stage

pytestmark = pytest.mark.slow

Start = Callable[..., subprocess.Popen[str]]


@pytest.fixture
def start(tmp_path: Path, database: Database, database_url: str) -> Iterator[Start]:
    started: list[subprocess.Popen[str]] = []

    def begin(**more: str) -> subprocess.Popen[str]:
        settings = {
            "home": str(tmp_path),
            "database_url": database_url,
            "gateway_url": "http://127.0.0.1:9",
            "port": "0",
            "crash_at": "",
            **more,
        }
        process = subprocess.Popen(
            [sys.executable, "-m", "regie.web"],
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


def address(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    said = json.loads(process.stdout.readline())
    assert said["ready"] is True
    return str(said["address"])


def test_it_serves_and_stops_even_while_somebody_waits(start: Start, tmp_path: Path, stage: Stage) -> None:
    process = start()
    where = address(process)
    assert where.startswith("http://127.0.0.1:")
    token = read_or_make_token(tmp_path / "keys" / "operator.token")
    headers = {"Authorization": f"Bearer {token}"}
    with httpx2.Client(base_url=where, headers=headers, trust_env=False, timeout=30) as http:
        assert http.get("/health").json()["gateway"] is False
        wanted = {"tenant": "acme", "workflow": OFFBOARD, "input": {"employee": "jan.janssen@example.com"}}
        run = http.post("/v1/runs", json=wanted).json()["id"]

        with closing(HTTPConnection(where.removeprefix("http://"), timeout=30)) as waiting:
            waiting.request("GET", f"/v1/runs/{run}/wait", headers=headers)
            # Whoever asks later is answered, so the first question has been heard.
            assert http.get(f"/v1/runs/{run}/wait?for_s=0.5").status_code == 200
            process.send_signal(signal.SIGTERM)
            answer = json.load(waiting.getresponse())
    out, err = process.communicate(timeout=20)
    assert process.returncode == 0
    assert answer["is_final"] is False
    assert out == ""
    assert [json.loads(line)["event"] for line in err.splitlines()] == ["web:stopped"]


def test_no_answer_waits_for_the_network_to_say_that_it_arrived(start: Start, stage: Stage) -> None:
    """A socket without TCP_NODELAY holds the second packet of each answer back for 40 ms."""
    with httpx2.Client(base_url=address(start()), trust_env=False) as http:
        spent_s = [http.get("/v1/runs").elapsed.total_seconds() for _ in range(40)]
    # A new connection is spared at first.
    assert min(spent_s[20:]) < 0.03


async def test_a_fault_leaves_no_values_in_the_log(start: Start, tmp_path: Path, stage: Stage) -> None:
    process = start()
    where = address(process)
    async with stage.database.transaction() as tx:
        await tx.change("alter table regie.release_activation rename to elsewhere", {})
    token = read_or_make_token(tmp_path / "keys" / "operator.token")
    headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}
    async with httpx2.AsyncClient(base_url=where, headers=headers, trust_env=False) as http:
        wanted = {"tenant": "acme", "workflow": OFFBOARD, "input": {"employee": "jan.janssen@example.com"}}
        answer = await http.post("/v1/runs", json=wanted)
    assert answer.status_code == 500
    assert answer.json()["kind"] == "Broken"
    process.send_signal(signal.SIGTERM)
    _, err = process.communicate(timeout=20)
    [broke, _] = [json.loads(line) for line in err.splitlines()]
    assert broke["event"] == "web:broke"
    assert broke["exception"][0]["kind"] == "UndefinedTable"
    assert any("releases.py" in frame for frame in broke["exception"][0]["frames"])
    for value in ("jan.janssen", token, "relation", "offboard"):
        assert value not in err


@pytest.mark.parametrize(
    "more",
    [
        {"database_url": ""},
        {"gateway_url": ""},
        {"crash_at": "nowhere"},
        {"database_url": "postgresql://regie@127.0.0.1:9/regie"},
    ],
    ids=str,
)
def test_what_it_cannot_start_with_is_one_line(start: Start, more: dict[str, str]) -> None:
    process = start(**more)
    out, err = process.communicate(timeout=60)
    assert (process.returncode, out) == (1, "")
    last = json.loads(err.splitlines()[-1])
    assert (last["event"], last["level"]) == ("web:failed", "critical")


def test_a_port_that_is_taken_is_one_line(start: Start) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        process = start(port=str(taken.getsockname()[1]))
        _, err = process.communicate(timeout=60)
    assert process.returncode == 1
    [line] = err.splitlines()
    assert "cannot be used" in json.loads(line)["reason"]
