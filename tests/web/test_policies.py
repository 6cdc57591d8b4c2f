"""What people may do is asked of the policies, noted with what they did, and noted when it is denied."""

from typing import Any

import httpx2
import pytest

from regie.core.audit import Actor, Event
from regie.core.reach import Act, Scope
from regie.core.release import Release
from regie.policy.cedar import policies_of, shipped
from regie.store import api_tokens, releases
from tests.leaves import read_outside

from .stage import ANA, AS_OPERATOR, OFFBOARD, OLGA, OPERATOR, PASSWORD, RIK, SAM, Stage
from .test_steering import leaves, post

pytestmark = pytest.mark.slow

BY_RIK = Actor(type="person", id=RIK)


def person(address: str) -> httpx2.BasicAuth:
    return httpx2.BasicAuth(address, PASSWORD)


async def load(stage: Stage, release: Release, **files: str) -> None:
    policies = {**shipped(), **{f"{name}.cedar": text for name, text in files.items()}}
    async with stage.database.transaction() as tx:
        await releases.put(tx, Release.model_validate({**release.model_dump(), "policies": policies}), by=OPERATOR)


async def outside(stage: Stage) -> list[dict[str, Any]]:
    async with stage.database.reading() as tx:
        found = await read_outside(tx, "acme", "identity")
    return [dict(leaf.fields) for leaf in found if leaf.event is Event.REQUEST_DENIED]


async def test_a_start_says_which_policy_allowed_it_and_a_denied_one_is_noted(stage: Stage, release: Release) -> None:
    body = {"tenant": "acme", "workflow": OFFBOARD, "input": {"employee": "jan@example.com"}}
    denied = await stage.http.post("/v1/runs", json=body, auth=person(SAM))
    assert denied.status_code == 403
    [leaf] = await outside(stage)
    assert (leaf["actor"], leaf["action"], leaf["reason"]) == (
        {"type": "person", "id": SAM},
        "start",
        "no_policy_allows_it",
    )
    started = await stage.http.post("/v1/runs", json=body, auth=person(OLGA))
    [first] = await leaves(stage, started.json()["id"], "run:started")
    assert first["fields"]["policy"] == {
        "set_sha256": policies_of(release).sha256,
        "determining": ["operators_start_runs"],
    }


async def test_who_may_not_start_does_not_learn_what_there_is(stage: Stage) -> None:
    for tenant, workflow in (("acme", OFFBOARD), ("nobody", OFFBOARD), ("acme", "identity.nothing")):
        denied = await stage.http.post("/v1/runs", json={"tenant": tenant, "workflow": workflow}, auth=person(SAM))
        assert denied.status_code == 403
        assert (
            denied.json()["detail"] == f"This needs `start` in tenant {tenant}, domain identity, workflow {workflow}."
        )


async def test_steering_says_which_policy_allowed_it(stage: Stage) -> None:
    key = await stage.start(by=BY_RIK)
    assert (await post(stage, f"{key.run}/pause", RIK)).status_code == 202
    assert (await post(stage, f"{key.run}/resume", RIK)).status_code == 202
    assert (await post(stage, f"{key.run}/cancel", OLGA)).status_code == 202
    found = {
        event: [leaf["fields"]["policy"]["determining"] for leaf in await leaves(stage, key.run, event)]
        for event in ("run:paused", "run:resumed", "run:cancelled")
    }
    assert found == {
        "run:paused": [["own_runs"]],
        "run:resumed": [["own_pauses"]],
        "run:cancelled": [["operators_see_and_steer_runs"]],
    }


async def test_a_policy_takes_away_what_ours_allow_and_the_denial_is_in_the_runs_log(
    stage: Stage, release: Release
) -> None:
    key = await stage.start(by=BY_RIK)
    await load(
        stage,
        release,
        hr='@id("hr_stops_here") @because("{who} does not stop runs of {domain}.") @hint("Ask its owner.") '
        'forbid (principal, action == Action::"cancel", resource) when { resource.domain == "identity" };',
    )
    denied = await post(stage, f"{key.run}/cancel", RIK)
    assert (denied.status_code, denied.json()["detail"]) == (403, f"{RIK} does not stop runs of identity.")
    assert denied.json()["hint"] == "Ask its owner."
    [leaf] = await leaves(stage, key.run, "request:denied")
    assert leaf["fields"]["reason"] == "hr_stops_here"
    assert (await post(stage, f"{key.run}/pause", RIK)).status_code == 202


