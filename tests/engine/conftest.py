"""Stages for engine tests."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator

import pytest
import structlog

from regie.store.database import Database
from regie.store.sealer import Sealer

from .stage import InlineStage, PostgresStage, Stage, at_work, load


@pytest.fixture(autouse=True)
def quiet() -> Iterator[None]:
    """Tests that break things on purpose would otherwise spend their time on printing how."""
    with structlog.testing.capture_logs():
        yield


@pytest.fixture(params=["inline", *(pytest.param(each, marks=pytest.mark.slow) for each in ("postgres", "with hands"))])
def kind(request: pytest.FixtureRequest) -> str:
    """The engine under test: in memory, over a database, or over one with a worker that takes what it starts."""
    return str(request.param)


@pytest.fixture
def address(request: pytest.FixtureRequest, kind: str) -> str:
    """Where the runs of the engine under test live; empty for memory."""
    return "" if kind == "inline" else str(request.getfixturevalue("database_url"))


@pytest.fixture
async def stage(request: pytest.FixtureRequest, address: str, kind: str, sealer: Sealer) -> AsyncIterator[Stage]:
    """Each engine in turn, with a worker; over a database each process has its own login."""
    if not address:
        yield InlineStage()
        return
    url_of = request.getfixturevalue("url_of")
    async with (
        Database(address, sealer) as database,
        Database(url_of("web"), sealer) as asking,
        Database(url_of("worker-things"), sealer) as working,
    ):
        await load(database)
        postgres = PostgresStage(working if kind == "with hands" else asking, working=working)
        worker = postgres.worker()
        if kind == "with hands":
            postgres.postgres.hands = worker
        async with at_work(worker):
            yield postgres


@pytest.fixture
async def postgres(database: Database) -> PostgresStage:
    """The engine over a database, without a worker."""
    await load(database)
    return PostgresStage(database)
