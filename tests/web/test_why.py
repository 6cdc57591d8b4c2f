"""Why a run did what it did, as an auditor is told; and from any id in an auditor's hands to the run."""

from __future__ import annotations

from typing import Any

import httpx2
import pytest

from regie.core import canonical
from regie.core.audit import Actor, Event, Fact
from regie.core.effect import EffectState, marker
from regie.core.plan import Receipt
from regie.store import audit, claims, effects, workers
from regie.store.database import Database
from regie.store.effects import Intent
from regie.store.keys import RunKey

from .stage import ANA, AS_OPERATOR, CHANGE, OPERATOR, PASSWORD, RIK, SAM, Stage

pytestmark = pytest.mark.slow

REQUEST_ID, REMOTE_ID = "req-4711-ä", "10042"
EFFECT_KEY = canonical.digest("whatever")
GATEWAY = Actor(type="gateway", id="gateway")


async def why(stage: Stage, key: RunKey) -> dict[str, Any]:
    answer = await stage.http.get(f"/v1/runs/{key.run}/why", headers=AS_OPERATOR)
    assert answer.status_code == 200, answer.text
    told: dict[str, Any] = answer.json()
    return told


async def found(stage: Stage, known: str, person: str | None = None) -> list[dict[str, Any]]:
    headers = {} if person else AS_OPERATOR
    auth = httpx2.BasicAuth(person, PASSWORD) if person else None
    answer = await stage.http.get("/v1/audit/find", params={"id": known}, headers=headers, auth=auth)
    assert answer.status_code == 200, answer.text
    items: list[dict[str, Any]] = answer.json()["items"]
    return items


async def change(database: Database, key: RunKey, approval: str) -> None:
    """Make the change that the plan shows, as the gateway writes it down."""
    about: dict[str, Any] = {
        "capability": CHANGE.capability,
        "connection": "directory",
        "place": "close",
        "attempt_key": "a" * 64,
        "effect_key": EFFECT_KEY,
        "target_sha256": canonical.digest(["target", key.tenant, CHANGE.target]),
        "change_sha256": CHANGE.digest,
    }
    allowed: dict[str, Any] = {
        "approval": {"id": approval},
        "policy": {"set_sha256": "f" * 64, "determining": ["because"]},
    }
    async with workers.registered(database, name="w", domains=[key.domain]) as worker, database.transaction() as tx:
        [claimed] = (await claims.take(tx, worker.id, [key.domain], 1)).runs
        assert claimed.claim.key == key
        intent = Intent(
            key=key,
            place="close",
            attempt_key="a" * 64,
            effect_key=EFFECT_KEY,
            capability=CHANGE.capability,
            target=CHANGE.target,
            fence=claimed.claim.fence,
            change=CHANGE,
        )
        await effects.intend(tx, intent)
        receipt = Receipt(request_id=REQUEST_ID, remote_id=REMOTE_ID)
        await effects.settle(tx, key, "a" * 64, EffectState.RECEIVED, fence=claimed.claim.fence, receipt=receipt)
        facts = [
            Fact(event=Event.EFFECT_INTENDED, actor=GATEWAY, detail={**about, **allowed}),
            Fact(
                event=Event.EFFECT_RECEIVED,
                actor=GATEWAY,
                detail={**about, "request_id": REQUEST_ID, "remote_id": REMOTE_ID},
            ),
        ]
        await audit.append(tx, key, facts)
        await claims.park(tx, claimed.claim, claimed.inbox_n)


async def decided(stage: Stage, key: RunKey) -> str:
    """Have the plan of a run shown and approved; the approval's id."""
    approval = await stage.ask(key, ANA)
    auth = httpx2.BasicAuth(ANA, PASSWORD)
    shown = (await stage.http.get(f"/v1/approvals/{approval}", auth=auth)).json()
    body = {"decision": "approved", "plan_sha256": shown["plan_sha256"]}
    assert (await stage.http.post(f"/v1/approvals/{approval}/decision", json=body, auth=auth)).status_code == 200
    return approval


async def test_an_auditor_reads_who_what_and_why(stage: Stage) -> None:
    key = await stage.start(by=Actor(type="ticket_system", id="jira"), ticket="ITSM-7")
    approval = await decided(stage, key)
    await change(stage.database, key, approval)
    told = await why(stage, key)
    assert told["faults"] == []
    [started] = told["started"]
    assert (started["by"], started["words"]) == ("the connection jira", "told of ticket ITSM-7, which starts it")
    [agreed] = told["approvals"]
    assert (agreed["by"], agreed["decision"], agreed["policies"]) == (ANA, "approved", ["asked_people_decide"])
    assert agreed["plan"] == [CHANGE.in_words()]
    [changed] = told["changes"]
    assert changed["words"] == CHANGE.in_words()
    assert (changed["approved_by"], changed["policies"]) == (ANA, ["because"])
    assert (changed["request_id"], changed["remote_id"]) == (REQUEST_ID, REMOTE_ID)
    assert changed["outcome"] == "Made, and read back."


@pytest.mark.parametrize(
    ("by", "trigger", "words"),
    [
        (Actor(type="person", id=RIK), "form:1", f"{RIK} started it with its form"),
        (OPERATOR, "api:1", "the operator (operator) started it by the API or the command line"),
        (
            Actor(type="engine", id="schedule"),
            "schedule:identity.offboard_employee:2026-11-29T07:30:00Z",
            "Regie's schedule started it, as it was time (2026-11-29T07:30:00Z)",
        ),
        (Actor(type="engine", id="poll"), "poll:x", "Regie's poll started it, since a poll found a new item"),
    ],
)
async def test_whatever_starts_a_run_is_named(stage: Stage, by: Actor, trigger: str, words: str) -> None:
    [started] = (await why(stage, await stage.start(by=by, trigger=trigger)))["started"]
    assert f"{started['by']} {started['words']}" == words


async def test_what_is_kept_beside_the_log_must_be_what_the_log_says(stage: Stage) -> None:
    key = await stage.start(by=OPERATOR)
    await change(stage.database, key, await decided(stage, key))
    async with stage.database.transaction() as tx:
        await tx.change("update regie.effect set target = 'user:666'", {})
    told = await why(stage, key)
    assert told["faults"] == ["the ledger names another target for step close than the log"]
    assert told["changes"][0]["words"] == ""


async def test_every_id_leads_to_the_run_and_to_nobody_elses(stage: Stage) -> None:
    key = await stage.start(ticket="ITSM-8", trigger="one")
    async with stage.database.reading() as tx:
        entry = (await audit.read(tx, key))[0].entry_id
    approval = await decided(stage, key)
    await change(stage.database, key, approval)
    await stage.start(trigger="two")
    for known, how in (
        (key.run, "the id of the run"),
        (approval, "the id of an approval"),
        (entry, "the id of an entry of the audit log"),
        ("ITSM-8", "the ticket"),
        (REQUEST_ID, "the outside system's id of the request"),
        (REMOTE_ID, "the outside system's id of what was made"),
        (marker(EFFECT_KEY), "our marker in the outside system"),
    ):
        [item] = await found(stage, known)
        assert (item["run"], item["how"]) == (key.run, [how]), known
        assert await found(stage, known, SAM) == []
        assert [each["run"] for each in await found(stage, known, RIK)] == [key.run]
    nobody = "00000000-0000-0000-0000-000000000000"
    for unknown in ("ITSM-9", "regie-", "'; drop table regie.run; --", "%", "x" * 300, nobody):
        assert await found(stage, unknown) == []
