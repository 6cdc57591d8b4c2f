from __future__ import annotations

import asyncio
import uuid
from typing import Any

import httpx2
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from regie.core.audit import Actor
from regie.core.run_events import EVENT, Cancelled
from regie.store import inbox
from regie.web.runs import MOST_WAITING, Waiting

from .stage import ANA, AS_OPERATOR, BEN, CHANGE, OFFBOARD, OLGA, PASSWORD, RIK, SAM, Stage

pytestmark = pytest.mark.slow

WANTED: dict[str, Any] = {"tenant": "acme", "workflow": OFFBOARD, "input": {"employee": "jan.janssen@example.com"}}


async def post(stage: Stage, body: dict[str, Any], key: str | None = None, **more: Any) -> httpx2.Response:
    headers = {} if "auth" in more else dict(AS_OPERATOR)
    if key is not None:
        headers["Idempotency-Key"] = key
    return await stage.http.post("/v1/runs", json=body, headers={**headers, **more.pop("headers", {})}, **more)


async def get(stage: Stage, path: str, person: str | None = None, **query: Any) -> httpx2.Response:
    auth = None if person is None else httpx2.BasicAuth(person, PASSWORD)
    headers = {} if person else AS_OPERATOR
    return await stage.http.get(path, headers=headers, params=query or None, auth=auth)


async def test_a_run_is_started_and_shown(stage: Stage) -> None:
    answer = await post(stage, {**WANTED, "dry": True}, headers={"Regie-Operator": "jan"})
    assert answer.status_code == 201
    started = answer.json()
    assert (started["is_new"], started["tenant"], started["domain"]) == (True, "acme", "identity")
    assert answer.headers["Location"] == f"/v1/runs/{started['id']}"
    shown = (await get(stage, answer.headers["Location"])).json()
    assert shown["started_by"] == {"type": "operator", "id": "jan"}
    assert (shown["workflow"], shown["status"], shown["dry"]) == (OFFBOARD, "running", True)
    assert (shown["steps"], shown["approvals"], shown["effects"], shown["outcome"]) == ([], [], [], None)
    assert shown["started_at"].endswith("Z")
    leaves = (await get(stage, f"/v1/runs/{started['id']}/audit")).json()
    assert leaves["faults"] == []
    assert [leaf["event"] for leaf in leaves["leaves"]] == ["trigger:accepted", "run:started"]
    assert [leaf["seq"] for leaf in leaves["leaves"]] == [1, 2]
    assert all(len(leaf["hash"]) == 64 for leaf in leaves["leaves"])
    assert leaves["leaves"][1]["fields"]["actor"] == {"type": "operator", "id": "jan"}


async def test_a_person_with_the_role_starts_in_their_own_name(stage: Stage) -> None:
    answer = await post(stage, WANTED, auth=httpx2.BasicAuth(OLGA, PASSWORD))
    assert answer.status_code == 201
    assert answer.json()["started_by"] == {"type": "person", "id": OLGA}
    assert answer.json()["requester"] == OLGA


async def test_others_start_nothing(stage: Stage) -> None:
    for person in (ANA, SAM):
        assert (await post(stage, WANTED, auth=httpx2.BasicAuth(person, PASSWORD))).status_code == 403
        assert (await get(stage, "/v1/workflows", person)).status_code == 403
    assert await stage.count_runs() == 0


UNUSABLE: list[tuple[dict[str, Any], str]] = [
    ({"workflow": "identity.nothing"}, "There is no workflow 'identity.nothing'."),
    ({"tenant": "nobody"}, "There is no tenant 'nobody'."),
    ({"workflow": "finance.pay_invoice"}, "The tenant acme does not have the domain finance."),
    ({"input": {}}, "employee is missing"),
    ({"input": {"employee": "王"}}, "employee must be one e-mail address"),
    ({"input": {"employee": "王"}, "ticket": "ITSM-1"}, "employee must be one e-mail address"),
    ({"input": {"employee": "a@example.com", "employe": 1}}, "employe is no field of it (did you mean employee?)"),
    ({"tenant": "x" * 101}, "tenant: String should have at most 100 characters"),
    ({"extra": 1}, "extra: Extra inputs are not permitted"),
    ({"dry": "perhaps"}, "dry: Input should be a valid boolean"),
    ({"input": [1]}, "input: Input should be an object"),
    ({"ticket": "\u0000"}, "ticket: a key has no control characters"),
    ({"ticket": "IT\nSM"}, "ticket: a key has no control characters"),
    ({"ticket": "IT\u202eSM"}, "ticket: a key has no control characters"),
]


