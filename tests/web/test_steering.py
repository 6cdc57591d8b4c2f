"""Pausing, resuming, waking and repeating runs over the API; and tickets that people close."""

from __future__ import annotations

import asyncio
import uuid
from typing import Any

import httpx2
import pytest

from regie.core.audit import Actor, Event
from regie.core.effect import EffectState
from regie.core.run_events import EVENT, Cancelled
from regie.core.status import RunStatus
from regie.store import claims, dropped, effects, inbox, runs, workers
from regie.store.commits import StepCommit
from regie.store.effects import Intent
from regie.store.keys import RunKey
from tests.leaves import read_outside

from .stage import ANA, AS_OPERATOR, OFFBOARD, OLGA, PASSWORD, RIK, SAM, Stage, ticket_created

pytestmark = pytest.mark.slow

BY_RIK = Actor(type="person", id=RIK)


async def post(stage: Stage, address: str, person: str | None = None, key: str = "", **body: Any) -> httpx2.Response:
    more: dict[str, Any] = {"auth": httpx2.BasicAuth(person, PASSWORD)} if person else {}
    headers = {} if person else AS_OPERATOR
    if key:
        headers = {**headers, "Idempotency-Key": key}
    return await stage.http.post(f"/v1/runs/{address}", json=body, headers=headers, **more)


async def shown(stage: Stage, run: str, part: str = "") -> dict[str, Any]:
    answer = await stage.http.get(f"/v1/runs/{run}{part}", headers=AS_OPERATOR)
    assert answer.status_code == 200
    found: dict[str, Any] = answer.json()
    return found


async def leaves(stage: Stage, run: str, event: str) -> list[dict[str, Any]]:
    return [leaf for leaf in (await shown(stage, run, "/audit"))["leaves"] if leaf["event"] == event]


async def test_who_asked_for_a_run_pauses_and_resumes_it(stage: Stage) -> None:
    key = await stage.start(by=BY_RIK)
    for _ in range(2):
        answer = await post(stage, f"{key.run}/pause", RIK, reason="Wait for HR.")
        assert answer.status_code == 202
        assert answer.json() == {"id": key.run, "status": "running", "is_paused": True, "by": RIK}
    [leaf] = await leaves(stage, key.run, "run:paused")
    assert leaf["fields"]["actor"] == {"type": "person", "id": RIK}
    assert "HR" not in str(leaf)
    assert (await post(stage, f"{key.run}/resume", RIK)).json()["is_paused"] is False
    again = await post(stage, f"{key.run}/resume", RIK)
    assert (again.status_code, again.json()["detail"]) == (409, "This run is not paused.")
    assert len(await leaves(stage, key.run, "run:resumed")) == 1


async def test_what_an_operator_has_paused_only_operators_resume(stage: Stage) -> None:
    key = await stage.start(by=BY_RIK)
    assert (await post(stage, f"{key.run}/pause", OLGA)).status_code == 202
    assert (await post(stage, f"{key.run}/resume", RIK)).status_code == 403
    assert (await post(stage, f"{key.run}/resume")).status_code == 202


@pytest.mark.parametrize("act", ["pause", "resume"])
async def test_others_hold_nothing_up(stage: Stage, act: str) -> None:
    key = await stage.start(by=BY_RIK)
    await stage.ask(key, ANA)
    assert (await post(stage, f"{key.run}/{act}", ANA)).status_code == 403
    assert (await post(stage, f"{key.run}/{act}", SAM)).status_code == 404
    assert (await post(stage, f"{uuid.uuid4()}/{act}")).status_code == 404
    assert (await post(stage, f"{key.run}/{act}", RIK, reason="x" * 2001)).status_code == 422
    assert (await stage.http.post(f"/v1/runs/{key.run}/{act}", json={})).status_code == 401
    async with stage.database.reading() as tx:
        assert await inbox.unconsumed(tx, key) == []


async def test_what_is_over_or_being_cancelled_is_not_paused(stage: Stage) -> None:
    over = await stage.start(trigger="a")
    await stage.finish(over)
    assert (await post(stage, f"{over.run}/pause")).status_code == 409
    cancelled = await stage.start(trigger="b")
    await post(stage, f"{cancelled.run}/cancel")
    assert (await post(stage, f"{cancelled.run}/pause")).json()["detail"] == "This run is being cancelled."


