"""A run that may make no more changes asks for more: what waits, whom it asks, what a yes and a no come to."""

from __future__ import annotations

import pytest

from regie.core.errors import DefinitionError
from regie.core.limit import asking_place
from regie.core.places import ANSWER
from regie.core.reading import read_definition
from regie.core.run_commands import MakePlan, OpenApproval, Perform

from .trial import EVA, JAN, OLE, Trial, failure

LIMIT = "limit: { changes: 1, ask: [ { who: role:lead, within: 8h, remind: 2h } ] }"
TWO = """
- parallel:
    - { id: one, uses: thing.write, with: { value: 1 } }
    - { id: two, uses: thing.write, with: { value: 2 } }
"""
REACHED = failure("LimitReached")
PLACE = asking_place(1)


def asking(steps: str = TWO, head: str = LIMIT) -> Trial:
    trial = Trial(steps, head=head)
    trial.ok("one")
    trial.fails("two", REACHED)
    trial.plans(PLACE)
    trial.finds(PLACE, EVA, JAN)
    return trial


def test_whoever_is_asked_sees_what_is_planned_and_who_asked_for_the_run_is_not_asked() -> None:
    trial = Trial(TWO, head=LIMIT, started_by=JAN)
    trial.ok("one")
    trial.fails("two", REACHED)
    plan = trial.out[PLACE]
    assert isinstance(plan, MakePlan)
    assert [(step.place, step.arguments) for step in plan.steps] == [("two", {"value": 2})]
    trial.plans(PLACE)
    trial.finds(PLACE, EVA, JAN)
    [opened] = trial.said(OpenApproval)
    assert isinstance(opened, OpenApproval)
    assert opened.approvers == (EVA,)
    assert opened.expires_after_s == 8 * 3600
    assert "all 1 changes that it may make. So far 1 more step is known" in opened.question
    assert set(trial.timers) == {f"rung:{PLACE}:0", f"remind:{PLACE}:0"}
    assert (trial.status, trial.outcome("two")) == ("waiting", "waiting")


def test_after_a_yes_the_same_is_tried_again() -> None:
    trial = asking()
    trial.decides(PLACE, EVA)
    again = trial.out["two"]
    assert isinstance(again, Perform)
    assert (again.attempt, again.arguments) == (2, {"value": 2})
    trial.ok("two")
    assert (trial.status, trial.step("two").failure) == ("done", None)


def test_work_that_was_out_at_the_yes_tries_again_and_does_not_ask_again() -> None:
    three = TWO + "    - { id: three, uses: thing.write }\n"
    trial = asking(three)
    trial.decides(PLACE, EVA)
    trial.fails("three", REACHED)
    assert (set(trial.out), trial.step("three").attempt) == ({"two", "three"}, 2)
    trial.ok("two")
    trial.fails("three", REACHED)
    assert set(trial.out) == {asking_place(2)}


def test_work_that_was_out_at_the_yes_is_not_tried_again_while_the_run_is_paused() -> None:
    trial = asking(TWO + "    - { id: three, uses: thing.write }\n")
    trial.decides(PLACE, EVA)
    trial.pauses()
    trial.fails("three", REACHED)
    assert "three" not in trial.out
    trial.fires("again:three:1")
    assert "three" not in trial.out
    trial.resumes()
    assert trial.out["three"].attempt == 2


def test_what_meets_the_limit_while_people_are_asked_waits_with_the_others() -> None:
    trial = asking(TWO + "    - { id: three, uses: thing.write }\n")
    trial.fails("three", REACHED)
    assert (trial.status, set(trial.out)) == ("waiting", set())
    trial.decides(PLACE, EVA, says_yes=False, comment="Too many.")
    assert trial.status == "failed"
    assert trial.state.failure is not None
    assert trial.state.failure.message.endswith(f"{EVA} was asked for more and refused. Too many.")
    assert (trial.outcome("two"), trial.outcome("three")) == ("failed", "failed")


def test_without_a_ladder_the_role_of_the_domains_owner_is_asked() -> None:
    trial = Trial(TWO, head="limit: 1")
    facts = trial.state.facts.model_copy(update={"owner": "team:implementation"})
    trial.state = trial.state.model_copy(update={"facts": facts})
    trial.ok("one")
    trial.fails("two", REACHED)
    trial.plans(PLACE)
    assert getattr(trial.out[PLACE], "who", "") == "role:implementation"
    trial.finds(PLACE)
    assert trial.state.failure is not None
    assert trial.state.failure.message.endswith("There is nobody who could be asked for more.")


def test_where_nobody_is_known_to_ask_or_the_requester_is_not_the_run_fails_at_once() -> None:
    trial = Trial(TWO, head="limit: 1")
    trial.ok("one")
    trial.fails("two", REACHED)
    assert (trial.status, trial.state.failure) == ("failed", REACHED)
    trial = Trial(TWO, head=LIMIT, ticket="ITSM-1")
    trial.ok("start", {"title": "Hello", "reporter": {"email": None}})
    trial.ok("one")
    trial.fails("two", REACHED)
    assert set(trial.out) == {ANSWER}


def test_planning_that_fails_for_good_ends_the_run() -> None:
    trial = Trial(TWO, head=LIMIT)
    trial.ok("one")
    trial.fails("two", REACHED)
    trial.fails(PLACE)
    assert trial.state.failure is not None
    assert "Nobody could be asked for more" in trial.state.failure.message


def test_a_paused_run_begins_to_ask_when_it_is_resumed() -> None:
    trial = Trial(TWO, head=LIMIT)
    trial.pauses()
    trial.ok("one")
    trial.fails("two", REACHED)
    assert (trial.status, set(trial.out)) == ("paused", set())
    trial.resumes(OLE)
    assert set(trial.out) == {PLACE}
    assert {work.place for work in trial.outstanding()} == {PLACE}


def test_a_run_that_asks_is_not_in_doubt_when_it_is_cancelled() -> None:
    trial = asking()
    trial.cancels()
    assert (trial.status, trial.outcome("two")) == ("cancelled", "cancelled")


@pytest.mark.parametrize(
    ("limit", "column", "message"),
    [
        ("limit: 0", 8, "`limit` is a whole number from 1"),
        ("limit: { ask: [] }", 8, "`limit` has no 'changes'"),
        ("limit: { changes: 5, ask: [] }", 27, "`ask` is a list of at least one rung"),
        ("limit: { changes: 5, ask: [ { who: everyone, within: 8h } ] }", 36, "'everyone' does not say whom to ask"),
        ("limit: { changes: 5, ask: [ { who: role:lead } ] }", 29, "a rung has no 'within'"),
        ("limit: { changes: 5, ask: [ { who: role:lead, within: soon } ] }", 55, "is not a length of time"),
        ("limit: { changes: 5, ask: [ { who: role:lead, within: 1h, remind: 2h } ] }", 67, "nobody would be reminded"),
    ],
)
def test_what_is_wrong_with_a_limit_is_said_where_it_stands(limit: str, column: int, message: str) -> None:
    text = f"workflow: things.sort\ntitle: Sort\nowner: team:test\n{limit}\nsteps: [ {{ end: done }} ]\n"
    with pytest.raises(DefinitionError) as caught:
        read_definition(text, "sort.yaml")
    found = [(fault.line, fault.column) for fault in caught.value.faults if message in fault.message]
    assert found == [(4, column)], caught.value.faults


def test_the_ladder_is_read() -> None:
    trial = Trial(TWO, head=LIMIT)
    assert [(rung.who, rung.within, rung.remind) for rung in trial.definition.limit_ask] == [("role:lead", "8h", "2h")]
    assert trial.definition.limit == 1
