from __future__ import annotations

import asyncio
import uuid
from typing import Any

import httpx2
import pytest

from regie.core.plan import plan_digest
from regie.core.run_events import EVENT, Decided
from regie.store import inbox
from regie.store.keys import RunKey

from .stage import ANA, AS_OPERATOR, BEN, CHANGE, OLGA, PASSWORD, PLAN, RIK, SAM, Stage

pytestmark = pytest.mark.slow

SEEN = plan_digest(list(PLAN))


async def get(stage: Stage, path: str, person: str | None = None, **query: Any) -> httpx2.Response:
    auth = None if person is None else httpx2.BasicAuth(person, PASSWORD)
    return await stage.http.get(path, headers={} if person else AS_OPERATOR, params=query or None, auth=auth)


async def decide(stage: Stage, approval: str, person: str | None, **change: Any) -> httpx2.Response:
    body = {"decision": "approved", "plan_sha256": SEEN, **change}
    where = f"/v1/approvals/{approval}/decision"
    if person is None:
        return await stage.http.post(where, json=body, headers=AS_OPERATOR)
    return await stage.http.post(where, json=body, auth=httpx2.BasicAuth(person, PASSWORD))


async def decisions(stage: Stage, key: RunKey) -> list[Decided]:
    async with stage.database.reading() as tx:
        events = [EVENT.validate_json(event.payload_json) for event in await inbox.unconsumed(tx, key)]
    return [event for event in events if isinstance(event, Decided)]


async def leaves(stage: Stage, key: RunKey) -> list[dict[str, Any]]:
    answer: list[dict[str, Any]] = (await get(stage, f"/v1/runs/{key.run}/audit")).json()["leaves"]
    return answer


@pytest.fixture
async def key(stage: Stage) -> RunKey:
    return await stage.start()


@pytest.fixture
async def approval(stage: Stage, key: RunKey) -> str:
    return await stage.ask(key, ANA, BEN)


async def test_the_plan_is_shown_in_words_and_fields(stage: Stage, key: RunKey, approval: str) -> None:
    shown = (await get(stage, f"/v1/approvals/{approval}", ANA)).json()
    assert (shown["id"], shown["run"], shown["tenant"], shown["domain"]) == (approval, key.run, "acme", "identity")
    assert (shown["question"], shown["requester"], shown["approvers"]) == ("Offboard Zoë Ünal?", RIK, [ANA, BEN])
    assert (shown["rung"], shown["rungs"], shown["status"]) == (1, 2, "open")
    assert shown["asked_at"] < shown["expires_at"]
    assert shown["plan_sha256"] == SEEN
    change, none = shown["plan"]
    assert change == {
        "place": "close",
        "uses": "identity.disable_account",
        "kind": "change",
        "capability": "identity.disable_account",
        "target": "user:42",
        "words": "Jan Janssen: accountEnabled true -> false",
        "fields": [{"field": "accountEnabled", "before": True, "after": False}],
        "digest": CHANGE.digest,
    }
    assert (none["kind"], none["words"], none["fields"], none["digest"]) == ("no_change", "not a member", [], "")


@pytest.mark.parametrize("decision", ["approved", "refused"])
async def test_a_decision_reaches_the_run_and_the_audit_log(
    stage: Stage, key: RunKey, approval: str, decision: str
) -> None:
    answer = await decide(stage, approval, ANA, decision=decision, comment="Akkoord, Zoë 👋")
    assert answer.status_code == 200
    decided = answer.json()
    assert (decided["status"], decided["decided_by"], decided["comment"]) == (decision, ANA, "Akkoord, Zoë 👋")
    [event] = await decisions(stage, key)
    assert (event.decision, event.by, event.comment) == (decision, ANA, "Akkoord, Zoë 👋")
    last = (await leaves(stage, key))[-1]
    assert last["event"] == ("approval:granted" if decision == "approved" else "approval:refused")
    assert last["fields"]["actor"] == {"type": "person", "id": ANA}
    assert last["fields"]["approval"]["plan_sha256"] == SEEN


async def test_two_people_deciding_at_once(stage: Stage, key: RunKey, approval: str) -> None:
    for person in (ANA, BEN):
        await get(stage, "/v1/approvals", person)
    answers = await asyncio.gather(
        *(decide(stage, approval, person, decision=said) for person in (ANA, BEN) for said in ("approved", "refused"))
    )
    assert sorted(answer.status_code for answer in answers) == [200, 409, 409, 409]
    [winner] = [answer.json() for answer in answers if answer.status_code == 200]
    for answer in answers:
        if answer.status_code == 409:
            detail = answer.json()["detail"]
            assert detail.startswith(f"{winner['decided_by']} has already decided this: {winner['status']}, 20")
    [event] = await decisions(stage, key)
    assert (event.by, event.decision) == (winner["decided_by"], winner["status"])
    told = [leaf["event"] for leaf in await leaves(stage, key)]
    assert sum(event in ("approval:granted", "approval:refused") for event in told) == 1


async def test_a_second_decision_is_told_who_was_first(stage: Stage, approval: str) -> None:
    await decide(stage, approval, ANA)
    for person in (ANA, BEN):
        again = await decide(stage, approval, person, decision="refused")
        assert again.status_code == 409
        assert again.json()["detail"].startswith(f"{ANA} has already decided this: approved, 20")
        assert again.json()["kind"] == "Conflict"


async def test_what_ended_without_a_decision_says_so(stage: Stage, key: RunKey, approval: str) -> None:
    await stage.finish(key)
    answer = await decide(stage, approval, ANA)
    assert answer.status_code == 409
    assert answer.json()["detail"].startswith("Nobody decided in time")
    assert await decisions(stage, key) == []


