"""Gateway and worker, killed at every named crash point: the same world, every effect exactly once."""

from __future__ import annotations

import asyncio

import pytest

from regie.crashpoints import CrashPoint

from .conftest import Stage, assert_each_effect_once
from .crashing import armed, victim_of

pytestmark = [pytest.mark.slow, pytest.mark.asyncio(loop_scope="module")]


@pytest.mark.parametrize("point", list(CrashPoint))
async def test_killed_at_a_named_point(stage: Stage, point: CrashPoint) -> None:
    await stage.bring_back()
    name = victim_of(point)
    async with armed(stage, name, point) as victim:
        starts = victim.starts
        result = await asyncio.wait_for(stage.offboard(), 90)
        # A run does not need the notary, so it may be over before that one is back.
        assert await stage.comes(lambda: victim.starts > starts), f"{name} never passed {point}"
    assert result["shown"]["status"] == "done"
    assert_each_effect_once(result)
    assert await stage.audit_faults(result["run"]) == []