async def test_what_cannot_be_started_is_explained(stage: Stage) -> None:
    for change, said in UNUSABLE:
        answer = await post(stage, {**WANTED, **change})
        assert answer.status_code == 422, change
        problem = answer.json()
        assert said in problem["detail"]
        assert (problem["status"], problem["kind"]) == (422, "InvalidInput")
    assert await stage.count_runs() == 0


WRONG_JSON = [
    "",
    "{",
    "[]",
    "null",
    '{"tenant": "acme"',
    '{"tenant": "\\ud800", "workflow": "x"}',
    '{"tenant": "acme", "workflow": "identity.offboard_employee", "input": {"count": NaN}}',
    '{"tenant": "acme", "workflow": "identity.offboard_employee", "input": {"count": 1e999}}',
    '{"tenant": "acme", "workflow": "identity.offboard_employee", "input": {"count": ' + "9" * 5000 + "}}",
    '{"tenant": "acme", "workflow": "x", "input": {"count": ' + "[" * 100_000 + "]" * 100_000 + "}}",
]


async def test_wrong_json_is_explained(stage: Stage) -> None:
    headers = {**AS_OPERATOR, "Content-Type": "application/json"}
    for body in WRONG_JSON:
        answer = await stage.http.post("/v1/runs", content=body, headers=headers)
        assert answer.status_code == 422, body[:80]
        assert len(answer.text) < 1000
    assert await stage.count_runs() == 0


async def test_only_json_is_read(stage: Stage) -> None:
    for media_type in ("text/plain", "application/x-www-form-urlencoded", "", "application/jsonx"):
        headers = {**AS_OPERATOR, "Content-Type": media_type}
        answer = await stage.http.post("/v1/runs", content=b"{}", headers=headers)
        assert answer.status_code == 415, media_type


@given(body=st.binary(max_size=200) | st.text(max_size=200).map(str.encode))
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
async def test_no_body_breaks_it(stage: Stage, body: bytes) -> None:
    headers = {**AS_OPERATOR, "Content-Type": "application/json"}
    answer = await stage.http.post("/v1/runs", content=body, headers=headers)
    assert answer.status_code == 422


async def test_input_in_any_script_survives(stage: Stage) -> None:
    body = {"tenant": "acme", "workflow": OFFBOARD, "ticket": "ITSM-Ω", "input": {"employee": "zoë@例え.example"}}
    started = (await post(stage, body)).json()
    [listed] = (await get(stage, "/v1/runs", ticket="ITSM-Ω")).json()["items"]
    assert listed["id"] == started["id"]


async def test_an_idempotency_key_starts_one_run(stage: Stage) -> None:
    first = await post(stage, WANTED, "key-1")
    again = await post(stage, WANTED, "key-1")
    assert (first.status_code, again.status_code) == (201, 200)
    assert again.json()["id"] == first.json()["id"]
    assert again.headers["Location"] == first.headers["Location"]
    assert again.json()["is_new"] is False
    assert (await post(stage, WANTED, "key-2")).status_code == 201
    assert await stage.count_runs() == 2


async def test_without_a_key_each_request_is_new(stage: Stage) -> None:
    assert {(await post(stage, WANTED)).status_code for _ in range(2)} == {201}
    assert await stage.count_runs() == 2


