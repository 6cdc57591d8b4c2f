"""Certificates in a whole installation with real servers: the demo, workflows proven, and kill -9 in renewals."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
import yaml

from regie.cli.demo_world import up_demo
from regie.cli.stories import find_rehearsal, find_tale
from regie.cli.story import telling
from regie.crashpoints import CrashPoint
from regie.domains import load_catalogue
from regie.settings import Settings
from regie.workspace.loading import load_release

from .conftest import Stage
from .crashing import armed, victim_of

pytestmark = [pytest.mark.slow, pytest.mark.asyncio(loop_scope="module")]

WORKFLOWS = ["renew_due", "watch", "settle"]
"""What the others do is part of these: renew of renew_due, watch_page of watch, remind of the scene of settle."""
PATIENCE_S = 240.0
STEPS = ["certificate.order", "certificate.prove", "certificate.finalise", "certificate.deploy"]
DEATHS = {
    "gateway": [
        # What is cut off before its receipt is there passes the point again; a record is set before the proof, and
        # removed before the deployment.
        [
            (CrashPoint.BEFORE_INTENT, 1),
            (CrashPoint.AFTER_INTENT, 3),
            (CrashPoint.AFTER_EFFECT, 2),
            (CrashPoint.BEFORE_RECEIPT, 3),
        ],
        # Whose effect is found done gets its receipt, and no second intent.
        [
            (CrashPoint.AFTER_EFFECT, 1),
            (CrashPoint.AFTER_RECEIPT, 3),
            (CrashPoint.BEFORE_INTENT, 1),
            (CrashPoint.AFTER_INTENT, 3),
        ],
    ],
    # The worker commits twice before the order; before a commit means that the former step is the last one known.
    "worker": [
        [
            (CrashPoint.BEFORE_COMMIT, 4),
            (CrashPoint.AFTER_COMMIT, 2),
            (CrashPoint.BEFORE_COMMIT, 2),
            (CrashPoint.AFTER_COMMIT, 2),
        ]
    ],
}
"""Where the process dies, life after life, and at which pass of the point: once in each of the steps.

Every point is met here by `kill -9` in a whole installation; tests/certificates/test_crashes.py has each point of the
gateway in each step.
"""


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def stage(tmp_path_factory: pytest.TempPathFactory, quick_starts: None) -> AsyncIterator[Stage]:
    home: Path = tmp_path_factory.mktemp("certificates") / "home"
    settings = Settings(home=home, port=0, database_url="", workspace=None, crash_at="")
    async with AsyncExitStack() as stack:
        services = await stack.enter_async_context(up_demo(settings, lambda _: None, domain="certificates"))
        yield Stage(await stack.enter_async_context(telling(services)))


@pytest_asyncio.fixture(loop_scope="module")
async def unasked(stage: Stage) -> Stage:
    """Nobody is asked, and one name is proven, so that each renewal passes the same points."""
    file = stage.services.settings.workspace_folder / "tenants" / "example.yaml"
    tenant = yaml.safe_load(file.read_text())
    of_domain = tenant["settings"]["certificates"]
    if of_domain["ask_before_deploying"]:
        of_domain["ask_before_deploying"] = False
        of_domain["managed"]["shop"]["names"] = ["shop.example.test"]
        file.write_text(yaml.safe_dump(tenant))
        await stage.load_release()
    return stage


async def test_the_demo_tells_what_it_must(stage: Stage) -> None:
    summary = await find_tale("certificates").tell(stage.story)
    assert summary["problems"] == []


@pytest.mark.parametrize("name", WORKFLOWS)
async def test_a_second_run_of_a_workflow_changes_nothing(stage: Stage, name: str) -> None:
    definition = load_release(None, load_catalogue()).definition(f"certificates.{name}")
    rehearsal = find_rehearsal(definition.domain)
    given = await rehearsal.set_scene(stage.story, definition)
    first, second = [await rehearsal.run_once(stage.story, definition, given) for _ in range(2)]
    assert (first.status, second.status) == ("done", "done")
    assert sum(first.writes.values()) > 0
    assert sum(second.writes.values()) == 0
    assert first.world == second.world


class Killing:
    """A renewal during which processes die."""

    def __init__(self, stage: Stage, victim: str) -> None:
        self.stage, self.victim, self.story = stage, victim, stage.story
        self.died_in: list[str] = []

    async def renew(self, deaths: list[tuple[CrashPoint, int]]) -> None:
        """From start to end; the process dies so many times, each life at its point."""
        left = iter(f"{point}:{number}" for point, number in deaths)
        before = await self.story.servers.counts()
        served = (await self.story.servers.state())["served"]["nginx"]
        wanted = {"certificate": "shop", "serial": served}
        run = ""
        async with (
            asyncio.timeout(PATIENCE_S),
            armed(self.stage, self.victim, next(left)) as victim,
        ):
            while not run or not (await self.shown(run))["outcome"]:
                starts = victim.starts
                if point := next(left, None):
                    victim.environment["crash_at"] = point
                run = run or await self.story.start("certificates.renew", wanted)
                stood = shown = await self.shown(run)
                while victim.starts == starts and not shown["outcome"]:
                    is_down = not victim.pid or not victim.ready
                    shown = await self.shown(run)
                    # Nobody goes on with it until the process is back.
                    stood = shown if is_down and victim.starts == starts else stood
                    await asyncio.sleep(0.05)
                if victim.starts > starts:
                    self.died_in.append(_step_of(stood))
        self._assert_one_of_each(await self.shown(run), before, await self.story.servers.counts())
        state = await self.story.servers.state()
        assert state["served"]["nginx"] == state["served"]["haproxy"] != served
        assert not any(state["proofs"].values())
        assert await self.stage.audit_faults(run) == []

    def _assert_one_of_each(self, shown: dict[str, Any], before: dict[str, int], after: dict[str, int]) -> None:
        assert shown["status"] == "done", shown["outcome"]
        assert {name: after[name] - before[name] for name in after} == {
            "orders": 1,
            "certificates": 1,
            "dns_updates": 2,
            "nginx_reloads": 1,
            "haproxy_commits": 1,
        }

    async def shown(self, run: str) -> dict[str, Any]:
        return await self.stage.patiently(lambda: self.story.operator.get(f"/v1/runs/{run}"))


def _step_of(shown: dict[str, Any]) -> str:
    """The block that has begun and is not over, or the last one that is over."""
    blocks = [step for step in shown["steps"] if step["uses"].startswith(("certificate.", "dns."))]
    begun = [step for step in blocks if step["status"] in {"running", "waiting"}]
    over = sorted((step for step in blocks if step["ended_at"]), key=lambda step: str(step["ended_at"]))
    return str((begun or over)[-1]["uses"]) if begun or over else ""


@pytest.mark.parametrize(
    "deaths", [pytest.param(each, id=f"{name}-{at}") for name, all_ in DEATHS.items() for at, each in enumerate(all_)]
)
async def test_a_process_that_dies_in_each_part_leaves_one_of_each(
    unasked: Stage, deaths: list[tuple[CrashPoint, int]]
) -> None:
    [victim] = {victim_of(point, "certificates") for point, _ in deaths}
    killing = Killing(unasked, victim)
    await killing.renew(deaths)
    assert killing.died_in == STEPS
