"""An installation of a test: a home with keys, vault and workspace, on a database of the test's own."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from regie.cli.installation import Installation
from regie.settings import Settings
from regie.store.database import Database
from regie.store.sealer import Sealer

from .stage import Stage, typist


@pytest.fixture
async def stage(tmp_path: Path, database_url: str) -> AsyncIterator[Stage]:
    """Nothing runs but the database, and the workspace is loaded."""
    home = tmp_path / "home"
    home.mkdir(mode=0o700)
    settings = Settings(home=home, database_url=database_url, workspace=None, port=0, crash_at="")
    async with Database(database_url, Sealer.from_file(settings.sealing_key_file)) as database:
        stage = Stage(Installation(settings, lambda _: None), database)
        stage.write_tenant()
        stage.keep_secrets()
        # Before the first record is written, which no notary signs here: after ten seconds the doctor would say so.
        await asyncio.to_thread(typist().words)
        await stage.installation.load(database)
        yield stage


@pytest.fixture
async def answering(stage: Stage) -> AsyncIterator[None]:
    """A web answers all the time."""
    async with stage.answering():
        yield
