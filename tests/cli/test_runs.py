"""`regie start --wait` and `regie runs`: what they answer when there is nothing good to tell."""

from __future__ import annotations

import asyncio

import pytest

from regie.core.errors import Failure
from regie.core.run import RunStatus
from regie.engine.postgres import PostgresEngine
from regie.store import claims, commits, run_lists, workers
from regie.store.commits import StepCommit

from .stage import WORKFLOW, Stage

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("answering")]

WITHIN_S = 30.0
POLL_S = 0.05


async def end(stage: Stage, status: RunStatus, failure: Failure | None = None) -> None:
    """Have a worker end the run that somebody is about to start."""
    async with asyncio.timeout(WITHIN_S), workers.registered(stage.database, name="w", domains=["identity"]) as worker:
        while True:
            async with stage.database.reading() as tx:
                rows = await run_lists.list_runs(tx, limit=1)
            if rows:
                break
            await asyncio.sleep(POLL_S)
        state = (await PostgresEngine(stage.database).state(rows[0].key)).model_copy(
            update={"ready": True, "status": status, "failure": failure}
        )
        async with stage.database.transaction() as tx:
            [claimed] = (await claims.take(tx, worker.id, ["identity"], 1)).runs
            await commits.commit(tx, claimed.claim, StepCommit(state_json=state.model_dump_json(), status=status))


@pytest.mark.parametrize(
    ("status", "code", "told"),
    [
        (RunStatus.DONE, 0, ""),
        (RunStatus.FAILED, 1, "The run has failed: Jira does not know ITSM-1."),
        (RunStatus.CANCELLED, 1, "The run was cancelled."),
        (RunStatus.REFUSED, 3, "The run was refused"),
    ],
)
async def test_whoever_waits_for_a_run_hears_how_it_ended(
    stage: Stage, status: RunStatus, code: int, told: str
) -> None:
    failure = Failure(kind="NotFound", message="Jira does not know ITSM-1.") if status is RunStatus.FAILED else None
    done, _ = await asyncio.gather(
        stage.regie("start", WORKFLOW, "--ticket", "ITSM-1", "--wait"), end(stage, status, failure)
    )
    assert (done.returncode, f": {status}\n" in done.stdout) == (code, True), done.stderr
    assert told in done.stderr


async def test_a_list_says_whether_nothing_ran_or_nothing_fits(stage: Stage) -> None:
    assert "Nothing has run." in (await stage.regie("runs")).stdout
    await stage.start()
    for chosen in (("--status", "waiting"), ("--late",), ("--ticket", "ITSM-2"), ("--workflow", "identity.other")):
        assert (await stage.regie("runs", *chosen)).stdout == "No run fits.\n", chosen
