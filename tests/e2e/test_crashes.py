"""Whatever is killed, at whatever moment: the same world afterwards, and every effect exactly once."""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import signal
from collections.abc import AsyncIterator

import pytest

from regie.cli.installation import Installation
from regie.cli.processes import Process
from regie.crashpoints import CrashPoint

from .conftest import Stage, assert_each_effect_once

pytestmark = [pytest.mark.slow, pytest.mark.asyncio(loop_scope="module")]

GATEWAY = {
    CrashPoint.BEFORE_INTENT,
    CrashPoint.AFTER_INTENT,
    CrashPoint.AFTER_EFFECT,
    CrashPoint.BEFORE_RECEIPT,
    CrashPoint.AFTER_RECEIPT,
}
INSTANTS = 20
SEED = 20261121


def process(stage: Stage, name: str) -> Process:
    return next(each for each in stage.services.supervisor.processes if each.name == name)


def kill(stage: Stage, name: str) -> None:
    """End a process as `kill -9` does; the database server with all its children."""
    if name == "database":
        server = Installation(stage.services.settings, lambda _: None).server()
        assert server is not None
        server.kill()
        return
    with contextlib.suppress(ProcessLookupError):
        if pid := process(stage, name).pid:
            os.kill(pid, signal.SIGKILL)


@contextlib.asynccontextmanager
async def armed(stage: Stage, name: str, point: CrashPoint) -> AsyncIterator[Process]:
    """A process that dies when it passes a crash point, once."""
    victim = process(stage, name)
    starts = victim.starts
    victim.environment["crash_at"] = str(point)
    kill(stage, name)
    while victim.starts == starts:  # noqa: ASYNC110  another process is what is waited for
        await asyncio.sleep(0.05)
    yield victim


@pytest.mark.parametrize("point", list(CrashPoint))
async def test_killed_at_a_named_point(stage: Stage, point: CrashPoint) -> None:
    await stage.bring_back()
    name = "gateway" if point in GATEWAY else "worker-1"
    async with armed(stage, name, point) as victim:
        starts = victim.starts
        result = await asyncio.wait_for(stage.offboard(), 90)
        assert victim.starts > starts, f"{name} never passed {point}"
    assert result["shown"]["status"] == "done"
    assert_each_effect_once(result)
    assert await stage.audit_faults(result["run"]) == []


async def test_killed_at_random_instants(stage: Stage) -> None:
    chance = random.Random(SEED)  # noqa: S311  a test's own, repeatable
    worlds = set()
    for _ in range(INSTANTS):
        await stage.bring_back()
        victim, after_s = chance.choice(["gateway", "worker-1", "web", "database"]), chance.uniform(0.0, 2.5)

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
