"""Figures and metrics over HTTP: who may see which, and that they are about what happened."""

from __future__ import annotations

import httpx2
import pytest
from fastapi import FastAPI
from prometheus_client.parser import text_string_to_metric_families

from regie.core.release import Release
from regie.store import releases, workers
from regie.store.database import Database
from regie.web.app import make_web

from .stage import ANA, AS_OPERATOR, LOCAL, OPERATOR, PASSWORD, RIK, SAM, FakeGateway, Stage

pytestmark = pytest.mark.slow

METRICS_TOKEN = "for Prometheus only"


@pytest.fixture
def app(database: Database, gateway: FakeGateway) -> FastAPI:
    return make_web(
        database,
        gateway,
        operator_token=AS_OPERATOR["Authorization"][7:],
        ways_in=LOCAL,
        metrics_token=lambda: METRICS_TOKEN,
    )


async def figures(stage: Stage, person: str = "", **query: str) -> dict[str, dict[str, object]]:
    auth = httpx2.BasicAuth(person, PASSWORD) if person else None
    answer = await stage.http.get("/v1/figures", auth=auth, headers={} if person else AS_OPERATOR, params=query)
    assert answer.status_code == 200, answer.text
    return {each["domain"]: each for each in answer.json()["domains"]}


async def test_an_operator_sees_what_stands_and_what_ended(stage: Stage) -> None:
    await stage.ask(await stage.start(), ANA)
    over = await stage.start(trigger="other", tenant="umbrella")
    await stage.finish(over)
    await stage.start(trigger="third")
    identity = (await figures(stage))["identity"]
    assert (identity["queued"], identity["running"], identity["waiting"]) == (1, 0, 1)
    assert identity["ended"] == {"failed": 1}
    assert identity["success"] == 0
    assert identity["step_ran"] == {"p50_s": 1.0, "p95_s": 1.0}
    only_umbrella = (await figures(stage, tenant="umbrella"))["identity"]
    assert (only_umbrella["queued"], only_umbrella["waiting"], only_umbrella["ended"]) == (0, 0, {"failed": 1})


async def test_people_see_figures_of_what_concerns_them_and_no_workers(stage: Stage) -> None:
    await stage.ask(await stage.start(), ANA, requester=RIK)
    await stage.start(trigger="somebody else's")
    for person, seen in ((ANA, 1), (RIK, 1), (SAM, 0)):
        found = await figures(stage, person)
        assert sum(int(str(each["waiting"])) for each in found.values()) == seen, person
        assert not any(each["queued"] for each in found.values()), person
    async with workers.registered(stage.database, name="secret-host", domains=["identity"]):
        auth = httpx2.BasicAuth(ANA, PASSWORD)
        assert (await stage.http.get("/v1/figures", auth=auth)).json()["workers"] == []
        shown = (await stage.http.get("/v1/figures", headers=AS_OPERATOR)).json()["workers"]
        assert [worker["name"] for worker in shown] == ["secret-host"]
    assert (await stage.http.get("/v1/figures")).status_code == 401


async def test_the_time_promised_is_the_one_of_the_release_a_run_is_pinned_to(stage: Stage, release: Release) -> None:
    await stage.start()
    content = release.model_dump(mode="json")
    for written in content["definitions"].values():
        written["sla_finish_s"] = 3600.0
    async with stage.database.transaction() as tx:
        assert await releases.put(tx, Release.model_validate(content), by=OPERATOR)
    await stage.start(trigger="later")
    sla = (await figures(stage))["identity"]["sla"]
    assert sla == {"on_time": 0, "late": 0, "going_on_time": 1, "going_at_risk": 0, "going_late": 0}


@pytest.mark.parametrize("window", ["0", "-1", "nan", "inf", "999999999", "soon"])
async def test_a_window_is_between_a_minute_and_a_month(stage: Stage, window: str) -> None:
    answer = await stage.http.get("/v1/figures", headers=AS_OPERATOR, params={"window_s": window})
    assert answer.status_code == 422


@pytest.mark.parametrize(
    "headers",
    [{}, AS_OPERATOR, {"Authorization": "Bearer "}, {"Authorization": f"Basic {METRICS_TOKEN}"}],
    ids=["nobody", "operator", "empty", "basic"],
)
async def test_metrics_are_for_their_own_token_only(stage: Stage, headers: dict[str, str]) -> None:
    answer = await stage.http.get("/metrics", headers=headers)
    assert answer.status_code == 401
    assert b"regie_" not in answer.content


async def test_without_a_token_nobody_reads_metrics(database: Database, gateway: FakeGateway) -> None:
    app = make_web(database, gateway, operator_token="operator")
    async with httpx2.AsyncClient(transport=httpx2.ASGITransport(app), base_url="http://web") as http:
        for value in ("Bearer ", "Bearer", "Bearer operator"):
            assert (await http.get("/metrics", headers={"Authorization": value})).status_code == 401


async def test_metrics_count_runs_and_requests_by_pattern(stage: Stage) -> None:
    key = await stage.start()
    await stage.http.get(f"/v1/runs/{key.run}", headers=AS_OPERATOR)
    await stage.http.get("/v1/nothing/of/the/kind")
    await stage.http.request("BREW", "/v1/runs")
    answer = await stage.http.get("/metrics", headers={"Authorization": f"Bearer {METRICS_TOKEN}"})
    assert answer.status_code == 200
    samples = {
        (sample.name, *sorted(sample.labels.values())): sample.value
        for family in text_string_to_metric_families(answer.text)
        for sample in family.samples
    }
    assert samples["regie_unfinished_runs", "acme", "identity", "queued"] == 1
    assert samples["regie_unfinished_runs", "identity", "queued", "umbrella"] == 0
    assert samples["regie_queue_oldest_wait_seconds", "identity"] >= 0
    assert samples["regie_http_requests_total", "/v1/runs/{run}", "200", "GET"] >= 1
    assert samples["regie_http_requests_total", "404", "GET", "other"] >= 1
    assert samples["regie_http_requests_total", "/v1/runs", "405", "other"] >= 1
    assert key.run not in answer.text
