"""Events from outside over the API: who may tell them, what is taken, and that it counts once."""

from __future__ import annotations

from typing import Any

import httpx2
import pytest

from regie.core.run import Parent
from regie.engine.port import StartRequest
from regie.store import runs
from regie.store.keys import RunKey
from regie.store.runs import NewRun
from tests.leaves import read_outside

from .stage import ANA, AS_OPERATOR, OFFBOARD, OLGA, OPERATOR, PASSWORD, RIK, Stage

pytestmark = pytest.mark.slow

TOLD: dict[str, Any] = {
    "tenant": "acme",
    "domain": "identity",
    "event": "contract.sign",
    "data": {"who": "Zoë", "pages": 2},
}


async def tell(stage: Stage, body: dict[str, Any], key: str | None = "one", **more: Any) -> httpx2.Response:
    headers = {} if "auth" in more else dict(AS_OPERATOR)
    if key is not None:
        headers["Idempotency-Key"] = key
    return await stage.http.post("/v1/events", json=body, headers={**headers, **more.pop("headers", {})}, **more)


async def test_an_event_is_taken_once_and_is_attributed(stage: Stage) -> None:
    first = await tell(stage, TOLD, headers={"Regie-Operator": "hr-system"})
    assert first.status_code == 202
    assert first.json() == {
        "id": "one",
        "tenant": "acme",
        "domain": "identity",
        "event": "contract.sign",
        "is_new": True,
    }
    again = await tell(stage, TOLD, auth=httpx2.BasicAuth(OLGA, PASSWORD))
    assert (again.status_code, again.json()["is_new"]) == (200, False)
    async with stage.database.reading() as tx:
        leaves = await read_outside(tx, "acme", "identity", limit=10)
    told = {leaf.event.value: leaf.fields["actor"] for leaf in leaves if leaf.event.noun == "event"}
    assert told == {
        "event:received": {"type": "operator", "id": "hr-system"},
        "event:repeated": {"type": "person", "id": OLGA},
    }


async def test_others_tell_nothing(stage: Stage) -> None:
    assert (await tell(stage, TOLD, auth=httpx2.BasicAuth(ANA, PASSWORD))).status_code == 403
    assert (await stage.http.post("/v1/events", json=TOLD, headers={"Idempotency-Key": "one"})).status_code == 401


async def test_nobody_tells_an_event_under_an_id_of_those_of_runs(stage: Stage) -> None:
    answer = await tell(stage, TOLD, key="run:0f8b4f0e")
    assert answer.status_code == 422
    assert "does not begin with run:" in answer.json()["detail"]


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"tenant": "nobody"}, "There is no tenant 'nobody'."),
        ({"domain": "finance"}, "The tenant acme does not have the domain finance."),
        ({"event": "signed"}, "name: String should match pattern"),
        ({"data": [1]}, "data: Input should be an object"),
        ({"data": {"text": "x" * 65_536}}, "at most 65536 bytes"),
        ({"data": {str(number): 1 for number in range(101)}}, "at most 100 fields"),
        ({"at": "now"}, "at: Extra inputs are not permitted"),
    ],
)
async def test_what_is_no_event_is_refused(stage: Stage, change: dict[str, Any], says: str) -> None:
    answer = await tell(stage, {**TOLD, **change})
    assert answer.status_code == 422
    assert says in answer.json()["detail"]


async def test_an_event_has_an_id_and_the_id_has_one_event(stage: Stage) -> None:
    assert (await tell(stage, TOLD, key=None)).status_code == 422
    await tell(stage, TOLD)
    others: list[dict[str, Any]] = [{"data": {}}, {"event": "contract.close"}]
    for change in others:
        answer = await tell(stage, {**TOLD, **change})
        assert answer.status_code == 422
        assert "used for another event" in answer.json()["detail"]


# --- parents and children ---------------------------------------------------------------------------------------------


async def with_child(stage: Stage, *, requester: str = RIK) -> tuple[RunKey, RunKey]:
    """A run and the child that a step of it has started."""
    parent = await stage.start(trigger="parent")
    await stage.ask(parent, ANA, requester=OLGA)
    request = StartRequest(tenant="acme", workflow=OFFBOARD, trigger_key="child", started_by=OPERATOR)
    child = RunKey("acme", "identity", "7b1f0f4e-2a8c-5f6e-9d7c-0123456789ab")
    async with stage.database.transaction() as tx:
        row = await runs.get(tx, parent)
        assert row is not None
        state = (await stage.state(parent)).model_dump_json()
        new = NewRun(
            key=child,
            workflow=request.workflow,
            release=row.release,
            definition_digest=row.definition_digest,
            trigger_key=request.trigger_key,
            started_by=OPERATOR,
            state_json=state,
            requester=requester,
            parent=Parent(run=parent.run, place="close", lineage=(f"{OFFBOARD}:close",)),
        )
        await runs.start(tx, new)
    return parent, child


async def shown(stage: Stage, key: RunKey, person: str | None = None) -> dict[str, Any]:
    auth = httpx2.BasicAuth(person, PASSWORD) if person else None
    answer = await stage.http.get(f"/v1/runs/{key.run}", headers={} if person else AS_OPERATOR, auth=auth)
    assert answer.status_code == 200
    found: dict[str, Any] = answer.json()
    return found


async def test_parent_and_child_name_each_other(stage: Stage) -> None:
    parent, child = await with_child(stage)
    assert (await shown(stage, child))["parent"] == {"run": parent.run, "place": "close"}
    ours = await shown(stage, parent)
    assert ours["parent"] is None
    assert [(each["id"], each["parent_place"], each["workflow"]) for each in ours["children"]] == [
        (child.run, "close", OFFBOARD)
    ]


async def test_a_parent_that_somebody_may_not_see_is_not_named(stage: Stage) -> None:
    _, child = await with_child(stage)
    assert (await shown(stage, child, RIK))["parent"] is None


async def test_who_waits_for_a_parent_hears_what_its_child_asks_people(stage: Stage) -> None:
    parent, child = await with_child(stage)
    approval = await stage.ask(child, ANA)
    answer = await stage.http.get(f"/v1/runs/{parent.run}/wait?for_s=0", headers=AS_OPERATOR)
    assert approval in answer.json()["open_approvals"]
