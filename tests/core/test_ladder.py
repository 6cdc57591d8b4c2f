"""How an approval goes: the plan first, then the rungs one after the other; yes, no or silence as data."""

from __future__ import annotations

import pytest
from pydantic import JsonValue

from regie.core.approval import ApprovalArguments
from regie.core.plan import Change, FieldChange, PlannedStep
from regie.core.run_commands import CloseApproval, FindApprovers, MakePlan, OpenApproval, Perform, Remind
from regie.core.run_events import ApproversFound, Decided, PlanMade, Succeeded, TimerFired
from regie.core.status import StepStatus

from .trial import CATALOGUE, EVA, JAN, OLE, PIA, Trial, failure

TWO_RUNGS = """
- id: approval
  uses: people.approve
  with:
    question: Close the account of ${{ input.who }}?
    ask:
      - { who: "manager_of ${{ input.who }}", within: 8h, remind: "${{ settings.remind }}" }
      - { who: "role:security-officer", within: 4h }
- if: steps.approval.decision == 'approved'
  uses: thing.write
- if: steps.approval.decision != 'approved'
  uses: thing.look
"""
WHO = "input: { who: { type: email } }"


def asking(*, started_by: str = "jira", dry: bool = False) -> Trial:
    """A run whose approval is about to be planned."""
    return Trial(TWO_RUNGS, head=WHO, given={"who": JAN}, settings={"remind": "2h"}, started_by=started_by, dry=dry)


def asked(*people: str) -> Trial:
    """A run whose first rung has been found."""
    trial = asking()
    trial.plans("approval")
    trial.finds("approval", *people)
    return trial


def opened(trial: Trial) -> list[OpenApproval]:
    return [note for note in trial.notes if isinstance(note, OpenApproval)]


def decision(trial: Trial) -> JsonValue:
    output = trial.step("approval").output
    assert isinstance(output, dict)
    return output["decision"]


# --- yes, no, silence -------------------------------------------------------------------------------------------------


def test_the_plan_comes_first_and_is_what_people_are_asked_about() -> None:
    change = Change(
        capability="thing.write",
        target="thing:1",
        title="The thing",
        fields=(FieldChange(field="on", before=True, after=False),),
    )
    plan = (PlannedStep(place="1", uses="thing.write", planned=change),)
    trial = asking()
    assert trial.out.pop("approval") == MakePlan(place="approval", attempt=1, steps=())
    trial.take(PlanMade(place="approval", attempt=1, plan=plan))
    assert trial.out["approval"] == FindApprovers(place="approval", attempt=2, rung=0, who=f"manager_of {JAN}")
    trial.finds("approval", EVA)
    assert opened(trial) == [
        OpenApproval(
            place="approval",
            rung=1,
            rungs=2,
            question=f"Close the account of {JAN}?",
            plan=plan,
            approvers=(EVA,),
            requester="",
            expires_after_s=8 * 3600.0,
            is_first=True,
        )
    ]
    assert trial.timers == {"rung:approval:0": 8 * 3600.0, "remind:approval:0": 2 * 3600.0}
    assert trial.status == "waiting"
    assert trial.outstanding() == ()


def test_a_yes_is_data_and_the_run_goes_on() -> None:
    trial = asked(EVA)
    trial.decides("approval", EVA.upper(), comment="Fine.")
    assert trial.step("approval").output == {
        "decision": "approved", "by": EVA.upper(), "comment": "Fine.", "rung": 1,
    }  # fmt: skip
    assert trial.timers == {}
    assert set(trial.out) == {"1"}
    trial.ok("1")
    assert trial.status == "done"


def test_a_no_is_data_too_and_the_run_ends_refused() -> None:
    trial = asked(EVA)
    trial.decides("approval", EVA, says_yes=False)
    assert set(trial.out) == {"2"}
    trial.ok("2")
    assert trial.status == "refused"