async def test_a_paused_run_is_cancelled(stage: Stage) -> None:
    key = await stage.start()
    await post(stage, f"{key.run}/pause")
    assert (await post(stage, f"{key.run}/cancel")).status_code == 202


async def test_pauses_at_once_are_one_pause(stage: Stage) -> None:
    key = await stage.start()
    answers = await asyncio.gather(*(post(stage, f"{key.run}/pause") for _ in range(5)))
    assert {answer.status_code for answer in answers} == {202}
    assert len(await leaves(stage, key.run, "run:paused")) == 1


async def test_a_run_that_nothing_would_wake_is_woken(stage: Stage) -> None:
    key = await stage.start(by=BY_RIK)
    assert (await post(stage, f"{key.run}/wake")).status_code == 409
    async with workers.registered(stage.database, name="w", domains=["identity"]) as worker:
        step = StepCommit(state_json=(await stage.state(key)).model_dump_json(), status=RunStatus.WAITING, park_seen=0)
        await stage.move(key, worker, step)
    assert (await post(stage, f"{key.run}/wake", RIK)).status_code == 403
    answer = await post(stage, f"{key.run}/wake")
    assert (answer.status_code, answer.json()["is_ready"]) == (202, True)
    [leaf] = await leaves(stage, key.run, "run:woken")
    assert leaf["fields"]["actor"]["type"] == "operator"


async def finished(stage: Stage) -> RunKey:
    """A run that came to its second step and failed there."""
    return await fail(stage, await stage.start(by=BY_RIK, ticket="ITSM-5"))


async def fail(stage: Stage, key: RunKey) -> RunKey:
    """Bring a run to its second step, and have it fail there."""
    state = await stage.state(key)
    ready = state.model_copy(update={"ready": True, "requester": RIK, "input": {"employee": "jan@example.com"}})
    async with workers.registered(stage.database, name="w", domains=["identity"]) as worker:
        await stage.move(key, worker, StepCommit(state_json=ready.model_dump_json(), status=RunStatus.RUNNING))
        async with stage.database.transaction() as tx:
            await tx.change("update regie.run set owner = null, ready_at = clock_timestamp()", {})
    await stage.finish(key)
    return key


async def test_a_run_is_repeated_by_an_operator_once_for_each_key(stage: Stage) -> None:
    key = await finished(stage)
    assert (await post(stage, f"{key.run}/rerun", RIK, **{"from": "approval"})).status_code == 403
    answers = [await post(stage, f"{key.run}/rerun", key="k", **{"from": "approval"}) for _ in range(2)]
    assert [answer.status_code for answer in answers] == [201, 200]
    new = answers[0].json()
    assert answers[0].headers["Location"] == f"/v1/runs/{new['id']}"
    assert [answer.json()["id"] for answer in answers] == [new["id"]] * 2
    assert (new["rerun_of"], new["ticket"], new["requester"]) == (key.run, "ITSM-5", RIK)
    assert (await shown(stage, key.run))["reruns"] == [new["id"]]
    other = await post(stage, f"{key.run}/rerun", key="k", **{"from": "close"})
    assert other.status_code == 422
    async with stage.database.reading() as tx:
        outside = await read_outside(tx, key.tenant, key.domain)
    [said] = [each.fields for each in outside if each.event is Event.RUN_REPEATED]
    assert (said["closed_run"], said["rerun"]) == (key.run, {"run": new["id"], "from_step": "approval"})
    [leaf] = await leaves(stage, new["id"], "run:started")
    assert leaf["fields"]["rerun"]["run"] == key.run
    third = (await post(stage, f"{key.run}/rerun", **{"from": "approval", "release": "current"})).json()
    assert third["id"] != new["id"]


async def test_a_run_that_cannot_be_repeated_says_from_where_it_can(stage: Stage) -> None:
    running = await stage.start()
    answer = await post(stage, f"{running.run}/rerun", **{"from": "close"})
    assert (answer.status_code, "is not over" in answer.json()["detail"]) == (422, True)
    assert (await post(stage, f"{running.run}/rerun")).status_code == 422
    assert (await post(stage, f"{running.run}/rerun", **{"from": "close", "release": "old"})).status_code == 422
    assert await stage.count_runs() == 1


