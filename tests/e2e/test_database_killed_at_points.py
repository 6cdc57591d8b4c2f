"""The database server, killed under gateway and worker at every named crash point."""

from __future__ import annotations

import asyncio
import os
import signal

import pytest

from regie.crashpoints import HOLD, CrashPoint

from .conftest import Stage, assert_each_effect_once
from .crashing import armed, kill, process_state, victim_of

pytestmark = [pytest.mark.slow, pytest.mark.asyncio(loop_scope="module")]


@pytest.mark.parametrize("point", list(CrashPoint))
async def test_the_database_server_is_killed_at_a_named_point(stage: Stage, point: CrashPoint) -> None:
    """The process stands still at the point while the server dies under it and comes back."""
    await stage.bring_back()
    name = victim_of(point)
    async with armed(stage, name, f"{HOLD}{point}") as victim:
        offboarding = asyncio.create_task(stage.offboard())
        while process_state(victim.pid) != "T":
            assert not offboarding.done(), f"{name} never came to {point}"
            await asyncio.sleep(0.05)
        await asyncio.to_thread(kill, stage, "database")
        os.kill(victim.pid, signal.SIGCONT)
        result = await asyncio.wait_for(offboarding, 90)
    assert result["shown"]["status"] == "done", result["shown"]["outcome"]
    assert_each_effect_once(result)
    assert await stage.audit_faults(result["run"]) == []