def test_on_silence_the_next_rung_is_asked_as_well_and_then_silence_is_a_no() -> None:
    trial = asked(EVA)
    trial.fires("rung:approval:0")
    assert trial.timers == {}, "nobody is reminded of a rung that is over"
    assert trial.out["approval"] == FindApprovers(place="approval", attempt=3, rung=1, who="role:security-officer")
    assert trial.status == "running"
    trial.finds("approval", OLE, PIA)
    last = opened(trial)[-1]
    assert (last.rung, last.approvers, last.is_first) == (2, (EVA, OLE, PIA), False)
    assert trial.timers == {"rung:approval:1": 4 * 3600.0}
    trial.fires("rung:approval:1")
    assert CloseApproval(place="approval") in trial.commands
    assert decision(trial) == "timeout"
    trial.ok("2")
    assert trial.status == "refused"


def test_a_late_decision_changes_nothing() -> None:
    trial = asked(EVA)
    trial.fires("rung:approval:0")
    trial.finds("approval", OLE)
    trial.fires("rung:approval:1")
    assert trial.take(Decided(place="approval", decision="approved", by=OLE)) == ()
    assert decision(trial) == "timeout"


def test_only_the_first_decision_counts() -> None:
    trial = asked(EVA, OLE)
    trial.decides("approval", EVA, says_yes=False)
    assert trial.take(Decided(place="approval", decision="approved", by=OLE)) == ()
    assert decision(trial) == "refused"


def test_somebody_of_an_earlier_rung_may_still_decide() -> None:
    trial = asked(EVA)
    trial.fires("rung:approval:0")
    trial.finds("approval", OLE)
    trial.decides("approval", EVA)
    assert decision(trial) == "approved"
    assert trial.timers == {}


def test_a_decision_counts_while_the_next_rung_is_being_looked_up() -> None:
    trial = asked(EVA)
    trial.fires("rung:approval:0")
    lookup = trial.out.pop("approval")
    trial.decides("approval", EVA)
    assert trial.step("approval").output == {"decision": "approved", "by": EVA, "comment": "", "rung": 1}
    assert trial.take(ApproversFound(place="approval", attempt=lookup.attempt, rung=1, approvers=(OLE,))) == ()
    assert len(opened(trial)) == 1


# --- reminders --------------------------------------------------------------------------------------------------------


def test_reminders_go_on_until_the_rung_is_over() -> None:
    trial = asked(EVA)
    for _ in range(3):
        trial.fires("remind:approval:0")
        assert trial.commands[0] == Remind(place="approval", rung=1)
        assert trial.timers["remind:approval:0"] == 2 * 3600.0
    trial.fires("rung:approval:0")
    assert trial.take(TimerFired(timer="remind:approval:0")) == ()


def test_a_reminder_that_would_come_after_the_rung_is_not_set() -> None:
    trial = Trial(TWO_RUNGS, head=WHO, given={"who": JAN}, settings={"remind": "8h"})
    trial.plans("approval")
    trial.finds("approval", EVA)
    assert set(trial.timers) == {"rung:approval:0"}


def test_a_timer_of_another_rung_changes_nothing() -> None:
    trial = asked(EVA)
    trial.fires("rung:approval:0")
    trial.finds("approval", OLE)
    for timer in ("rung:approval:0", "remind:approval:0", "remind:approval:1", "rung:approval:2", "rung:approval:x"):
        assert trial.take(TimerFired(timer=timer)) == ()


# --- who may decide ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("people", [(), (EVA,), (EVA.upper(),)])
def test_a_rung_that_means_nobody_who_may_decide_gives_way_to_the_next_at_once(people: tuple[str, ...]) -> None:
    trial = asking(started_by=EVA)
    trial.plans("approval")
    trial.finds("approval", *people)
    assert opened(trial) == []
    assert trial.timers == {}
    trial.finds("approval", OLE)
    assert [(opening.rung, opening.is_first) for opening in opened(trial)] == [(2, True)]
    trial.decides("approval", OLE)
    assert decision(trial) == "approved"


def test_when_there_is_nobody_at_all_the_answer_is_no_and_there_is_nothing_to_close() -> None:
    trial = asking()
    trial.plans("approval")
    trial.finds("approval")
    trial.finds("approval")
    assert decision(trial) == "timeout"
    assert not [note for note in trial.notes if isinstance(note, OpenApproval | CloseApproval)]