async def test_a_role_of_one_tenant_sees_the_runs_of_that_tenant_alone(stage: Stage, release: Release) -> None:
    auditors = {"acme": {**release.tenants["acme"].model_dump(), "roles": {"auditor": [SAM]}}}
    with_role = Release.model_validate(
        {**release.model_dump(), "tenants": {**release.model_dump()["tenants"], **auditors}}
    )
    await load(
        stage,
        with_role,
        audit='@id("auditors_see") permit (principal in Role::"acme/auditor", action == Action::"view", resource) '
        'when { resource.tenant == "acme" && resource.domain == "identity" };',
    )
    mine, other = await stage.start(), await stage.start(tenant="umbrella")
    assert (await stage.http.get(f"/v1/runs/{mine.run}", auth=person(SAM))).status_code == 200
    assert (await stage.http.get(f"/v1/runs/{other.run}", auth=person(SAM))).status_code == 404
    listed = (await stage.http.get("/v1/runs", auth=person(SAM))).json()["items"]
    assert [row["id"] for row in listed] == [mine.run]
    assert (await post(stage, f"{mine.run}/cancel", SAM)).status_code == 403
    assert (await stage.http.get("/v1/runs", auth=person(ANA))).json()["items"] == []


async def test_a_policy_takes_runs_out_of_lists(stage: Stage, release: Release) -> None:
    hidden, shown = await stage.start(), await stage.start(tenant="umbrella")
    await load(
        stage,
        release,
        ours=f'@id("not_olgas") forbid (principal == Person::"{OLGA}", action == Action::"view", resource is Run) '
        'when { resource.tenant == "acme" };',
    )
    listed = await stage.http.get("/v1/runs", params={"limit": 1}, auth=person(OLGA))
    seen = [row["id"] for row in listed.json()["items"]]
    rest = await stage.http.get("/v1/runs", params={"before": listed.json()["next"]}, auth=person(OLGA))
    assert seen + [row["id"] for row in rest.json()["items"]] == [shown.run]
    everything = (await stage.http.get("/v1/runs", headers=AS_OPERATOR)).json()["items"]
    assert {row["id"] for row in everything} == {hidden.run, shown.run}


async def test_no_policy_widens_what_a_token_may(stage: Stage, release: Release) -> None:
    await load(stage, release, ours='@id("programs_do_anything") permit (principal is Program, action, resource);')
    scope = Scope(tenant="acme", domain="identity", acts=frozenset({Act.LOOK}))
    async with stage.database.transaction() as tx:
        _, shown = await api_tokens.make(tx, name="scanner", scope=scope, lives_s=3600, by=OPERATOR)
    header = {"Authorization": f"Bearer {shown}"}
    ours, theirs = await stage.start(), await stage.start(tenant="umbrella")
    assert (await stage.http.get(f"/v1/runs/{ours.run}", headers=header)).status_code == 200
    assert (await stage.http.get(f"/v1/runs/{theirs.run}", headers=header)).status_code == 404
    for act, (path, body) in {
        "steer": (f"/v1/runs/{ours.run}/cancel", {}),
        "start": (f"/v1/runs/{ours.run}/rerun", {"from": "close"}),
    }.items():
        denied = await stage.http.post(path, json=body, headers=header)
        assert (denied.status_code, denied.json()["missing"]["act"]) == (403, act)
    noted = await leaves(stage, ours.run, "request:denied")
    assert {(leaf["fields"]["actor"]["type"], leaf["fields"]["reason"]) for leaf in noted} == {
        ("program", "beyond_scope")
    }


async def test_nobody_sees_anything_under_policies_that_cannot_be_used(stage: Stage, release: Release) -> None:
    key = await stage.start(by=BY_RIK)
    await load(stage, release, broken="permit (")
    answer = await stage.http.get(f"/v1/runs/{key.run}", headers=AS_OPERATOR)
    assert answer.status_code == 403
    assert "everything is denied" in answer.json()["detail"]
