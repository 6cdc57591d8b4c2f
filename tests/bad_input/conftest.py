"""The marker that ties a test to its row of docs/reference/bad-input.md, and a running installation."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from regie.cli.demo_world import up_demo
from regie.cli.story import telling
from regie.settings import Settings

from .stage import Stage


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "row(id): the row of docs/reference/bad-input.md that the test shows")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def stage(tmp_path_factory: pytest.TempPathFactory, quick_starts: None) -> AsyncIterator[Stage]:
    """A running demo installation, shared by the tests of a module."""
    home = tmp_path_factory.mktemp("bad-input") / "home"
    settings = Settings(home=home, port=0, database_url="", workspace=None, crash_at="")
    async with up_demo(settings, lambda _: None) as services, telling(services) as story:
        stage = Stage(story)
        await stage.prepare()
        yield stage