async def test_another_plan_than_the_one_seen(stage: Stage, key: RunKey, approval: str) -> None:
    answer = await decide(stage, approval, ANA, plan_sha256="0" * 64)
    assert answer.status_code == 409
    assert "The plan is another one than you saw." in answer.json()["detail"]
    assert await decisions(stage, key) == []


async def test_the_operators_token_never_decides(stage: Stage, key: RunKey, approval: str) -> None:
    answer = await decide(stage, approval, None)
    assert answer.status_code == 403
    assert await decisions(stage, key) == []


async def test_the_role_operator_sees_and_does_not_decide_unasked(stage: Stage, key: RunKey, approval: str) -> None:
    assert (await get(stage, f"/v1/approvals/{approval}", OLGA)).status_code == 200
    assert (await decide(stage, approval, OLGA)).status_code == 403
    assert await decisions(stage, key) == []


async def test_four_eyes(stage: Stage, key: RunKey) -> None:
    approval = await stage.ask(key, RIK, ANA, requester=RIK.upper())
    answer = await decide(stage, approval, RIK)
    assert answer.status_code == 403
    assert "asked for this run" in answer.json()["detail"]
    assert await decisions(stage, key) == []
    assert (await decide(stage, approval, ANA)).status_code == 200


async def test_addresses_do_not_depend_on_case(stage: Stage, key: RunKey) -> None:
    approval = await stage.ask(key, ANA.upper())
    assert [each["id"] for each in (await get(stage, "/v1/approvals", ANA)).json()["items"]] == [approval]
    assert (await decide(stage, approval, ANA.title())).status_code == 200


async def test_others_approvals_do_not_exist(stage: Stage, key: RunKey, approval: str) -> None:
    absent = str(uuid.uuid4())
    for found in (approval, absent, "x", "%00"):
        shown = await get(stage, f"/v1/approvals/{found}", SAM)
        said = await decide(stage, found, SAM)
        assert (shown.status_code, said.status_code) == (404, 404)
        assert shown.json()["detail"] == said.json()["detail"] == "There is no such approval."
    assert (await get(stage, "/v1/approvals", SAM, status="all")).json()["items"] == []
    assert await decisions(stage, key) == []


async def test_who_asked_for_the_run_sees_the_approval_and_is_told_why_it_is_not_theirs(
    stage: Stage, key: RunKey, approval: str
) -> None:
    assert (await get(stage, f"/v1/approvals/{approval}", RIK)).status_code == 200
    said = await decide(stage, approval, RIK)
    assert said.status_code == 403
    assert "asked for this run and cannot approve it" in said.json()["detail"]
    assert (await get(stage, "/v1/approvals", RIK, status="all")).json()["items"] == []
    assert await decisions(stage, key) == []


async def test_lists_show_what_is_open_or_everything(stage: Stage, approval: str) -> None:
    second = await stage.ask(await stage.start("umbrella"), BEN)

    async def ids(person: str | None, **query: Any) -> list[str]:
        return [each["id"] for each in (await get(stage, "/v1/approvals", person, **query)).json()["items"]]

    assert await ids(None) == await ids(OLGA) == await ids(BEN) == [second, approval]
    assert await ids(ANA) == [approval]
    await decide(stage, approval, ANA)
    assert await ids(None) == await ids(BEN) == [second]
    assert await ids(ANA) == []
    assert await ids(ANA, status="all") == [approval]
    assert await ids(None, status="all") == [second, approval]
    page = (await get(stage, "/v1/approvals", status="all", limit=1)).json()
    assert [each["id"] for each in page["items"]] == [second]
    last = (await get(stage, "/v1/approvals", status="all", limit=1, before=page["next"])).json()
    assert [each["id"] for each in last["items"]] == [approval]
    assert last["next"] is None, "nothing follows, though the page is full"
    assert (await get(stage, "/v1/approvals", status="closed")).status_code == 422


async def test_a_decision_is_one_of_two_words(stage: Stage, key: RunKey, approval: str) -> None:
    wrong: list[dict[str, Any]] = [{"decision": "timeout"}, {"decision": "yes"}, {"decision": None}, {"by": BEN}]
    for change in [*wrong, {"comment": "x" * 2001}, {"plan_sha256": ""}, {"plan_sha256": "0" * 63 + "\n"}]:
        assert (await decide(stage, approval, ANA, **change)).status_code == 422, change
    assert await decisions(stage, key) == []


async def test_looking_changes_nothing(stage: Stage, key: RunKey, approval: str) -> None:
    async def world() -> object:
        async with stage.database.reading() as tx:
            return [
                await tx.rows(query)
                for query in (
                    "select * from regie.run",
                    "select * from regie.approval",
                    "select * from regie.inbox",
                    "select * from audit.intake order by entry_id",
                    "select * from regie.account order by address",
                )
            ]

    before = await world()
    for path in (
        "/v1/runs",
        f"/v1/runs/{key.run}",
        f"/v1/runs/{key.run}/audit",
        f"/v1/runs/{key.run}/wait?for_s=0",
        "/v1/approvals",
        f"/v1/approvals/{approval}",
        "/v1/workflows",
        "/health",
        f"/v1/approvals/{approval}?decision=approved&plan_sha256={SEEN}",
    ):
        for person in (None, ANA):
            assert (await get(stage, path, person)).status_code in (200, 403)
    assert (await get(stage, f"/v1/approvals/{approval}/decision", ANA)).status_code == 405
    assert await world() == before
