"""`regie pause`, `resume`, `wake` and `rerun`: said, attributed, and refused with a reason."""

from __future__ import annotations

import pytest

from regie.core.audit import Event
from regie.core.status import RunStatus
from regie.engine.postgres import PostgresEngine
from regie.store import audit, claims, commits, runs, workers
from regie.store.commits import StepCommit

from .stage import Stage

pytestmark = pytest.mark.slow


@pytest.mark.usefixtures("answering")
async def test_a_run_is_paused_woken_resumed_and_repeated_from_the_command_line(stage: Stage) -> None:
    key = await stage.start()
    paused = await stage.regie("pause", key.run, "--reason", "Wait for HR.")
    assert paused.returncode == 0, paused.stderr
    assert "paused by the operator" in paused.stdout
    wake = await stage.regie("wake", key.run)
    assert (wake.returncode, "does not sleep" in wake.stderr) == (3, True)
    resumed = await stage.regie("resume", key.run)
    assert "goes on" in resumed.stdout, resumed.stderr
    early = await stage.regie("rerun", key.run, "--from", "0")
    assert (early.returncode, "is not over" in early.stderr) == (2, True)
    state = (await PostgresEngine(stage.database).state(key)).model_copy(
        update={"ready": True, "status": RunStatus.CANCELLED}
    )
    async with (
        workers.registered(stage.database, name="w", domains=["identity"]) as worker,
        stage.database.transaction() as tx,
    ):
        [claimed] = (await claims.take(tx, worker.id, ["identity"], 1)).runs
        over = StepCommit(state_json=state.model_dump_json(), status=RunStatus.CANCELLED)
        await commits.commit(tx, claimed.claim, over)
    async with stage.database.reading() as tx:
        row = await runs.get(tx, key)
        leaves = [leaf.event for leaf in await audit.read(tx, key)]
    assert row is not None
    first = "access"
    again = await stage.regie("rerun", key.run, "--from", first, "--key", "once")
    assert again.returncode == 0, again.stderr
    assert f"repeats {key.run} from {first}" in again.stdout
    assert "(started before)" in (await stage.regie("rerun", key.run, "--from", first, "--key", "once")).stdout
    assert leaves.count(Event.RUN_PAUSED) == leaves.count(Event.RUN_RESUMED) == 1
    shown = await stage.regie("show", key.run)
    assert "repeated by run" in shown.stdout, shown.stderr