def test_whoever_asked_for_the_run_is_neither_asked_nor_counted() -> None:
    trial = asking(started_by=EVA)
    trial.plans("approval")
    trial.finds("approval", EVA, OLE)
    assert opened(trial)[0].approvers == (OLE,)
    assert opened(trial)[0].requester == EVA
    assert trial.take(Decided(place="approval", decision="approved", by=EVA)) == ()
    assert trial.outcome("approval") == "waiting"


def test_the_reporter_of_the_ticket_and_the_starter_are_both_left_out() -> None:
    trial = Trial(TWO_RUNGS, head=WHO, given={"who": JAN}, settings={"remind": "2h"}, started_by=OLE, ticket="ITSM-1")
    assert set(trial.out) == {"start"}, "only the ticket says who asked"
    trial.ok("start", {"fields": {}, "reporter": {"id": "1", "display_name": "Eva", "email": EVA}})
    trial.plans("approval")
    trial.finds("approval", EVA, OLE, PIA)
    assert opened(trial)[0].approvers == (PIA,)
    for person in (EVA, OLE, "stranger@example.com"):
        assert trial.take(Decided(place="approval", decision="approved", by=person)) == ()


@pytest.mark.parametrize("written", [JAN, f" {JAN.upper()} "])
def test_nobody_decides_about_themselves(written: str) -> None:
    about = TWO_RUNGS.replace("    ask:\n", '    about: ["${{ input.who }}", "${{ input.other }}"]\n    ask:\n')
    given: dict[str, JsonValue] = {"who": written.strip(), "other": written}
    head = "input: { who: { type: email }, other: { type: text } }"
    trial = Trial(about, head=head, given=given, settings={"remind": "2h"}, started_by="jira")
    trial.plans("approval")
    trial.finds("approval", JAN)
    assert opened(trial) == [], "the manager of Jan is Jan"
    trial.finds("approval", JAN, OLE)
    assert opened(trial)[0].approvers == (OLE,)
    assert trial.take(Decided(place="approval", decision="refused", by=JAN)) == ()
    trial.decides("approval", OLE)
    assert decision(trial) == "approved"


def test_a_rung_of_people_asked_before_still_gets_its_time() -> None:
    trial = asked(EVA)
    trial.fires("rung:approval:0")
    trial.finds("approval", EVA)
    assert opened(trial)[-1].rung == 2
    assert opened(trial)[-1].approvers == (EVA,)
    assert trial.timers == {"rung:approval:1": 4 * 3600.0}
    trial.decides("approval", EVA)
    assert decision(trial) == "approved"


def test_a_ticket_that_hides_who_asks_is_refused_where_somebody_else_must_say_yes() -> None:
    trial = Trial(TWO_RUNGS, head=WHO, given={"who": JAN}, settings={"remind": "2h"}, ticket="ITSM-1")
    trial.ok("start", {"key": "ITSM-1", "fields": {}, "reporter": {"id": "1", "display_name": "Eva", "email": ""}})
    assert "does not tell the e-mail address" in str(trial.out["answer"])
    trial.ok("answer")
    assert trial.status == "failed"


def test_nobody_is_asked_twice() -> None:
    trial = asked(EVA, EVA)
    assert opened(trial)[0].approvers == (EVA,)
    trial.fires("rung:approval:0")
    trial.finds("approval", EVA, OLE)
    assert opened(trial)[1].approvers == (EVA, OLE)


def test_a_decision_before_anybody_was_asked_counts_for_nothing() -> None:
    trial = asking()
    assert trial.take(Decided(place="approval", decision="approved", by=EVA)) == ()
    trial.plans("approval")
    assert trial.take(Decided(place="approval", decision="approved", by=EVA)) == ()
    assert trial.outcome("approval") == "running"


def test_a_worker_cannot_say_yes_by_answering_for_the_approval() -> None:
    trial = asking()
    for attempt in (1, 2):
        yes = Succeeded(place="approval", attempt=attempt, output={"decision": "approved"})
        assert trial.take(yes) == ()
    trial.plans("approval")
    assert trial.take(Succeeded(place="approval", attempt=2, output={"decision": "approved"})) == ()
    assert trial.outcome("approval") == "running"


