"""Gateway, worker, web and database server, killed at twenty random instants of an offboarding."""

from __future__ import annotations

import asyncio
import random

import pytest

from .conftest import Stage, assert_each_effect_once
from .crashing import kill

pytestmark = [pytest.mark.slow, pytest.mark.asyncio(loop_scope="module")]

INSTANTS = 20
SEED = 20261121


async def test_killed_at_random_instants(stage: Stage) -> None:
    chance = random.Random(SEED)  # noqa: S311  a test's own, repeatable
    worlds = set()
    for _ in range(INSTANTS):
        await stage.bring_back()
        victim, after_s = chance.choice(["gateway", "worker-identity-1", "web", "database"]), chance.uniform(0.0, 2.5)

        async def strike(victim: str = victim, after_s: float = after_s) -> None:
            await asyncio.sleep(after_s)
            await asyncio.to_thread(kill, stage, victim)

        killing = asyncio.create_task(strike())
        result = await asyncio.wait_for(stage.offboard(), 90)
        await killing
        assert result["shown"]["status"] == "done", (victim, after_s, result["shown"]["outcome"])
        assert_each_effect_once(result)
        assert await stage.audit_faults(result["run"]) == []
        worlds.add(await stage.story.sandbox.digest())
    assert len(worlds) == 1