# --- tickets that people close ----------------------------------------------------------------------------------------


def closed(ticket: str = "ITSM-1", **more: str) -> dict[str, str]:
    return {
        "kind": "ticket_closed",
        "event": "jira:issue_updated",
        "ticket": ticket,
        "project": "ITSM",
        "status": "Declined",
        "by": "Pia  Person",
        "by_id": "712020:ab",
        **more,
    }


async def deliver(stage: Stage, event: dict[str, str], where: str = "acme/jira") -> dict[str, Any]:
    answer = await stage.http.post(f"/v1/inbound/{where}", json=event, headers={"X-Hub-Signature": "good"})
    assert answer.status_code == 202
    said: dict[str, Any] = answer.json()
    return said


async def test_a_closed_ticket_cancels_what_runs_for_it_once(stage: Stage) -> None:
    key = await stage.start(ticket="ITSM-1", trigger="a")
    other = await stage.start(ticket="ITSM-2", trigger="b")
    foreign = await stage.start("umbrella", ticket="ITSM-1", trigger="a")
    for _ in range(5):
        assert await deliver(stage, closed()) == {"accepted": True, "cancelled": [key.run]}
    async with stage.database.reading() as tx:
        [event] = await inbox.unconsumed(tx, key)
        assert [await inbox.unconsumed(tx, each) for each in (other, foreign)] == [[], []]
    said = EVENT.validate_json(event.payload_json)
    assert said == Cancelled(by="Pia Person (as jira tells)", reason="The ticket was closed: Declined.")
    [leaf] = await leaves(stage, key.run, "run:cancelled")
    assert leaf["fields"]["actor"] == {"type": "ticket_system", "id": "jira"}
    assert leaf["fields"]["told"]["person"] == "712020:ab"
    assert "Pia" not in str(leaf)


async def alter_state(stage: Stage, key: RunKey) -> None:
    async with stage.database.transaction() as tx:
        await tx.change("update regie.run set state = 'altered'::bytea where id = %(run)s", key._asdict())


async def test_a_closed_ticket_cancels_a_run_that_nobody_can_read_too(stage: Stage) -> None:
    key = await stage.start(ticket="ITSM-1")
    await alter_state(stage, key)
    assert await deliver(stage, closed()) == {"accepted": True, "cancelled": [key.run]}
    async with stage.database.reading() as tx:
        assert len(await inbox.unconsumed(tx, key)) == 1


async def test_a_run_that_nobody_can_read_says_so_and_is_steered_all_the_same(stage: Stage) -> None:
    key = await stage.start()
    await alter_state(stage, key)
    answer = await stage.http.get(f"/v1/runs/{key.run}", headers=AS_OPERATOR)
    assert (answer.status_code, "cannot be read" in answer.json()["detail"]) == (503, True)
    assert "regie doctor" in answer.json()["hint"]
    for act in ("pause", "resume", "cancel"):
        assert (await post(stage, f"{key.run}/{act}", reason="Why not.")).status_code == 202, act
    assert len(await leaves(stage, key.run, "run:cancelled")) == 1


async def test_a_run_that_stands_still_says_why(stage: Stage) -> None:
    key = await stage.start()
    async with workers.registered(stage.database, name="w", domains=["identity"]) as worker:
        async with stage.database.transaction() as tx:
            [claimed] = (await claims.take(tx, worker.id, ["identity"], 1)).runs
        async with stage.database.transaction() as tx:
            await dropped.drop(tx, claimed.claim)
        assert "to be tried again at" in (await shown(stage, key.run))["queued"]
        async with stage.database.transaction() as tx:
            await claims.set_aside(tx, claimed.claim, dropped.FAULT)
        assert (await shown(stage, key.run))["queued"].startswith("set aside (Fault) until somebody has mended it")


async def made(stage: Stage, where: str) -> dict[str, str]:
    """The ids of the runs that a new ticket starts through a connection, by their workflow."""
    return {run["workflow"]: run["id"] for run in (await deliver(stage, ticket_created(), where))["runs"]}