# --- what can go wrong ------------------------------------------------------------------------------------------------


def test_planning_and_finding_are_tried_again_each_for_itself() -> None:
    trial = asking()
    for attempt in (1, 2, 3):
        trial.fails("approval", failure("Unavailable", may_retry=True))
        trial.fires(f"again:approval:{attempt}")
    trial.plans("approval")
    for attempt in (5, 6, 7):
        trial.fails("approval", failure("Unavailable", may_retry=True))
        trial.fires(f"again:approval:{attempt}")
    trial.finds("approval")
    for attempt in (9, 10, 11):
        trial.fails("approval", failure("Unavailable", may_retry=True))
        trial.fires(f"again:approval:{attempt}")
    trial.finds("approval", EVA)
    trial.decides("approval", EVA)
    assert decision(trial) == "approved"


def test_an_approval_that_cannot_be_planned_fails_the_run() -> None:
    trial = asking()
    trial.fails("approval", failure("NotFound"))
    assert trial.state.failure == failure("NotFound")


def test_when_the_next_rung_cannot_be_found_nobody_can_decide_any_more() -> None:
    trial = Trial(
        TWO_RUNGS.replace("- if: steps.approval.decision == 'approved'\n  uses: thing.write\n", "").replace(
            "- if: steps.approval.decision != 'approved'\n  uses: thing.look\n",
            "  on-error: [ { uses: thing.look } ]\n",
        ),
        head=WHO,
        given={"who": JAN},
        settings={"remind": "2h"},
    )
    trial.plans("approval")
    trial.finds("approval", EVA)
    trial.fires("rung:approval:0")
    trial.fails("approval", failure("NotFound"))
    assert CloseApproval(place="approval") in trial.commands
    assert trial.outcome("approval") == "handling"
    assert trial.take(Decided(place="approval", decision="approved", by=EVA)) == ()
    trial.ok("approval/on-error/0")
    assert trial.outcome("approval") == "failed"
    assert trial.status == "done"


@pytest.mark.parametrize("remind", ["soon", "0h", ""])
def test_durations_come_from_settings_and_are_checked_before_anybody_is_asked(remind: str) -> None:
    trial = Trial(TWO_RUNGS, head=WHO, given={"who": JAN}, settings={"remind": remind})
    if remind:
        assert trial.state.failure is not None
        assert trial.state.failure.kind == "EvaluationError"
        assert "is not a length of time" in trial.state.failure.message
    else:
        trial.plans("approval")
        trial.finds("approval", EVA)
        assert set(trial.timers) == {"rung:approval:0"}


def test_the_question_is_asked_as_it_was_when_the_step_began() -> None:
    given = asking().step("approval").approval
    assert given is not None
    assert given.given == ApprovalArguments.model_validate(
        {
            "question": f"Close the account of {JAN}?",
            "ask": [
                {"who": f"manager_of {JAN}", "within": "8h", "remind": "2h"},
                {"who": "role:security-officer", "within": "4h"},
            ],
        }
    )


# --- dry run ----------------------------------------------------------------------------------------------------------


def test_a_dry_run_plans_assumes_a_yes_and_asks_nobody() -> None:
    trial = asking(dry=True)
    trial.plans("approval")
    assert decision(trial) == "approved"
    assert opened(trial) == []
    assert set(trial.out) == {"1"}
    trial.ok("1")
    assert trial.status == "done"


# --- what an approval covers ------------------------------------------------------------------------------------------

ASK = """
- id: seen
  uses: thing.look
- id: approval
  uses: people.approve
  with:
    question: Well?
    covers: [{covers}]
    ask: [ {{ who: "role:security-officer", within: 4h }} ]
"""
GUARD = "steps.approval.decision == 'approved'"


def covered(steps: str, covers: str, seen: JsonValue) -> list[tuple[str, JsonValue]]:
    """What an approval asks to be planned: places and arguments."""
    trial = Trial(ASK.format(covers=covers) + steps)
    trial.ok("seen", {"value": seen})
    work = trial.out["approval"]
    assert isinstance(work, MakePlan)
    assert trial.outstanding() == (work,)
    return [(step.place, step.arguments.get("value")) for step in work.steps]


