"""Certificates in a whole installation with real servers: the demo, each workflow proven, and kill -9 in renewals."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
import yaml

from regie.cli.demo_world import up
from regie.cli.stories import find_rehearsal, find_tale
from regie.cli.story import telling
from regie.crashpoints import CrashPoint
from regie.domains import load_catalogue
from regie.settings import Settings
from regie.workspace.loading import load_release

from .conftest import Stage
from .crashing import armed, victim_of

pytestmark = [pytest.mark.slow, pytest.mark.asyncio(loop_scope="module")]

WORKFLOWS = ["renew", "renew_due", "watch", "watch_page", "remind", "settle"]
PATIENCE_S = 240.0
STEPS = ["certificate.order", "certificate.prove", "certificate.finalise", "certificate.deploy"]
PASSES = {
    # What is cut off before its receipt is there passes the point again; a record is set before the proof, and removed
    # before the deployment.
    CrashPoint.BEFORE_INTENT: [1, 3, 2, 3],
    CrashPoint.AFTER_INTENT: [1, 3, 2, 3],
    CrashPoint.AFTER_EFFECT: [1, 2, 1, 2],
    CrashPoint.BEFORE_RECEIPT: [1, 3, 2, 3],
    CrashPoint.AFTER_RECEIPT: [1, 2, 1, 2],
}
"""At which pass the gateway dies, life after life: once in each of the steps."""


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def stage(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Stage]:
    home: Path = tmp_path_factory.mktemp("certificates") / "home"
    settings = Settings(home=home, port=0, database_url="", workspace=None, crash_at="")
    async with AsyncExitStack() as stack:
        services = await stack.enter_async_context(up(settings, lambda _: None, is_demo=True, domain="certificates"))
        yield Stage(await stack.enter_async_context(telling(services)))


@pytest_asyncio.fixture(loop_scope="module")
async def unasked(stage: Stage) -> Stage:
    """Nobody is asked, and one name is proven: what is killed is what the tests name."""
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
    rehearsal = find_rehearsal(definition.workflow)
    given = await rehearsal.set_scene(stage.story, definition)
    first, second = [await rehearsal.run_once(stage.story, definition, given) for _ in range(2)]
    assert (first.status, second.status) == ("done", "done")
    assert sum(first.writes.values()) > 0
    assert sum(second.writes.values()) == 0
    assert first.world == second.world


class Killing:
    """A renewal during which processes die."""

    def __init__(self, stage: Stage, point: CrashPoint) -> None:
        self.stage, self.point, self.story = stage, point, stage.story
        self.died_in: list[str] = []

    async def renew(self, passes: list[int]) -> None:
        """From start to end; the process that passes the point dies so many times."""
        before = await self.story.servers.counts()
        served = (await self.story.servers.state())["served"]["nginx"]
        run = ""
        async with (
            asyncio.timeout(PATIENCE_S),
            armed(self.stage, victim_of(self.point), f"{self.point}:{passes[0]}") as victim,
        ):
            for number in (*passes[1:], None):
                starts = victim.starts
                if number is not None:
                    victim.environment["crash_at"] = f"{self.point}:{number}"
                run = run or await self.story.start("certificates.renew", {"certificate": "shop", "serial": served})
                while victim.starts == starts:
                    assert not (await self.shown(run))["outcome"], f"it ended; deaths were in {self.died_in}"
                    await asyncio.sleep(0.1)
                self.died_in.append(await self.step_of(run))
            shown = await self.stage.patiently(lambda: self.story.end_of(run))
        assert shown["status"] == "done", shown["outcome"]
        after = await self.story.servers.counts()
        assert {name: after[name] - before[name] for name in after} == {
            "orders": 1,
            "certificates": 1,
            "dns_updates": 2,
            "nginx_reloads": 1,
            "haproxy_commits": 1,
        }
        state = await self.story.servers.state()
        assert state["served"]["nginx"] == state["served"]["haproxy"] != served
        assert not any(state["proofs"].values())
        assert await self.stage.audit_faults(run) == []

    async def shown(self, run: str) -> dict[str, Any]:
        return await self.stage.patiently(lambda: self.story.operator.get(f"/v1/runs/{run}"))

    async def step_of(self, run: str) -> str:
        """The block that has begun and is not over."""
        steps = (await self.shown(run))["steps"]
        begun = [step["uses"] for step in steps if step["uses"] and step["status"] in {"running", "waiting"}]
        return str(begun[-1]) if begun else ""


@pytest.mark.parametrize("point", list(PASSES))
async def test_a_gateway_that_dies_in_each_part_leaves_one_of_each(unasked: Stage, point: CrashPoint) -> None:
    killing = Killing(unasked, point)
    await killing.renew(PASSES[point])
    assert killing.died_in == STEPS


@pytest.mark.parametrize("point", [CrashPoint.BEFORE_COMMIT, CrashPoint.AFTER_COMMIT])
async def test_a_worker_that_dies_in_each_part_leaves_one_of_each(unasked: Stage, point: CrashPoint) -> None:
    killing = Killing(unasked, point)
    await killing.renew([3] * 4)
    assert killing.died_in == []