async def test_a_ticket_of_another_system_with_the_same_key_cancels_nothing(stage: Stage) -> None:
    mine = await made(stage, "acme/jira")
    failed = await fail(stage, RunKey("acme", "identity", mine[OFFBOARD]))
    again = (await post(stage, f"{failed.run}/rerun", **{"from": "approval"})).json()["id"]
    assert (await deliver(stage, closed(), "acme/narrow"))["accepted"] is False
    theirs = await made(stage, "acme/narrow")
    by_hand = await stage.start(ticket="ITSM-1", trigger="by-hand")
    assert set((await deliver(stage, closed(), "acme/narrow"))["cancelled"]) == {*theirs.values(), by_hand.run}
    assert set((await deliver(stage, closed()))["cancelled"]) == {mine["hr.leave"], again, by_hand.run}


async def test_what_we_have_closed_in_another_system_does_not_count(stage: Stage) -> None:
    mine = await made(stage, "acme/jira")
    stage.gateway.domains = ("identity",)
    theirs = await made(stage, "acme/narrow")
    await close_ourselves(stage, RunKey("acme", "hr", mine["hr.leave"]))
    assert (await deliver(stage, closed(), "acme/narrow"))["cancelled"] == [theirs[OFFBOARD]]
    stage.gateway.domains = ("identity", "hr")
    assert (await deliver(stage, closed()))["accepted"] is False


async def test_a_deleted_ticket_cancels_too(stage: Stage) -> None:
    await stage.start(ticket="ITSM-1")
    assert (await deliver(stage, closed(status="", event="jira:issue_deleted", by="")))["accepted"] is True


async def close_ourselves(stage: Stage, key: RunKey) -> None:
    """Have a run close ITSM-1."""
    async with stage.database.transaction() as tx:
        intent = Intent(
            key=key,
            place="close",
            attempt_key="a" * 64,
            effect_key="e" * 64,
            capability="ticket.close",
            target="ticket:ITSM-1",
            fence=1,
        )
        await effects.intend(tx, intent)
        await effects.settle(tx, key, "a" * 64, EffectState.RECEIVED, fence=1)


async def test_a_ticket_that_we_have_closed_ourselves_cancels_nothing(stage: Stage) -> None:
    key = await stage.start(ticket="ITSM-1", trigger="a")
    await close_ourselves(stage, key)
    assert (await deliver(stage, closed()))["accepted"] is False
    later = await stage.start(ticket="ITSM-1", trigger="b")
    assert (await deliver(stage, closed()))["cancelled"] == [later.run], "that was before this one began"


async def test_a_ticket_that_is_closed_says_yes_to_nothing(stage: Stage) -> None:
    key = await stage.start(ticket="ITSM-1")
    approval = await stage.ask(key, ANA)
    await deliver(stage, closed(by=ANA, by_id=ANA))
    async with stage.database.reading() as tx:
        events = [EVENT.validate_json(each.payload_json) for each in await inbox.unconsumed(tx, key)]
    assert [event.kind for event in events] == ["cancelled"]
    answer = await stage.http.get(f"/v1/approvals/{approval}", headers=AS_OPERATOR)
    assert answer.json()["status"] == "open"


async def test_a_closed_ticket_of_no_run_or_of_one_that_is_over_is_ignored(stage: Stage) -> None:
    key = await stage.start(ticket="ITSM-1")
    await stage.finish(key)
    for ticket in ("ITSM-1", "ITSM-9"):
        assert (await deliver(stage, closed(ticket)))["accepted"] is False
    async with stage.database.reading() as tx:
        row = await runs.get(tx, key)
    assert row is not None
    assert row.status is RunStatus.FAILED


async def test_a_forged_delivery_cancels_nothing(stage: Stage) -> None:
    key = await stage.start(ticket="ITSM-1")
    answer = await stage.http.post("/v1/inbound/acme/jira", json=closed(), headers={"X-Hub-Signature": "forged"})
    assert answer.status_code == 403
    async with stage.database.reading() as tx:
        assert await inbox.unconsumed(tx, key) == []
