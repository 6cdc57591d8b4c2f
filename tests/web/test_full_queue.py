"""A domain whose queue is full: people and programs are asked to come again, what outside systems tell is queued."""

from __future__ import annotations

import pytest

from regie.core.tenant import Quota
from regie.store import quotas

from .stage import OFFBOARD, Stage, make_release, ticket_created
from .test_inbound import deliver
from .test_runs import WANTED, get, post

pytestmark = pytest.mark.slow


async def allow(stage: Stage, quota: Quota) -> None:
    domain = make_release().domains["identity"].model_copy(update={"quota": quota})
    async with stage.database.transaction() as tx:
        await quotas.keep(tx, {"identity": domain})


async def test_a_start_is_refused_with_a_time_and_a_delivery_is_queued_and_says_so(stage: Stage) -> None:
    await allow(stage, Quota(waiting=2, runs=20))
    first = await post(stage, WANTED, key="one")
    assert (await post(stage, WANTED)).status_code == 201

    refused = await post(stage, WANTED)
    assert refused.status_code == 429
    assert int(refused.headers["Retry-After"]) == quotas.FULL_AGAIN_S
    problem = refused.json()
    assert problem["kind"] == "Throttled"
    assert problem["detail"] == "The domain identity has 2 runs waiting to begin and takes no more for now."
    assert len((await get(stage, "/v1/runs")).json()["items"]) == 2, "what was refused was never started"

    again = await post(stage, WANTED, key="one")
    assert (again.status_code, again.json()["id"]) == (200, first.json()["id"]), "what was taken before stays taken"

    accepted = (await deliver(stage, ticket_created())).json()["runs"]
    [queued] = [run["id"] for run in accepted if run["workflow"] == OFFBOARD]
    shown = (await get(stage, f"/v1/runs/{queued}")).json()
    assert shown["queued"] == "queued behind 2 runs of its domain; quota 0 of 20 in use"
