"""`regie quotas`, and what the doctor says about queues and rate budgets."""

from __future__ import annotations

import json

import pytest

from regie.cli.findings import Level
from regie.core.tenant import Domain, Quota
from regie.gateway.budgets import Asker, Budgets
from regie.store import claims, quotas, workers
from regie.store.rate_budgets import Draw

from .stage import Stage, regie

pytestmark = pytest.mark.slow

DRAW = Draw(
    key="jira/x/1", about="Jira Cloud: GET of one endpoint (https://acme.example.com)", at_once=10, each_s=0.1, cost=4
)


async def allow(stage: Stage, quota: Quota) -> None:
    domain = Domain(domain="identity", title="Identity", owner="team:it", classification="personal", quota=quota)
    async with stage.database.transaction() as tx:
        await quotas.keep(tx, {"identity": domain})


async def test_quotas_and_rate_budgets_are_shown(stage: Stage) -> None:
    await allow(stage, Quota(runs=1, per_tenant=1, waiting=40))
    for number in range(3):
        await stage.start(f"ITSM-{number}")
    async with workers.registered(stage.database, name="w", domains=["identity"]) as worker:
        async with stage.database.transaction() as tx:
            assert len((await claims.take(tx, worker.id, ["identity"], 10)).runs) == 1
        await Budgets(stage.database).take([DRAW], Asker("acme", "normal"), 0)

        async with stage.answering():
            shown = json.loads((await stage.regie("quotas", "--json")).stdout)
            table = (await stage.regie("quotas")).stdout
        [domain] = shown["domains"]
        assert domain == {
            "domain": "identity",
            "quota": {"runs": 1, "per_tenant": 1, "waiting": 40, "start_rate": None},
            "in_hands": 1,
            "ready": 2,
            "waiting": 2,
            "held_back": 0,
            "last_at": None,
            "tenants": [{"tenant": "acme", "in_hands": 1, "ready": 2, "waiting": 2}],
        }
        [budget] = shown["rate_budgets"]
        assert (budget["about"], budget["at_once"], budget["each_s"]) == (DRAW.about, 10, 0.1)
        assert 6 <= budget["left"] < 10

        assert "identity" in table
        assert "GET of one endpoint" in table
        finding = next(each for each in await stage.examine() if each.check == "quotas")
        assert finding.level is Level.INFO
        assert finding.message == "Domain identity uses its quota of 1; 2 more runs are ready."


async def test_what_a_start_rate_holds_back_is_shown(stage: Stage) -> None:
    await allow(stage, Quota.model_validate({"start_rate": "1 per 1h"}))
    for number in range(3):
        await stage.start(f"ITSM-{number}")
    async with stage.answering():
        [domain] = json.loads((await stage.regie("quotas", "--json")).stdout)["domains"]
        table = (await stage.regie("quotas")).stdout
    assert (domain["held_back"], domain["waiting"]) == (2, 1)
    assert domain["last_at"]
    assert "1 runs per 1h" in " ".join(table.split())
    finding = next(each for each in await stage.examine() if each.check == "quotas")
    assert finding.level is Level.INFO
    assert finding.message.startswith("Domain identity holds back 2 runs: it begins 1 runs per 1h; the last begins at")


async def test_the_doctor_warns_of_a_queue_that_is_nearly_full_and_of_a_vendor_that_wants_us_to_wait(
    stage: Stage,
) -> None:
    await allow(stage, Quota(waiting=3))
    for number in range(3):
        await stage.start(f"ITSM-{number}")
    await Budgets(stage.database).close([DRAW], 600)
    found = {each.check: each for each in await stage.bad()}
    assert found["quotas"].message == "Domain identity has 3 runs waiting to begin; at 3 people start no more."
    assert "regie quotas" in found["quotas"].remedy
    assert found["rate budgets"].message.startswith(DRAW.about)


async def test_runs_that_wait_for_their_quota_are_not_called_forgotten(stage: Stage) -> None:
    await allow(stage, Quota(per_tenant=1))
    for number in range(2):
        await stage.start(f"ITSM-{number}")
    async with workers.registered(stage.database, name="w", domains=["identity"]) as worker:
        async with stage.database.transaction() as tx:
            [taken] = (await claims.take(tx, worker.id, ["identity"], 10)).runs
        stage.sql("update regie.run set ready_at = ready_at - interval '1 hour' where ready_at is not null")
        assert await stage.bad() == []
        async with stage.database.transaction() as tx:
            # An inbox that looks unread keeps it ready.
            await claims.park(tx, taken.claim, -1)
        assert (await stage.only()).check == "runs"


async def test_without_a_database_it_says_so(tmp_path_factory: pytest.TempPathFactory) -> None:
    done = regie(tmp_path_factory.mktemp("none") / "home", "quotas")
    assert done.returncode == 4
    assert "Nothing runs in" in done.stderr