def test_the_plan_covers_writing_steps_at_any_depth_as_if_the_answer_were_yes() -> None:
    steps = f"""
- id: close
  if: {GUARD}
  do:
    - uses: thing.write
      with: {{ value: "${{{{ steps.seen.value.name }}}}" }}
    - uses: thing.look
    - parallel:
        - uses: thing.write
        - id: each
          for-each: part in steps.seen.value.parts
          at-most: 1
          do:
            - if: part > 1
              uses: thing.write
              with: {{ value: "${{{{ part }}}}" }}
  on-error:
    - uses: thing.write
- id: also
  if: {GUARD} and steps.seen.value.parts | length > 5
  uses: thing.write
- uses: thing.write
"""
    assert covered(steps, "close, also", {"name": "Jan", "parts": [1, 2, 3]}) == [
        ("close/0", "Jan"),
        ("close/2/0", None),
        ("each/0[1]", 2),
        ("each/0[2]", 3),
    ]


def test_the_places_planned_are_the_places_run() -> None:
    steps = f"""
- id: close
  if: {GUARD}
  for-each: part in steps.seen.value
  uses: thing.write
  with: {{ value: "${{{{ part }}}}" }}
"""
    planned = covered(steps, "close", ["a", "b"])
    trial = Trial(ASK.format(covers="close") + steps)
    trial.ok("seen", {"value": ["a", "b"]})
    trial.plans("approval")
    trial.finds("approval", EVA)
    trial.decides("approval", EVA)
    performs = [work for work in trial.out.values() if isinstance(work, Perform)]
    assert [(work.place, work.arguments["value"]) for work in performs] == planned


def test_a_covered_step_that_needs_what_is_not_known_yet_fails_the_approval() -> None:
    steps = f"""
- id: close
  if: {GUARD}
  do:
    - id: made
      uses: thing.write
    - uses: thing.write
      with: {{ value: "${{{{ steps.made.value }}}}" }}
"""
    trial = Trial(ASK.format(covers="close") + steps)
    trial.ok("seen", {"value": 1})
    assert trial.outcome("approval") == StepStatus.FAILED
    assert trial.state.failure is not None
    assert trial.state.failure.kind == "EvaluationError"


def test_covering_a_block_that_is_gone_since_the_run_began_fails_the_approval_and_nothing_else() -> None:
    rest = {name: block for name, block in CATALOGUE.items() if name != "thing.write"}
    trial = Trial(ASK.format(covers="close") + f"- id: close\n  if: {GUARD}\n  uses: thing.write\n", catalogue=rest)
    trial.ok("seen", {"value": 1})
    assert trial.state.failure is not None
    assert "There is no block thing.write any more" in trial.state.failure.message


def test_covering_a_step_that_does_not_exist_fails_the_approval() -> None:
    trial = Trial(ASK.format(covers="nothing"))
    trial.ok("seen", {"value": 1})
    assert trial.state.failure is not None
    assert "there is no step of that id" in trial.state.failure.message


def test_an_approval_in_a_loop_asks_for_each_item() -> None:
    trial = Trial("""
        - for-each: part in ['a', 'b']
          do:
            - id: approval
              uses: people.approve
              with:
                question: "Write ${{ part }}?"
                covers: [it]
                ask: [ { who: "role:security-officer", within: 4h } ]
            - id: it
              if: steps.approval.decision == 'approved'
              uses: thing.write
              with: { value: "${{ part }}" }
        """)
    plans = [trial.out[f"approval[{index}]"] for index in (0, 1)]
    assert [[step.place for step in plan.steps] for plan in plans if isinstance(plan, MakePlan)] == [
        ["it[0]"],
        ["it[1]"],
    ]
    for index in (0, 1):
        trial.plans(f"approval[{index}]")
        trial.finds(f"approval[{index}]", EVA)
    trial.decides("approval[0]", EVA)
    trial.decides("approval[1]", EVA, says_yes=False)
    assert set(trial.out) == {"it[0]"}
    trial.ok("it[0]")
    assert trial.status == "refused"
    assert [opening.question for opening in opened(trial)] == ["Write a?", "Write b?"]
