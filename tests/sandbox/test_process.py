"""The world as a process: where it listens, and what survives its death."""

import json
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest

from regie_sandbox import seed

from .conftest import JAN

pytestmark = pytest.mark.slow

Start = Callable[..., tuple[subprocess.Popen[str], httpx2.Client]]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    running: list[tuple[subprocess.Popen[str], httpx2.Client]] = []

    def begin(*more: str) -> tuple[subprocess.Popen[str], httpx2.Client]:
        command = [sys.executable, "-m", "regie_sandbox", "--port", "0", "--state", str(tmp_path), *more]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        assert process.stdout is not None
        line = process.stdout.readline()
        client = httpx2.Client(base_url=json.loads(line)["address"], trust_env=False, timeout=10)
        running.append((process, client))
        return process, client

    yield begin
    for process, client in running:
        client.close()
        process.kill()
        process.communicate()


def disable_jan(client: httpx2.Client, token: str, **rest: Any) -> httpx2.Response:
    headers = {"Authorization": f"Bearer {token}"}
    return client.patch(f"/graph/v1.0/users/{JAN}", json={"accountEnabled": False}, headers=headers, **rest)


def token_of(client: httpx2.Client) -> str:
    form = {
        "grant_type": "client_credentials",
        "client_id": seed.REGIE_APP.client_id,
        "client_secret": seed.REGIE_APP.client_secret,
        "scope": "https://graph.microsoft.com/.default",
    }
    answer = client.post(f"/login/{seed.TENANT_ID}/oauth2/v2.0/token", data=form)
    return str(answer.json()["access_token"])


def test_a_write_that_was_answered_survives_a_kill(start: Start, tmp_path: Path) -> None:
    process, client = start()
    assert client.base_url.host == "127.0.0.1"
    token = token_of(client)
    assert disable_jan(client, token).status_code == 204
    key = client.post("/sandbox/tickets", json={"reporter": JAN, "employee": JAN}).json()["key"]
    digest = client.get("/sandbox/world/digest").json()
    process.send_signal(signal.SIGKILL)
    process.wait(10)

    _, client = start()
    (entry,) = client.get("/sandbox/ledger").json()["entries"]
    assert entry["after"] == {"accountEnabled": False}
    assert client.get("/sandbox/world/digest").json() == digest
    auth = (seed.JIRA_ACCOUNT.email, seed.JIRA_ACCOUNT.api_token)
    assert client.get(f"/jira/rest/api/3/issue/{key}", auth=auth).status_code == 200
    assert disable_jan(client, token).status_code == 204, "a token outlives the process that issued it"
    with sqlite3.connect(tmp_path / "world.sqlite3") as file, pytest.raises(sqlite3.IntegrityError):
        file.execute("DELETE FROM ledger")
    file.close()


def test_it_stops_gracefully(start: Start) -> None:
    process, client = start()
    assert client.get("/sandbox/credentials").status_code == 200
    process.send_signal(signal.SIGTERM)
    out, err = process.communicate(timeout=10)
    assert (process.returncode, out, err) == (-signal.SIGTERM, "", "")


@pytest.mark.parametrize(("kind", "writes"), [("cut", 0), ("cut-after", 1), ("timeout-after", 1)])
def test_a_connection_is_lost_over_a_real_socket(start: Start, kind: str, writes: int) -> None:
    _, client = start()
    token = token_of(client)
    client.post("/sandbox/faults", json={"kind": kind, "method": "PATCH"})
    # A connection that is cut ends, or is reset when something of the request was still unread.
    cut = (httpx2.RemoteProtocolError, httpx2.ReadError)
    is_silent = kind == "timeout-after"
    with pytest.raises(httpx2.ReadTimeout if is_silent else cut):
        disable_jan(client, token, timeout=0.5 if is_silent else 10)
    assert len(client.get("/sandbox/ledger").json()["entries"]) == writes


def test_a_webhook_nobody_took_is_sent_after_a_restart(start: Start) -> None:
    process, client = start("--webhook-url", "http://127.0.0.1:9/hooks", "--webhook-secret", "s")
    client.patch("/sandbox/rules", json={"webhook_retry_seconds": 3600})
    key = client.post("/sandbox/tickets", json={"reporter": JAN, "employee": JAN}).json()["key"]
    _wait_for_attempts(client, key, 1)
    process.send_signal(signal.SIGKILL)
    process.wait(10)
    _, client = start()
    _wait_for_attempts(client, key, 2)


def _wait_for_attempts(client: httpx2.Client, key: str, attempts: int) -> None:
    deadline = time.monotonic() + 20
    while client.get(f"/sandbox/tickets/{key}/webhooks").json()[0]["attempts"] < attempts:
        assert time.monotonic() < deadline, "the webhook was not tried in time"
        time.sleep(0.05)