@pytest.mark.parametrize(
    "change",
    [{"input": {"employee": "eva@example.com"}}, {"dry": True}, {"ticket": "ITSM-1"}, {"input": {}}],
)
async def test_a_key_belongs_to_one_request(stage: Stage, change: dict[str, Any]) -> None:
    first = await post(stage, WANTED, "key")
    other = await post(stage, {**WANTED, **change}, "key")
    assert other.status_code == 422
    assert "Idempotency-Key" in other.json()["detail"]
    assert await stage.count_runs() == 1
    leaves = (await get(stage, f"/v1/runs/{first.json()['id']}/audit")).json()["leaves"]
    assert [leaf["event"] for leaf in leaves] == ["trigger:accepted", "run:started"]


async def test_a_key_belongs_to_its_caller(stage: Stage) -> None:
    first = await post(stage, WANTED, "key")
    other = await post(stage, WANTED, "key", headers={"Regie-Operator": "jan"})
    third = await post(stage, WANTED, "key", auth=httpx2.BasicAuth(OLGA, PASSWORD))
    assert [answer.status_code for answer in (first, other, third)] == [201, 201, 201]


async def test_a_key_used_at_once_starts_one_run(stage: Stage) -> None:
    answers = await asyncio.gather(*(post(stage, WANTED, "key") for _ in range(8)))
    assert sorted(answer.status_code for answer in answers) == [200] * 7 + [201]
    assert len({answer.json()["id"] for answer in answers}) == 1


async def test_a_key_has_a_length(stage: Stage) -> None:
    assert (await post(stage, WANTED, "x" * 201)).status_code == 422


async def test_the_list_is_paged_without_gap_or_overlap(stage: Stage) -> None:
    started = [(await stage.start(trigger=f"t{number}")).run for number in range(7)]
    seen: list[str] = []
    before = None
    for _ in range(10):
        page = (await get(stage, "/v1/runs", limit=3, **({"before": before} if before else {}))).json()
        seen += [run["id"] for run in page["items"]]
        before = page["next"]
        if before is None:
            break
    assert seen == started[::-1]


async def test_a_cursor_whose_plus_was_not_escaped_still_works(stage: Stage) -> None:
    for number in range(3):
        await stage.start(trigger=f"t{number}")
    before = (await get(stage, "/v1/runs", limit=2)).json()["next"]
    answer = await stage.http.get(f"/v1/runs?before={before}", headers=AS_OPERATOR)
    assert len(answer.json()["items"]) == 1


async def test_the_list_is_filtered(stage: Stage) -> None:
    acme = await stage.start(trigger="a", ticket="ITSM-1")
    umbrella = await stage.start("umbrella", trigger="b")
    await stage.finish(acme)

    async def ids(**query: str) -> list[str]:
        return [run["id"] for run in (await get(stage, "/v1/runs", **query)).json()["items"]]

    assert await ids() == [umbrella.run, acme.run]
    assert await ids(tenant="acme") == await ids(ticket="ITSM-1") == await ids(status="failed") == [acme.run]
    assert await ids(workflow=OFFBOARD, domain="identity", status="running") == [umbrella.run]
    assert await ids(domain="hr") == await ids(tenant="acme", status="running") == []


async def test_a_filter_that_makes_no_sense_is_explained(stage: Stage) -> None:
    wrong: list[dict[str, Any]] = [{"limit": 0}, {"limit": 201}, {"limit": "x"}, {"status": "no"}, {"before": "x"}]
    for query in [*wrong, {"nothing": 1}, {"tenant": "\0"}]:
        answer = await get(stage, "/v1/runs", **query)
        assert answer.status_code == 422, query
        assert answer.headers["Content-Type"] == "application/problem+json"


async def test_people_see_runs_they_asked_for_or_are_asked_about(stage: Stage) -> None:
    asked = await stage.start(trigger="a")
    await stage.ask(asked, ANA, BEN.upper(), requester=RIK)
    own = await stage.start(trigger="b", by=Actor(type="person", id=RIK))
    unrelated = await stage.start(trigger="c")
    unasked = await stage.start(trigger="d")
    await stage.ask(unasked, OLGA, requester=OLGA)
    everything = [unasked.run, unrelated.run, own.run, asked.run]
    sees = {ANA: [asked.run], BEN: [asked.run], RIK: [own.run, asked.run], SAM: [], OLGA: everything}
    for person, visible in sees.items():
        page = (await get(stage, "/v1/runs", person)).json()
        assert [run["id"] for run in page["items"]] == visible, person
        assert page["next"] is None
        for run in everything:
            for path in (f"/v1/runs/{run}", f"/v1/runs/{run}/audit", f"/v1/runs/{run}/wait?for_s=0"):
                answer = await get(stage, path, person)
                assert answer.status_code == (200 if run in visible else 404), (person, path)


