"""What each class of data decides, as its owner expects it; and what a run keeps once its values are taken away."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import pytest
from pydantic import ValidationError

from regie.core.classification import HANDLING, Classification, handling
from regie.core.emptying import emptied
from regie.core.errors import Failure
from regie.core.run import RunFacts, RunState, StepState
from regie.core.status import RunStatus, StepStatus
from regie.core.tenant import Domain

GOLDEN = """
public        365  who_sees_the_run  unrecorded  plain
internal      365  who_sees_the_run  unrecorded  plain
confidential  180  needs_the_right   unrecorded  plain
personal       90  needs_the_right   recorded    masked
financial     365  needs_the_right   recorded    masked
"""


def test_each_class_decides_what_its_table_says() -> None:
    for line in GOLDEN.strip().splitlines():
        name, days, shown_to, recorded, shown = line.split()
        found = handling(Classification(name))
        assert found.kept_s == int(days) * 86_400, name
        assert found.needs_right == (shown_to == "needs_the_right"), name
        assert found.is_looking_recorded == (recorded == "recorded"), name
        assert found.is_masked == (shown == "masked"), name
    assert len(GOLDEN.strip().splitlines()) == len(HANDLING) == len(Classification)


def test_the_page_for_owners_says_the_same() -> None:
    page = (Path(__file__).parents[2] / "docs" / "explanation" / "data.md").read_text(encoding="utf-8")
    rows = [line.split(" | ") for line in page.splitlines() if " days | " in line]
    said = {row[0].strip("| `"): row for row in rows}
    assert said.keys() == {each.value for each in Classification}
    for each, row in HANDLING.items():
        _, days, shown_to, looking, addresses = said[each]
        assert days == f"{row.kept_s // 86_400} days"
        assert ("view_inputs" in shown_to) == row.needs_right
        assert ("inputs:viewed" in looking) == row.is_looking_recorded
        assert ("masked" in addresses) == row.is_masked


def test_a_class_never_decides_less_than_one_below_it() -> None:
    rows = [HANDLING[each] for each in Classification]
    for lower, higher in pairwise(rows):
        for name in ("needs_right", "is_looking_recorded", "is_masked"):
            assert getattr(higher, name) >= getattr(lower, name)
    assert all(row.needs_right for row in rows if row.is_looking_recorded), "nobody looks unseen and unasked"


def test_a_domain_says_itself_how_long_its_values_are_kept() -> None:
    def domain(**more: str) -> Domain:
        return Domain.model_validate({"domain": "hr", "title": "HR", "owner": "team:hr", **more})

    assert domain(classification="personal").values_kept_s == 90 * 86_400
    assert domain(classification="personal", keep_values="2w").values_kept_s == 14 * 86_400
    for wrong in ({"classification": "secret"}, {"classification": "personal", "keep_values": "a while"}):
        with pytest.raises(ValidationError):
            domain(**wrong)


def test_an_emptied_state_tells_where_steps_stood_and_nothing_that_they_held() -> None:
    step = StepState(
        status=StepStatus.FAILED,
        attempt=2,
        arguments={"user": "canary"},
        output={"mail": "canary"},
        items=["canary"],
        undo={"user": "canary"},
        handle="canary",
        failure=Failure(kind="Terminal", message="The vendor refused."),
    )
    facts = RunFacts(
        id="1", tenant="acme", domain="hr", workflow="hr.x", started_by="a@example.com", given={"who": "canary"}
    )
    state = RunState(facts=facts, status=RunStatus.FAILED, input={"who": "canary"}, steps={"close": step})
    left = emptied(state)
    assert "canary" not in left.model_dump_json()
    assert left.steps["close"].status is StepStatus.FAILED
    assert left.steps["close"].failure == step.failure
    assert left.steps.keys() == state.steps.keys()
    assert emptied(left) == left
    assert set(RunState.model_fields) - {"facts", "input", "steps", "held"} == {
        name for name in RunState.model_fields if getattr(left, name) == getattr(state, name)
    } - {"facts", "input", "steps", "held"}
