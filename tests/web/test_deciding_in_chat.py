"""A press of a button counts as the person's own decision, and never as more than they could say on the pages."""

from __future__ import annotations

import asyncio
from typing import Any

import httpx2
import pytest

from regie.core.audit import Event
from regie.core.plan import plan_digest
from regie.store import accounts, approvals, audit
from regie.store.keys import RunKey
from tests.leaves import read_outside

from .stage import ANA, BEN, OPERATOR, PLAN, RIK, Stage

pytestmark = pytest.mark.slow

SEEN = plan_digest(list(PLAN))
CHAT = "acme/jira"


async def press(stage: Stage, approval: str, where: str = CHAT, **change: str) -> httpx2.Response:
    event: dict[str, Any] = {
        "kind": "decided",
        "event": "block_actions",
        "approval": approval,
        "decision": "approved",
        "plan_sha256": SEEN,
        "by": ANA,
        "by_id": "U1",
        **change,
    }
    return await stage.http.post(f"/v1/inbound/{where}", json=event, headers={"X-Hub-Signature": "good"})


@pytest.fixture
async def asked(stage: Stage) -> tuple[RunKey, str]:
    key = await stage.start()
    return key, await stage.ask(key, ANA, RIK, "nobody.here@example.com")


async def status_of(stage: Stage, approval: str) -> tuple[str, str | None]:
    async with stage.database.reading() as tx:
        found = await approvals.find(tx, approval)
    assert found is not None
    return found.status, found.decided_by


async def leaves(stage: Stage, key: RunKey) -> list[audit.Leaf]:
    async with stage.database.reading() as tx:
        return await audit.read(tx, key)


async def refused(stage: Stage, domain: str = "identity") -> list[str]:
    async with stage.database.reading() as tx:
        found = await read_outside(tx, "acme", domain)
    return [str(leaf.fields["reason"]) for leaf in found if leaf.event is Event.TRIGGER_REFUSED]


@pytest.mark.parametrize("decision", ["approved", "refused"])
async def test_a_press_is_the_decision_of_the_person(stage: Stage, asked: tuple[RunKey, str], decision: str) -> None:
    key, approval = asked
    answer = await press(stage, approval, decision=decision)
    assert (answer.status_code, answer.text) == (200, "")
    assert await status_of(stage, approval) == (decision, ANA)
    leaf = (await leaves(stage, key))[-1]
    assert leaf.event is (Event.APPROVAL_GRANTED if decision == "approved" else Event.APPROVAL_REFUSED)
    assert leaf.fields["actor"] == {"type": "person", "id": ANA}
    assert leaf.fields["told"] == {"connection": "jira", "delivery": "d-1", "person": "U1"}
    assert await refused(stage) == []


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"by": BEN}, "may_not_decide"),
        ({"by": RIK}, "may_not_decide"),
        ({"by": "nobody.here@example.com"}, "no_account"),
        ({"plan_sha256": "00" * 32}, "another_plan"),
    ],
    ids=["not asked", "asked for the run", "without an account", "of another plan"],
)
async def test_what_would_not_count_on_the_pages_does_not_count_here(
    stage: Stage, asked: tuple[RunKey, str], change: dict[str, str], reason: str
) -> None:
    _, approval = asked
    answer = await press(stage, approval, **change)
    assert (answer.status_code, answer.text) == (200, "")
    assert await status_of(stage, approval) == ("open", None)
    assert await refused(stage) == [reason]


async def test_who_is_deactivated_decides_nothing(stage: Stage, asked: tuple[RunKey, str]) -> None:
    _, approval = asked
    async with stage.database.transaction() as tx:
        await accounts.set_active(tx, ANA, is_active=False, by=OPERATOR)
    assert (await press(stage, approval)).status_code == 200
    assert await status_of(stage, approval) == ("open", None)
    assert await refused(stage) == ["no_account"]


async def test_a_press_through_another_customer_decides_nothing(stage: Stage, asked: tuple[RunKey, str]) -> None:
    _, approval = asked
    assert (await press(stage, approval, "umbrella/jira")).status_code == 200
    assert await status_of(stage, approval) == ("open", None)
    assert (await press(stage, "0b0e7a5e-5d0e-5c43-9a37-5f2f9d1f0001")).status_code == 200


async def test_a_connection_of_another_domain_decides_nothing(stage: Stage, asked: tuple[RunKey, str]) -> None:
    _, approval = asked
    stage.gateway.domains = ("hr",)
    assert (await press(stage, approval)).status_code == 200
    assert await status_of(stage, approval) == ("open", None)
    assert await refused(stage, "hr") == ["no_such_approval"]


async def test_the_same_press_again_changes_nothing(stage: Stage, asked: tuple[RunKey, str]) -> None:
    key, approval = asked
    answers = await asyncio.gather(*(press(stage, approval) for _ in range(6)))
    assert {answer.status_code for answer in answers} == {200}
    assert await status_of(stage, approval) == ("approved", ANA)
    await press(stage, approval, decision="refused")
    assert await status_of(stage, approval) == ("approved", ANA)
    assert sum(leaf.event is Event.APPROVAL_GRANTED for leaf in await leaves(stage, key)) == 1
    assert await refused(stage) == ["decided_before"] * 6


async def test_whoever_only_wants_an_answer_gets_it(stage: Stage) -> None:
    event = {"kind": "acknowledged", "event": "url_verification", "challenge": "3eZbrw1aB"}
    answer = await stage.http.post(f"/v1/inbound/{CHAT}", json=event, headers={"X-Hub-Signature": "good"})
    assert (answer.status_code, answer.text) == (200, "3eZbrw1aB")
    assert answer.headers["content-type"].startswith("text/plain")
