"""A person is erased: nobody can tell any more who was meant, and everything that was proven before still is."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

from regie.core.audit import Actor, Event, Fact
from regie.core.subject import ERASED
from regie.store import audit, erasing
from regie.store.audit import Leaf
from regie.store.keys import RunKey
from regie_verify.checking import check

from .conftest import EVENTS, OFFICER, RUNS, Ground

pytestmark = pytest.mark.slow

OPERATOR = Actor(type="operator", id="operator")
REQUESTER = "elif.demir@example.com"


async def granted(ground: Ground) -> Leaf:
    async with ground.database.reading() as tx:
        leaves = await audit.read(tx, RunKey("acme", "identity", str(UUID(int=1))))
    [found] = [leaf for leaf in leaves if leaf.event is Event.APPROVAL_GRANTED]
    return found


def said(leaf: Leaf) -> Mapping[str, Any]:
    return leaf.fields


def people(bundle: Path) -> list[dict[str, str]]:
    return [json.loads(line) for line in (bundle / "people.jsonl").read_text().splitlines()]


async def test_every_proof_holds_after_somebody_is_erased(ground: Ground, tmp_path: Path) -> None:
    built = ground.built
    before = await granted(ground)
    assert said(before)["approval"]["approver"] == OFFICER.id
    await ground.export(tmp_path / "before", with_people=True)
    records = (tmp_path / "before" / "leaves.jsonl").read_bytes()
    assert b"@" not in records, "no address stands in a leaf"
    assert {each["value"] for each in people(tmp_path / "before")} == {OFFICER.id, REQUESTER}
    report = check(tmp_path / "before", built.policy, [built.kept, built.checkpoint])
    assert report.faults == []
    assert report.checks["people"] == "2 named as committed to, 0 erased"
    assert report.checks["four eyes"].startswith(f"{RUNS} decisions")

    async with ground.database.transaction() as tx:
        [erased] = await erasing.erase(tx, OFFICER.id.upper(), OPERATOR)
    async with ground.database.transaction() as tx:
        assert await erasing.erase(tx, OFFICER.id, OPERATOR) == [], "a second time there is nothing left"
    await ground.sign()

    after = await granted(ground)
    assert (after.raw, after.hash) == (before.raw, before.hash)
    assert after.fields["actor"] == {"type": "person", "id": ERASED}
    assert said(after)["approval"]["requester"] == REQUESTER
    await ground.export(tmp_path / "after", with_people=True)
    assert (tmp_path / "after" / "leaves.jsonl").read_bytes().startswith(records)
    assert sorted(each.get("value", "") for each in people(tmp_path / "after")) == ["", REQUESTER]
    report = check(tmp_path / "after", built.policy, [built.kept, built.checkpoint])
    assert report.faults == []
    assert report.checks["people"] == "1 named as committed to, 1 erased"
    last = json.loads((tmp_path / "after" / "leaves.jsonl").read_bytes().splitlines()[-1])
    assert (last["event"], last["actor"], last["subject"]) == ("subject:erased", OPERATOR.model_dump(), erased.subject)
    assert report.size == RUNS * EVENTS + 1
    async with ground.database.reading() as tx:
        kept = await tx.rows("select * from audit.subject where erased_at is not null")
    assert [(row["mark"], row["wrapped"], row["sealed"]) for row in kept] == [(None, None, None)]


async def test_a_name_that_is_not_whom_the_records_mean_is_found(ground: Ground, tmp_path: Path) -> None:
    await ground.export(tmp_path / "bundle", with_people=True)
    file = tmp_path / "bundle" / "people.jsonl"
    file.write_text(file.read_text().replace(OFFICER.id, "somebody.else@example.com"))
    report = check(tmp_path / "bundle", ground.built.policy)
    assert {fault.check for fault in report.faults} == {"files", "people"}


async def test_who_acts_again_is_somebody_new(ground: Ground) -> None:
    async with ground.database.transaction() as tx:
        [before] = await erasing.erase(tx, REQUESTER, OPERATOR)
    async with ground.database.transaction() as tx:
        told = Fact(event=Event.REQUEST_DENIED, actor=Actor(type="person", id=REQUESTER), detail={})
        await audit.append_outside(tx, "acme", "identity", [told])
    async with ground.database.transaction() as tx:
        [again] = await erasing.erase(tx, REQUESTER, OPERATOR)
    assert before.subject != again.subject
