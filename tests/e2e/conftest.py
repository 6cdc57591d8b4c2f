"""A demo installation that runs for the tests of one module, and ways to act in it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any, TypeVar

import pytest
import pytest_asyncio

from regie.cli.demo_world import up_demo
from regie.cli.installation import Installation
from regie.cli.running import Services
from regie.cli.sandbox_client import about_people
from regie.cli.story import Story, telling
from regie.core.errors import Denied, Unavailable
from regie.settings import Settings

T = TypeVar("T")
EMPLOYEE = "jan.janssen@example.com"
REPORTER = "elif.demir@example.com"
SIGN_IN_AHEAD_S = 1.1
GROUPS = ("Sales Team", "CRM Users", "VPN Users")
REQUEST = {"reporter": REPORTER, "employee": EMPLOYEE, "last_day": "2026-12-31"}


class Stage:
    """One running installation."""

    def __init__(self, story: Story) -> None:
        self.story = story
        self.services: Services = story.services

    async def bring_back(self) -> str:
        """Undo by hand what an offboarding did; the digest of the world before it."""
        sandbox = self.story.sandbox.http
        path = f"/sandbox/people/{EMPLOYEE}"
        (await sandbox.post(f"{path}/sign-in")).raise_for_status()
        (await sandbox.post(f"{path}/enable")).raise_for_status()
        for group in GROUPS:
            (await sandbox.post(f"{path}/join", json={"group": group})).raise_for_status()
        # The imaginary sign-in lies a second ahead; sessions revoked before it would rightly count as live.
        await asyncio.sleep(SIGN_IN_AHEAD_S)
        return await self.story.sandbox.digest()

    async def offboard(self, decision: str = "approved") -> dict[str, Any]:
        """A whole offboarding, with what the outside world counted. Patient: processes may be killed meanwhile."""
        seq, _ = await self.story.sandbox.ledger()
        ticket = await self.story.sandbox.open_ticket(REQUEST)
        run = await self.patiently(lambda: self.story.run_of(ticket))
        approval = await self.patiently(lambda: self.story.open_approval(run))
        assert approval is not None
        await self.patiently(lambda: self.decide_once(approval, decision))
        shown = await self.patiently(lambda: self.story.end_of(run))
        _, entries = await self.story.sandbox.ledger(seq)
        return {"ticket": ticket, "run": run, "shown": shown, "entries": entries}

    async def decide_once(self, approval: dict[str, Any], decision: str) -> None:
        """Decide; when an earlier try got through without an answer, that decision stands."""
        person = approval["approvers"][0]
        try:
            await self.story.decide(approval, person, decision, "")
        except Denied as error:
            if person not in error.message:
                raise

    async def patiently(self, act: Callable[[], Awaitable[T]]) -> T:
        """Try again while something does not answer."""
        while True:
            try:
                return await act()
            except Unavailable:
                await asyncio.sleep(0.1)

    async def comes(self, is_so: Callable[[], bool], *, within_s: float = 30.0) -> bool:
        """Whether something comes to be so in good time."""
        for _ in range(int(within_s / 0.1)):
            if is_so():
                return True
            await asyncio.sleep(0.1)
        return False

    async def load_release(self) -> None:
        """Make the workspace as it is now the current release, as an operator would."""
        installation = Installation(self.services.settings, lambda _: None)
        async with installation.database() as database:
            await installation.load(database)

    async def audit_faults(self, run: str) -> list[str]:
        """What is wrong with a run's chain."""
        log = await self.patiently(lambda: self.story.operator.get(f"/v1/runs/{run}/audit"))
        return list(log["faults"])


def assert_each_effect_once(result: dict[str, Any]) -> None:
    """The five changes of the person happened, each once; the ticket got one comment and was closed once."""
    people = about_people(result["entries"])
    assert len(people) == 5, [entry["path"] for entry in people]
    assert len({(entry["method"], entry["path"]) for entry in people}) == 5
    assert all(entry["before"] != entry["after"] for entry in people)
    tickets = [entry for entry in result["entries"] if entry["about"] == "ticket"]
    assert sum(entry["path"].endswith("/comment") for entry in tickets) == 1
    assert sum(entry["path"].endswith("/transitions") for entry in tickets) == 2


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def stage(tmp_path_factory: pytest.TempPathFactory, quick_starts: None) -> AsyncIterator[Stage]:
    """A running installation, shared by the tests of a module."""
    home: Path = tmp_path_factory.mktemp("stage") / "home"
    settings = Settings(home=home, port=0, database_url="", workspace=None, crash_at="")
    async with AsyncExitStack() as stack:
        services = await stack.enter_async_context(up_demo(settings, lambda _: None))
        story = await stack.enter_async_context(telling(services))
        # A desk that gives up after some seconds would lose requests that a process being killed has never seen.
        (await story.sandbox.http.patch("/sandbox/rules", json={"webhook_retries": 10_000})).raise_for_status()
        yield Stage(story)