async def test_what_one_may_not_see_looks_like_what_is_not_there(stage: Stage) -> None:
    run = (await stage.start()).run
    for path in ("", "/audit", "/wait"):
        hidden = await get(stage, f"/v1/runs/{run}{path}", SAM)
        absent = await get(stage, f"/v1/runs/{uuid.uuid4()}{path}", SAM)
        strange = await get(stage, f"/v1/runs/..%2f{path}", SAM)
        assert (hidden.status_code, hidden.text) == (absent.status_code, absent.text)
        assert hidden.status_code == strange.status_code == 404


async def test_a_person_pages_through_many_runs_of_others(stage: Stage) -> None:
    wanted = []
    for number in range(11):
        key = await stage.start(trigger=f"t{number}")
        if number in (0, 1, 7):
            await stage.ask(key, ANA)
            wanted.append(key.run)
    seen: list[str] = []
    before, pages = None, 0
    while pages == 0 or before:
        page = (await get(stage, "/v1/runs", ANA, limit=2, **({"before": before} if before else {}))).json()
        seen += [run["id"] for run in page["items"]]
        before, pages = page["next"], pages + 1
    assert seen == wanted[::-1]
    assert pages == 2


async def test_an_id_that_is_none_is_not_found(stage: Stage) -> None:
    for run in ("x", "%00", "1" * 32, "{" + str(uuid.UUID(int=1)) + "}", "0" * 400, "é"):
        assert (await get(stage, f"/v1/runs/{run}")).status_code == 404, run


async def test_a_run_is_shown_in_full(stage: Stage) -> None:
    key = await stage.start(ticket="ITSM-1")
    approval = await stage.ask(key, ANA)
    await stage.finish(key)
    shown = (await get(stage, f"/v1/runs/{key.run}")).json()
    assert (shown["status"], shown["ticket"], shown["requester"]) == ("failed", "ITSM-1", RIK)
    assert shown["outcome"]["status"] == "failed"
    assert shown["outcome"]["failure"]["message"] == "The world moved."
    first, close, stray = shown["steps"]
    assert (first["place"], first["uses"], first["status"]) == ("approval", "people.approve", "waiting")
    assert first["title"]
    assert (close["uses"], close["attempt"], close["status"]) == ("identity.disable_account", 2, "done")
    assert close["queued_at"] < close["started_at"] < close["ended_at"]
    assert close["effects"][0]["words"] == CHANGE.in_words()
    assert (stray["uses"], stray["title"], stray["failure"]["kind"]) == ("", "", "WorldMoved")
    assert [each["id"] for each in shown["approvals"]] == [approval]
    [effect] = shown["effects"]
    assert (effect["state"], effect["words"], effect["digest"]) == ("received", CHANGE.in_words(), CHANGE.digest)
    assert CHANGE.in_words() in shown["report"]
    audit = (await get(stage, f"/v1/runs/{key.run}/audit")).json()
    assert audit["faults"] == []
    assert audit["leaves"][-1]["event"] == "run:closed"


async def cancel(stage: Stage, run: str, person: str | None = None, **body: Any) -> httpx2.Response:
    more: dict[str, Any] = {"auth": httpx2.BasicAuth(person, PASSWORD)} if person else {"headers": AS_OPERATOR}
    return await stage.http.post(f"/v1/runs/{run}/cancel", json=body, **more)


