"""A notary over a fresh database, and leaves for it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest

from regie.core.audit import Actor, Event, Fact
from regie.notary.keys import KeyFile
from regie.notary.sequencing import Sequencer
from regie.store import audit, walls
from regie.store.database import Database
from regie.store.sequencing import LogDatabase
from regie.store.walls import Login

Write = Callable[..., Awaitable[None]]
GATEWAY = Actor(type="gateway", id="gateway")


@pytest.fixture
async def notary_url(database_url: str) -> str:
    """Connection string of the notary's own role."""
    [found] = await walls.build(database_url, [Login(walls.Process.NOTARY, "a password of the tests")])
    return found


@pytest.fixture
async def log_database(notary_url: str) -> AsyncIterator[LogDatabase]:
    opened = LogDatabase(notary_url)
    yield opened
    await opened.close()


@pytest.fixture
def keys(tmp_path: Path) -> KeyFile:
    return KeyFile(tmp_path / "notary" / "signing.json")


@pytest.fixture
def sequencer(log_database: LogDatabase, keys: KeyFile) -> Sequencer:
    return Sequencer(log_database, keys)


@pytest.fixture
def write(database: Database) -> Write:
    """Write leaves that belong to no run."""

    async def write_some(count: int = 1, tenant: str = "acme", domain: str = "identity") -> None:
        facts = [
            Fact(event=Event.CAPABILITY_DENIED, actor=GATEWAY, detail={"number": number}) for number in range(count)
        ]
        async with database.transaction() as tx:
            await audit.append_outside(tx, tenant, domain, facts)

    return write_some
