"""The gateway as a process of its own: it says where it answers, lets its callers in, and stops when told."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx2
import pytest

from regie.core.capabilities import identity
from regie.core.errors import FencedOut, Unavailable
from regie.gateway_client import GatewayClient, StepRef
from regie.settings import Settings, read_or_make_token
from regie.store.sealer import Sealer

pytestmark = pytest.mark.slow

Start = Callable[[], "tuple[subprocess.Popen[str], str]"]
NOBODYS = StepRef(tenant="acme", domain="identity", run="3f0c7c1e-5d0e-4c43-9a37-5f2f9d1f0001", place="look", fence=1)
JAN = identity.UserQuery(user="jan@example.com")


@pytest.fixture
def settings(tmp_path: Path, database_url: str) -> Settings:
    made = Settings(home=tmp_path, database_url=database_url)
    Sealer.from_file(made.sealing_key_file)
    return made


@pytest.fixture
def start(settings: Settings) -> Iterator[Start]:
    children: list[subprocess.Popen[str]] = []

    def begin() -> tuple[subprocess.Popen[str], str]:
        given = {"REGIE_HOME": str(settings.home), "REGIE_DATABASE_URL": settings.database_url}
        child = subprocess.Popen(
            [sys.executable, "-m", "regie.gateway"],
            env={"PATH": os.defpath, **given},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        children.append(child)
        assert child.stdout is not None
        line = child.stdout.readline()
        return child, json.loads(line)["address"] if line else ""

    yield begin
    for child in children:
        child.kill()
        child.communicate()


async def test_it_answers_those_it_knows_until_it_is_told_to_stop(start: Start, settings: Settings) -> None:
    token = read_or_make_token(settings.worker_token_file("identity"))
    child, address = start()

    assert httpx2.URL(address).host == "127.0.0.1"
    async with httpx2.AsyncClient(trust_env=False) as http:
        assert (await http.get(f"{address}/health")).json() == {"status": "ok"}
        assert (await http.post(f"{address}/v1/call")).status_code == 401
    async with GatewayClient(address, token) as client:
        with pytest.raises(FencedOut):
            await client.call(NOBODYS, identity.LIST_ACCESS, JAN)
        child.send_signal(signal.SIGTERM)
        assert child.wait(20) in {0, -signal.SIGTERM}
        with pytest.raises(Unavailable):
            await client.call(NOBODYS, identity.LIST_ACCESS, JAN)
    assert token not in "".join(child.communicate())


def test_no_answer_waits_for_the_network_to_say_that_it_arrived(start: Start) -> None:
    """A socket without TCP_NODELAY holds the second packet of each answer back for 40 ms."""
    _, address = start()
    with httpx2.Client(base_url=address, trust_env=False) as http:
        spent_s = [http.get("/health").elapsed.total_seconds() for _ in range(40)]
    # A new connection is spared at first.
    assert min(spent_s[20:]) < 0.03


def test_a_vault_that_does_not_open_is_told_at_the_start(start: Start, settings: Settings) -> None:
    settings.vault_file.write_bytes(b"something else")
    child, address = start()

    assert address == ""
    assert child.wait(20) == 1
    assert "has lost its key" in child.communicate()[1]
