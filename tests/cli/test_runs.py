"""`regie start --wait` and `regie runs`: what they answer when there is nothing good to tell."""

from __future__ import annotations

import asyncio

import pytest
from pydantic import JsonValue

from regie.core.approval import ApprovalArguments, ApprovalOutcome, Rung
from regie.core.audit import Actor, Event, Fact
from regie.core.errors import Failure
from regie.core.run import ApprovalPhase, ApprovalState, StepState
from regie.core.run_commands import OpenApproval
from regie.core.status import RunStatus, StepStatus
from regie.engine.postgres import PostgresEngine
from regie.store import approvals, claims, commits, run_lists, workers
from regie.store.commits import StepCommit
from regie.store.keys import RunKey

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
        (RunStatus.FAILED, 1, "The run has failed: Jira does not know ITSM-1.\nLook there.\n"),
        (RunStatus.CANCELLED, 1, "The run was cancelled."),
        (RunStatus.REFUSED, 3, "The run was refused"),
    ],
)
async def test_whoever_waits_for_a_run_hears_how_it_ended(
    stage: Stage, status: RunStatus, code: int, told: str
) -> None:
    why = Failure(kind="NotFound", message="Jira does not know ITSM-1.", hint="Look there.")
    failure = why if status is RunStatus.FAILED else None
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


LADDER = ("manager_of jan.janssen@example.com", "role:security-officer", "role:board")


async def climb(stage: Stage, key: RunKey, *, rung: int, status: StepStatus) -> None:
    """Have a worker bring a run to that rung of an approval, of whose earlier rungs nobody could be asked."""
    given = ApprovalArguments(question="Really?", ask=[Rung(who=who, within="4h") for who in LADDER])
    approval = ApprovalState(given=given, phase=ApprovalPhase.ASKING, rung=rung - 1)
    silence = ApprovalOutcome(decision="timeout").model_dump(mode="json")
    step = StepState(status=status, approval=approval, output=silence if status is StepStatus.DONE else None)
    state = (await PostgresEngine(stage.database).state(key)).model_copy(
        update={"ready": True, "steps": {"approval": step}, "order": ("approval",)}
    )
    opened = OpenApproval(
        place="approval",
        rung=rung,
        rungs=len(LADDER),
        question="Really?",
        plan=(),
        approvers=("ingrid.larsen@example.com",),
        requester="rik@example.com",
        expires_after_s=3600,
    )
    is_open = status is StepStatus.WAITING
    asked: dict[str, JsonValue] = {"id": approvals.approval_id(key, "approval"), "rung": rung}
    fact = Fact(event=Event.APPROVAL_REQUESTED, actor=Actor(type="worker", id="w"), detail={"approval": asked})
    async with (
        workers.registered(stage.database, name="w", domains=["identity"]) as worker,
        stage.database.transaction() as tx,
    ):
        [claimed] = (await claims.take(tx, worker.id, ["identity"], 1)).runs
        commit = StepCommit(
            state_json=state.model_dump_json(),
            status=RunStatus.WAITING if is_open else RunStatus.RUNNING,
            approvals=(opened,) if is_open else (),
            facts=(fact,) if is_open else (),
        )
        await commits.commit(tx, claimed.claim, commit)


async def test_a_run_that_waits_says_for_whom_until_when_and_who_follows(stage: Stage) -> None:
    key = await stage.start()
    await climb(stage, key, rung=2, status=StepStatus.WAITING)
    shown = (await stage.regie("show", key.run)).stdout
    assert "asked: ingrid.larsen@example.com (rung 2 of 3)\n  until 20" in shown
    assert f"passed over: {LADDER[0]}" in shown
    assert f"asked then: {LADDER[2]}" in shown
    assert LADDER[1] not in shown


async def test_an_approval_that_could_ask_nobody_says_so(stage: Stage) -> None:
    key = await stage.start()
    await climb(stage, key, rung=3, status=StepStatus.DONE)
    assert f"nobody could be asked: {', '.join(LADDER)}" in (await stage.regie("show", key.run)).stdout