async def test_who_asked_for_a_run_or_an_operator_cancels_it(stage: Stage) -> None:
    for number, person in enumerate((RIK, OLGA, None)):
        key = await stage.start(trigger=f"t{number}", by=Actor(type="person", id=RIK))
        for _ in range(2):
            answer = await cancel(stage, key.run, person, reason="Not needed.")
            assert answer.status_code == 202
            assert answer.json() == {"id": key.run, "status": "running", "ends_as": "cancelled"}
        leaves = (await get(stage, f"/v1/runs/{key.run}/audit")).json()["leaves"]
        [leaf] = [leaf for leaf in leaves if leaf["event"] == "run:cancelled"]
        assert "Not needed" not in str(leaf)
        async with stage.database.reading() as tx:
            [event] = await inbox.unconsumed(tx, key)
        assert EVENT.validate_json(event.payload_json) == Cancelled(by=person or "the operator", reason="Not needed.")


async def test_others_cancel_nothing(stage: Stage) -> None:
    key = await stage.start(by=Actor(type="person", id=RIK))
    await stage.ask(key, ANA)
    assert (await cancel(stage, key.run, ANA)).status_code == 403
    assert (await cancel(stage, key.run, SAM)).status_code == 404
    assert (await cancel(stage, str(uuid.uuid4()))).status_code == 404
    assert (await cancel(stage, key.run, RIK, reason="x" * 2001)).status_code == 422
    async with stage.database.reading() as tx:
        assert await inbox.unconsumed(tx, key) == []


async def test_what_is_over_cannot_be_cancelled(stage: Stage) -> None:
    key = await stage.start()
    await stage.finish(key)
    answer = await cancel(stage, key.run)
    assert answer.status_code == 409
    assert "This run is over: failed." in answer.text


async def test_a_broken_audit_log_is_shown_as_broken(stage: Stage) -> None:
    key = await stage.start()
    async with stage.database.transaction() as tx:
        await tx.change("delete from audit.intake where run_id = %(run)s and run_seq = 2", {"run": key.run})
    assert (await get(stage, f"/v1/runs/{key.run}/audit")).json()["faults"]


async def test_waiting_ends_when_people_are_asked(stage: Stage) -> None:
    key = await stage.start()
    waiting = asyncio.create_task(get(stage, f"/v1/runs/{key.run}/wait", for_s=20))
    approval = await stage.ask(key, ANA)
    shown = (await waiting).json()
    assert (shown["is_final"], shown["is_waiting_for_people"]) == (False, True)
    assert shown["open_approvals"] == [approval]


async def test_waiting_ends_when_the_run_is_over(stage: Stage) -> None:
    key = await stage.start()
    waiting = asyncio.create_task(get(stage, f"/v1/runs/{key.run}/wait"))
    await stage.finish(key)
    shown = (await waiting).json()
    assert (shown["id"], shown["is_final"], shown["status"]) == (key.run, True, "failed")


async def test_waiting_ends_with_the_time(stage: Stage) -> None:
    key = await stage.start()
    shown = (await get(stage, f"/v1/runs/{key.run}/wait", for_s=0.3)).json()
    assert (shown["is_final"], shown["is_waiting_for_people"]) == (False, False)


async def test_waiting_is_bounded(stage: Stage) -> None:
    key = await stage.start()
    for for_s in ("-1", "26", "nan", "inf", "x"):
        assert (await get(stage, f"/v1/runs/{key.run}/wait", for_s=for_s)).status_code == 422, for_s


def test_the_number_of_those_who_wait_is_bounded() -> None:
    waiting = Waiting()
    places = [waiting.place() for _ in range(MOST_WAITING + 1)]
    assert [place.__enter__() for place in places] == [True] * MOST_WAITING + [False]
    for place in places:
        place.__exit__(None, None, None)
    with waiting.place() as may_wait:
        assert may_wait


async def test_workflows_can_be_looked_up(stage: Stage) -> None:
    answer = (await get(stage, "/v1/workflows")).json()
    found = {each["workflow"]: each for each in answer["items"]}
    assert found.keys() == {OFFBOARD, "hr.leave", "finance.pay_invoice"}
    assert found[OFFBOARD]["tenants"] == ["acme", "umbrella"]
    assert found["finance.pay_invoice"]["tenants"] == []
    assert found[OFFBOARD]["input"][0]["name"] == "employee"
    assert len(answer["release"]) == 64
