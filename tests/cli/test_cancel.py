"""`regie cancel`: the run is told, and the answer says how it will end."""

from __future__ import annotations

import pytest

from regie.core.audit import Event
from regie.store import audit

from .stage import Stage

pytestmark = pytest.mark.slow


async def test_a_run_is_cancelled_from_the_command_line(stage: Stage) -> None:
    key = await stage.start()
    done = await stage.regie("cancel", key.run, "--reason", "Jan stays.")
    assert done.returncode == 0, done.stderr
    assert "will be cancelled" in done.stdout
    async with stage.database.reading() as tx:
        leaves = await audit.read(tx, key)
    assert [leaf.event for leaf in leaves].count(Event.RUN_CANCELLED) == 1
    assert all("Jan" not in str(leaf.fields) for leaf in leaves)
