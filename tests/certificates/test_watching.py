"""The workflow `certificates.watch`, from real TLS endpoints to renewals, tickets and the chat."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack
from datetime import timedelta
from pathlib import Path

import pytest
from pydantic import JsonValue

from regie.core.capabilities.record import KeptRecord
from regie.core.status import RunStatus
from regie.core.tenant import SecretRef
from regie.store import records, run_lists
from regie.store.database import Database
from regie.store.records import Shelf
from regie_sandbox.servers.authority import Authority, Issued
from regie_sandbox.servers.nginx import Nginx, nginx
from tests.counterparts.here import LOOPBACK
from tests.counterparts.sshd import Sshd, sshd

from .stage import DOMAIN, PATIENCE_S, TENANT, Stage, World, opened

pytestmark = pytest.mark.slow

DAY = timedelta(days=1)
SSH_KEY = SecretRef(domain=DOMAIN, name="files-key")
MANAGED, BY_HAND, IN_FILE = "shop.example.test", "hand.example.test", "file.example.test"
OWNER, ABOVE = "web@example.com", "head@example.com"
AUTHORITY = Authority("A customer's own")


@pytest.fixture
def first() -> Issued:
    """A certificate of 90 days of which 5 are left."""
    return AUTHORITY.issue([MANAGED, BY_HAND], lifetime=90 * DAY, age=85 * DAY)


@pytest.fixture
def server(tmp_path: Path, first: Issued) -> Iterator[Nginx]:
    folder = tmp_path / "server"
    folder.mkdir()
    with ExitStack() as stack:
        yield stack.enter_context(nginx(folder, first))


@pytest.fixture(scope="module")
def host(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sshd]:
    """Where files are."""
    with sshd(tmp_path_factory.mktemp("sshd")) as started:
        yield started


def over_ssh(host: Sshd, host_key: str, **settings: JsonValue) -> dict[str, JsonValue]:
    """A connection to the files of a host."""
    way = {"address": host.address, "user": host.user, "host_key": host_key}
    return {
        "connector": "tls",
        "domains": [DOMAIN],
        "reach": [LOOPBACK],
        "settings": {**way, **settings},
        "secrets": {"ssh_key": str(SSH_KEY)},
    }


@pytest.fixture
def board(tmp_path: Path) -> Path:
    folder = tmp_path / "board"
    folder.mkdir()
    return folder


@pytest.fixture
async def stage(  # noqa: PLR0917  fixtures are given by name
    database: Database, tmp_path: Path, world: World, server: Nginx, first: Issued, board: Path, host: Sshd
) -> AsyncIterator[Stage]:
    endpoint = {"host": "127.0.0.1", "port": server.port}
    world.entries["site"] = world.entry(MANAGED)
    (world.shelf / "site.serial").write_text(first.serial)
    listed = [{**endpoint, "server_name": name} for name in (MANAGED, BY_HAND)]
    listed.append({"host": "127.0.0.1", "port": 9, "server_name": "silent.example.test"})
    files = tmp_path / "files"
    files.mkdir()
    AUTHORITY.issue([IN_FILE], lifetime=90 * DAY).write(files, "site")
    (files / "odd.pem").write_text("nothing to see here")
    world.connections = {
        "files": over_ssh(host, host.host_key, folders=[str(files)], roots=AUTHORITY.pem),
        "lost": over_ssh(host, "ssh-ed25519 nonsense", folders=[str(files)]),
        "endpoints": {
            "connector": "tls",
            "domains": [DOMAIN],
            "settings": {"endpoints": listed, "networks": ["127.0.0.0/8"], "roots": AUTHORITY.pem},
        },
        "board": {"connector": "board", "domains": [DOMAIN], "settings": {"folder": str(board)}},
    }
    world.secrets[SSH_KEY] = host.private_key
    world.settings = {
        "watched": ["endpoints"],
        "sources": ["lost", "files"],
        "owners": [{"names": ["*.example.test"], "owners": [OWNER, ABOVE], "channel": "web-team"}],
        "ticket_queue": "ITSM",
        "tell_in_chat": True,
    }
    async with opened(database, tmp_path, world) as made:
        yield made


async def watch(stage: Stage) -> None:
    """Look once, and wait until everything that began with it is over."""
    key = await stage.begin("watch", {})
    state = await stage.until(key, lambda state: state.status.is_final)
    assert state.status is RunStatus.DONE, state.failure
    await ended(stage)


async def ended(stage: Stage) -> None:
    """Wait until no run is left; none may fail."""
    async with asyncio.timeout(PATIENCE_S):
        while await left(stage):  # noqa: ASYNC110  it is in a database
            await asyncio.sleep(0.05)


async def left(stage: Stage) -> bool:
    async with stage.database.reading() as tx:
        rows = await run_lists.list_runs(tx, limit=100)
    assert not [row.workflow for row in rows if row.status is RunStatus.FAILED]
    return any(not row.status.is_final for row in rows)


async def kept(stage: Stage, kind: str) -> dict[str, KeptRecord]:
    async with stage.database.reading() as tx:
        found, _ = await records.list_records(tx, Shelf(TENANT, DOMAIN, kind), state="", after="", most=100)
    return {str(each.value.get("name", each.key)): each for each in found}


def on(board: Path, letter: str) -> list[dict[str, str]]:
    return [json.loads(file.read_text()) for file in sorted(board.glob(f"{letter}-*.json"))]


async def test_what_is_about_to_expire_is_renewed_or_people_are_told_and_it_settles(
    stage: Stage, server: Nginx, first: Issued, board: Path, tmp_path: Path
) -> None:
    await watch(stage)
    unreadable = str(tmp_path / "files" / "odd.pem")
    assert list(await kept(stage, "failed_page")) == ["certificates of lost"]
    inventory = await kept(stage, "certificate")
    assert {name: each.state for name, each in inventory.items()} == {
        MANAGED: "urgent",
        BY_HAND: "urgent",
        "silent.example.test": "unseen",
        IN_FILE: "healthy",
        unreadable: "unseen",
    }
    assert inventory[IN_FILE].value["owner"] == OWNER
    assert [inventory[each].value["findings"] for each in (IN_FILE, unreadable)] == [[], ["unreadable"]]
    assert [inventory[name].value["renewed_by"] for name in (MANAGED, BY_HAND)] == ["regie", "nobody"]
    assert inventory["silent.example.test"].value["findings"] == ["unreachable:refused"]
    # What is managed has been renewed, once.
    assert stage.deployments() == 1
    assert stage.serial() != first.serial
    # Both names present one certificate: one ticket. Its owner is told, those above too by now, and the chat.
    [ticket] = on(board, "T")
    assert ticket["status"] == "open"
    assert "4 days" in ticket["title"]
    assert sorted(each["to"] for each in on(board, "M")) == [ABOVE, "web-team", OWNER]

    await watch(stage)
    assert len(on(board, "T")) == 1
    assert len(on(board, "M")) == 3
    assert stage.deployments() == 1

    AUTHORITY.issue([MANAGED, BY_HAND]).write(server.certificate.parent, "site")
    reload = await asyncio.create_subprocess_exec(server.program, "-c", str(server.config), "-s", "reload")
    assert await reload.wait() == 0
    async with asyncio.timeout(PATIENCE_S):
        while (await kept(stage, "certificate"))[BY_HAND].state != "healthy":
            await watch(stage)
    [ticket] = on(board, "T")
    assert ticket["status"] == "closed"
    assert await kept(stage, "reminder") == {}


async def test_a_dry_run_of_a_page_keeps_nothing_and_tells_nobody(stage: Stage, board: Path) -> None:
    key = await stage.begin("watch_page", {"connection": "endpoints", "cursor": ""}, dry=True)
    state = await stage.until(key, lambda state: state.status.is_final)
    assert state.status is RunStatus.DONE, state.failure
    await ended(stage)
    assert await kept(stage, "certificate") == {}
    assert on(board, "?") == []
    assert stage.deployments() == 0
