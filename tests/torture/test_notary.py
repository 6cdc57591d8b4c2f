"""A short torture of the notary; `python -m torture.notary` has a long one."""

from __future__ import annotations

import pytest

from torture.notary import torture

pytestmark = pytest.mark.slow


async def test_whatever_is_killed_every_leaf_is_logged_once() -> None:
    outcome = await torture(seed=4711, seconds=8)
    assert outcome.is_good, outcome
    assert outcome.kills >= 2
    assert outcome.logged >= outcome.acknowledged > 100
    assert outcome.checkpoints > 10
