"""The interpreter, rule by rule: what begins when, what a failure stops, what is tried again, when a run is over."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import JsonValue

from regie.core.effect import EffectNote
from regie.core.errors import Failure, TimedOut
from regie.core.interpreter import advance, begin
from regie.core.run import RunState
from regie.core.run_commands import CloseRun, Perform, SetTimer, StepEnded
from regie.core.run_events import Begun, Failed, Succeeded, TimerFired
from regie.core.status import RunStatus

from .trial import CATALOGUE, EVA, JAN, Trial, failure

BOTH = """
- parallel:
    - do:
        - uses: thing.look
        - uses: thing.look
    - uses: thing.look
"""


def at(trial: Trial) -> set[str]:
    """The places whose work is out."""
    return set(trial.out)


def given_to(trial: Trial, place: str) -> JsonValue:
    work = trial.out[place]
    assert isinstance(work, Perform)
    return work.arguments.get("value")


# --- sequence, do, if -------------------------------------------------------------------------------------------------


def test_steps_run_one_after_the_other_and_see_what_came_before() -> None:
    trial = Trial("""
        - id: first
          uses: thing.look
        - do:
            - uses: thing.write
              with: { value: "${{ steps.first.value + 1 }}" }
            - uses: thing.look
        """)
    assert at(trial) == {"first"}
    trial.ok("first", {"value": 41})
    assert at(trial) == {"1/0"}
    assert given_to(trial, "1/0") == 42
    assert trial.outcome("1") == "running"
    trial.ok("1/0")
    trial.ok("1/1")
    assert trial.status == "done"
    assert trial.state.order == ("first", "1/0", "1/1", "1")
    assert trial.commands[-1] == CloseRun(status=RunStatus.DONE)


def test_work_carries_the_blocks_time_unless_the_step_says_otherwise() -> None:
    trial = Trial("""
        - parallel:
            - uses: thing.write
            - uses: thing.write
              timeout: 3s
        """)
    assert [trial.out[place] for place in ("0/0", "0/1")] == [
        Perform(place="0/0", attempt=1, uses="thing.write", arguments={}, timeout_s=7.0),
        Perform(place="0/1", attempt=1, uses="thing.write", arguments={}, timeout_s=3.0),
    ]


def test_a_skipped_step_does_nothing_and_the_run_goes_on() -> None:
    trial = Trial("""
        - id: quiet
          if: 1 > 2
          uses: thing.look
        - if: 1 > 2
          end:
        - if: 1 > 2
          fail: Never
        - if: 1 > 2
          do:
            - uses: thing.look
        - uses: thing.look
          with: { value: "${{ steps.quiet.outcome }}" }
        """)
    assert [trial.outcome(place) for place in ("quiet", "1", "2", "3")] == ["skipped"] * 4
    assert trial.outcome("3/0") is None
    assert given_to(trial, "4") == "skipped"
    trial.ok("4")
    assert trial.status == "done"


def test_a_skipped_steps_fields_are_missing_and_need_a_default() -> None:
    trial = Trial("""
        - id: quiet
          if: 1 > 2
          uses: thing.look
        - uses: thing.look
          with: { value: "${{ steps.quiet.value | default('none') }}" }
        - uses: thing.look
          with: { value: "${{ steps.quiet.value }}" }
        """)
    assert given_to(trial, "1") == "none"
    trial.ok("1")
    assert trial.status == "failed"
    assert trial.state.failure is not None
    assert trial.state.failure.kind == "EvaluationError"
    assert trial.step("2").attempt == 0


def test_a_run_without_anything_to_do_is_done_at_once() -> None:
    assert Trial("- { if: 1 > 2, uses: thing.look }").state.status is RunStatus.DONE


# --- fail, end --------------------------------------------------------------------------------------------------------


def test_fail_ends_the_run_with_its_words() -> None:
    trial = Trial("""
        - fail: "Not for ${{ input.who }}"
        - uses: thing.look
        """, head="input: { who: { type: text } }", given={"who": "Jan"})  # fmt: skip
    assert trial.state.failure == Failure(kind="Failed", message="Not for Jan")
    assert trial.outcome("1") is None
    assert trial.out == {}


def test_end_leaves_the_rest_alone_and_the_run_is_done() -> None:
    trial = Trial("""
        - do:
            - uses: thing.look
            - end: Nothing left to do
            - uses: thing.look
        - uses: thing.look
        """)
    trial.ok("0/0")
    assert trial.status == "done"
    assert [trial.outcome(place) for place in ("0", "0/1", "0/2", "1")] == ["done", "done", None, None]


def test_end_in_one_branch_lets_the_others_finish_what_is_out_but_begins_nothing() -> None:
    trial = Trial("""
        - parallel:
            - do:
                - uses: thing.look
                - end:
            - do:
                - uses: thing.look
                - uses: thing.look
        - uses: thing.look
        """)
    trial.ok("0/0/0")
    assert trial.status == "running"
    trial.ok("0/1/0")
    assert trial.status == "done"
    assert trial.outcome("0/1/1") is None
    assert trial.outcome("1") is None


def test_what_fails_behind_an_end_is_not_handled_since_nothing_new_begins() -> None:
    trial = Trial("""
        - parallel:
            - do:
                - uses: thing.look
                - end:
            - uses: thing.write
              on-error:
                - uses: thing.look
        """)
    trial.ok("0/0/0")
    trial.fails("0/1")
    assert trial.status == "failed"
    assert trial.outcome("0/1/on-error/0") is None


# --- parallel ---------------------------------------------------------------------------------------------------------


def test_branches_run_side_by_side_and_all_must_end() -> None:
    trial = Trial(BOTH + "- uses: thing.look\n")
    assert at(trial) == {"0/0/0", "0/1"}
    trial.ok("0/1")
    assert trial.outcome("0") == "running"
    trial.ok("0/0/0")
    trial.ok("0/0/1")
    assert at(trial) == {"1"}


def test_when_a_branch_fails_the_others_finish_and_then_the_run_fails() -> None:
    trial = Trial(BOTH + "- uses: thing.look\n")
    trial.fails("0/1")
    assert trial.status == "running"
    trial.ok("0/0/0")
    assert at(trial) == {"0/0/1"}, "a branch that has begun runs to its end"
    trial.ok("0/0/1")
    assert trial.status == "failed"
    assert trial.state.failure == failure()
    assert trial.outcome("1") is None


def test_a_branch_that_has_not_begun_does_not_begin_after_a_failure() -> None:
    trial = Trial("""
        - parallel:
            - fail: Stop
            - uses: thing.look
          on-error:
            - uses: thing.write
        """)
    assert trial.outcome("0/1") is None
    assert at(trial) == {"0/on-error/0"}


def test_of_several_failures_the_first_as_written_is_the_runs() -> None:
    trial = Trial("""
        - parallel:
            - uses: thing.look
            - uses: thing.look
        """)
    trial.fails("0/1", failure("NotFound"))
    trial.fails("0/0", failure("Refused"))
    assert trial.state.failure == failure("Refused")


# --- for-each ---------------------------------------------------------------------------------------------------------

EACH = """
- id: all
  for-each: number in settings.numbers
  uses: thing.look
  with: { value: "${{ number * 10 }}" }
- uses: thing.write
  with: { value: "${{ steps.all['items'] }}" }
"""


def loop(steps: str, *numbers: int) -> Trial:
    """A run with these numbers to go through."""
    return Trial(steps, settings={"numbers": list(numbers)})


def test_a_loop_without_a_limit_begins_every_item_and_gives_results_in_input_order() -> None:
    trial = loop(EACH, 1, 2, 3)
    assert {place: given_to(trial, place) for place in trial.out} == {"all[0]": 10, "all[1]": 20, "all[2]": 30}
    for place in ("all[2]", "all[0]", "all[1]"):
        trial.ok(place, {"value": place})
    assert given_to(trial, "1") == [
        {"outcome": "done", "output": {"value": place}} for place in ("all[0]", "all[1]", "all[2]")
    ]


def test_a_loop_over_nothing_is_done_at_once() -> None:
    trial = loop(EACH)
    assert trial.outcome("all") == "done"
    assert given_to(trial, "1") == []


@pytest.mark.parametrize("most", [1, 2, 3, 7])
def test_a_loop_never_has_more_items_out_than_at_most(most: int) -> None:
    trial = loop(f"- {{ for-each: number in settings.numbers, at-most: {most}, uses: thing.look }}", *range(7))
    seen: list[int] = []
    while trial.out:
        assert len(trial.out) <= most
        seen.append(len(trial.out))
        trial.ok(max(trial.out))
    assert max(seen) == most
    assert trial.status == "done"
    assert [work.place for work in trial.handed] == [f"0[{index}]" for index in range(7)]


def test_a_failing_item_lets_the_others_finish_and_no_further_one_begins() -> None:
    trial = loop("""
        - id: all
          for-each: number in settings.numbers
          at-most: 2
          uses: thing.look
          on-error:
            - uses: thing.write
              with: { value: "${{ error.step }}" }
        """, 1, 2, 3, 4)  # fmt: skip
    trial.fails("all[0]")
    assert at(trial) == {"all[1]"}
    assert trial.outcome("all[2]") is None
    trial.ok("all[1]")
    assert given_to(trial, "all/on-error/0") == "all", "of a loop, on-error belongs to the whole"
    assert len(trial.out) == 1
    trial.ok("all/on-error/0")
    assert trial.status == "done"
    assert trial.step("all").handled


def test_an_item_that_waits_for_its_next_try_keeps_its_slot() -> None:
    trial = loop("- { for-each: number in settings.numbers, at-most: 1, uses: thing.look }", 1, 2)
    trial.fails("0[0]", failure("Throttled", may_retry=True))
    assert trial.out == {}
    assert trial.status == "waiting"
    trial.fires("again:0[0]:1")
    assert at(trial) == {"0[0]"}


NESTED = """
- for-each: letter in ['a', 'b']
  do:
    - id: inner
      for-each: number in [1, 2]
      do:
        - id: one
          uses: thing.look
          with: { value: "${{ letter }}${{ number }}" }
        - uses: thing.look
          with: { value: "${{ steps.one.value }}" }
    - uses: thing.write
      with: { value: "${{ steps.inner['items'] }}" }
"""


def test_loops_in_loops_have_places_of_their_own_and_ids_are_those_of_the_same_item() -> None:
    trial = Trial(NESTED)
    places = [f"one[{outer}.{inner}]" for outer in (0, 1) for inner in (0, 1)]
    assert at(trial) == set(places)
    assert [given_to(trial, place) for place in places] == ["a1", "a2", "b1", "b2"]
    for place in reversed(places):
        trial.ok(place, {"value": f"from {place}"})
    seconds = [f"inner/1[{outer}.{inner}]" for outer in (0, 1) for inner in (0, 1)]
    assert [given_to(trial, second) for second in seconds] == [f"from {place}" for place in places]
    for second in seconds:
        trial.ok(second)
    assert at(trial) == {"0/1[0]", "0/1[1]"}
    assert [trial.outcome(place) for place in ("inner[0]", "inner[1]")] == ["done", "done"]


def test_a_step_in_a_loop_keeps_its_own_on_error_for_each_item() -> None:
    trial = Trial("""
        - for-each: number in [1, 2]
          do:
            - uses: thing.look
              on-error:
                - uses: thing.write
                  with: { value: "${{ number }}" }
        """)
    trial.fails("0/0[1]")
    assert given_to(trial, "0/0/on-error/0[1]") == 2
    trial.ok("0/0[0]")
    trial.ok("0/0/on-error/0[1]")
    assert trial.status == "done"
    assert trial.step("0/0[1]").handled


def test_a_condition_of_a_loop_is_asked_once_for_the_whole() -> None:
    trial = Trial("- { if: 1 > 2, for-each: number in input.no, uses: thing.look }")
    assert trial.outcome("0") == "skipped"
    assert trial.out == {}


def test_looping_over_something_else_than_a_list_fails_the_step() -> None:
    trial = Trial("- { for-each: number in 'text', uses: thing.look }")
    assert trial.state.failure is not None
    assert trial.state.failure.kind == "EvaluationError"


# --- retries, time, later effects -------------------------------------------------------------------------------------


def pauses(trial: Trial) -> list[float]:
    return [note.after_s for note in trial.notes if isinstance(note, SetTimer)]


def test_a_failure_that_may_pass_is_tried_again_after_growing_pauses_and_then_is_final() -> None:
    trial = Trial("- uses: thing.write")
    trial.fails("0", failure("Unavailable", may_retry=True))
    assert trial.outcome("0") == "waiting"
    assert trial.status == "waiting"
    trial.fires("again:0:1")
    assert trial.out["0"].attempt == 2
    trial.fails("0", failure("Unavailable", may_retry=True))
    trial.fires("again:0:2")
    trial.fails("0", failure("Unavailable", may_retry=True))
    first, second = pauses(trial)
    assert 5.0 <= first <= 10.0, "the upper half of the block's 10 s"
    assert 7.5 <= second <= 15.0, "doubled, but at most the block's 15 s"
    assert trial.step("0").tries == 3
    assert trial.status == "failed"
    assert [note.status.value for note in trial.notes if isinstance(note, StepEnded)] == [
        "waiting",
        "waiting",
        "failed",
    ]


def test_what_the_step_says_about_retries_goes_before_what_the_block_says() -> None:
    trial = Trial("- { uses: thing.write, retry: { attempts: 2, first: 100s, most: 200s } }")
    trial.fails("0", TIMED_OUT)
    assert 50.0 <= pauses(trial)[0] <= 100.0
    trial.fires("again:0:1")
    trial.fails("0", TIMED_OUT)
    assert trial.status == "failed"


TIMED_OUT = Failure.of(TimedOut("The step 0 did not finish within 7 s."))


def test_a_step_that_took_too_long_may_be_tried_again() -> None:
    trial = Trial("- uses: thing.write")
    trial.fails("0", TIMED_OUT)
    assert trial.outcome("0") == "waiting"


@pytest.mark.parametrize("kind", ["Terminal", "OutcomeUnknown", "Denied", "WorldMoved"])
def test_a_failure_that_does_not_pass_is_never_tried_again(kind: str) -> None:
    trial = Trial("- uses: thing.write")
    trial.fails("0", failure(kind))
    assert trial.timers == {}
    assert trial.status == "failed"


def test_a_vendors_own_pause_is_honoured() -> None:
    trial = Trial("- uses: thing.write")
    trial.fails("0", failure("Throttled", may_retry=True, after_s=321.0))
    assert pauses(trial) == [321.0]


def test_pauses_are_spread_by_run_and_place_and_not_by_chance() -> None:
    def first_pause(steps: str, place: str) -> float:
        trial = Trial(steps)
        trial.fails(place, failure("Unavailable", may_retry=True))
        return pauses(trial)[0]

    assert first_pause("- uses: thing.write", "0") == first_pause("- uses: thing.write", "0")
    other = first_pause("- { id: other, uses: thing.write }", "other")
    assert other != first_pause("- uses: thing.write", "0")


def test_very_many_tries_do_not_make_the_pause_overflow() -> None:
    trial = Trial("- { uses: thing.write, retry: { attempts: 5000 } }")
    for attempt in range(1, 1100):
        trial.fails("0", failure("Unavailable", may_retry=True))
        trial.fires(f"again:0:{attempt}")
    assert max(pauses(trial)) <= 15.0


def test_a_late_answer_to_an_earlier_attempt_changes_nothing() -> None:
    trial = Trial("- uses: thing.write")
    trial.fails("0", failure("Unavailable", may_retry=True))
    late = Succeeded(place="0", attempt=1, output={"value": "late"})
    assert trial.take(late) == ()
    trial.fires("again:0:1")
    assert trial.take(late) == ()
    assert trial.take(TimerFired(timer="again:0:1")) == ()
    trial.ok("0", {"value": "right"})
    assert trial.step("0").output == {"value": "right"}


def test_effects_of_a_failed_try_are_not_forgotten_by_the_next() -> None:
    first, second = (EffectNote(capability="thing.write", target=name, words=name, changed=True) for name in "ab")
    trial = Trial("- uses: thing.write")
    work = trial.out.pop("0")
    trial.take(
        Failed(place="0", attempt=work.attempt, failure=failure("Unavailable", may_retry=True), effects=(first,))
    )
    trial.fires("again:0:1")
    trial.ok("0", effects=(second,))
    assert trial.step("0").effects == (first, second)


def test_a_change_that_takes_effect_later_is_asked_about_with_its_handle() -> None:
    trial = Trial("- uses: thing.write")
    trial.postpones("0", {"job": 7}, 30.0)
    assert trial.status == "waiting"
    assert trial.timers == {"again:0:1": 30.0}
    trial.fires("again:0:1")
    work = trial.out["0"]
    assert isinstance(work, Perform)
    assert (work.attempt, work.handle) == (2, {"job": 7})
    trial.fails("0", failure("Unavailable", may_retry=True))
    trial.fires("again:0:2")
    work = trial.out["0"]
    assert isinstance(work, Perform)
    assert work.handle == {"job": 7}, "asking may fail and is tried again"
    trial.ok("0", {"value": 1})
    assert trial.step("0").handle is None
    assert trial.status == "done"


@pytest.mark.parametrize(("timeout", "most_s"), [("", 24 * 3600.0), (", timeout: 100s", 100.0)])
def test_a_change_that_never_takes_effect_fails_in_the_end(timeout: str, most_s: float) -> None:
    trial = Trial(f"- {{ uses: thing.write{timeout} }}")
    asked = 0
    while trial.out and asked < 10:
        asked += 1
        trial.postpones("0", "job", most_s / 4)
        for timer in list(trial.timers):
            trial.fires(timer)
    assert asked == 5
    assert trial.state.failure is not None
    assert trial.state.failure.kind == "TimedOut"


# --- on-error ---------------------------------------------------------------------------------------------------------


def test_on_error_sees_the_error_and_the_run_goes_on() -> None:
    trial = Trial("""
        - id: risky
          uses: thing.write
          on-error:
            - uses: thing.look
              with: { value: "${{ error.kind }} / ${{ error.message }} / ${{ error.step }}" }
        - uses: thing.look
          with: { value: "${{ steps.risky.outcome }}" }
        """)
    trial.fails("risky")
    assert trial.outcome("risky") == "handling"
    assert given_to(trial, "risky/on-error/0") == "Terminal / Terminal happened / risky"
    trial.ok("risky/on-error/0")
    assert given_to(trial, "1") == "failed"
    trial.ok("1")
    assert trial.status == "done"


def test_on_error_comes_after_the_last_try() -> None:
    trial = Trial("- { uses: thing.write, retry: { attempts: 2 }, on-error: [ { uses: thing.look } ] }")
    trial.fails("0", failure("Unavailable", may_retry=True))
    assert trial.outcome("0") == "waiting"
    trial.fires("again:0:1")
    trial.fails("0", failure("Unavailable", may_retry=True))
    assert at(trial) == {"0/on-error/0"}


def test_on_error_of_a_group_takes_what_happens_inside() -> None:
    trial = Trial("""
        - id: close
          parallel:
            - uses: thing.write
            - do:
                - uses: thing.look
                - uses: thing.look
          on-error:
            - uses: thing.look
              with: { value: "${{ error.message }}" }
            - fail: "Stopped: ${{ error.message }}"
        """)
    trial.fails("close/0")
    trial.ok("close/1/0")
    trial.fails("close/1/1", failure("NotFound"))
    assert given_to(trial, "close/on-error/0") == "Terminal happened"
    trial.ok("close/on-error/0")
    assert trial.state.failure == Failure(kind="Failed", message="Stopped: Terminal happened")


def test_an_expression_that_cannot_be_worked_out_is_handled_like_any_failure() -> None:
    trial = Trial("""
        - uses: thing.look
          with: { value: "${{ 1 / input.zero }}" }
          on-error:
            - uses: thing.look
              with: { value: "${{ error.kind }}" }
        """, head="input: { zero: { type: integer } }", given={"zero": 0})  # fmt: skip
    assert given_to(trial, "0/on-error/0") == "EvaluationError"
    assert trial.step("0").attempt == 0, "what cannot be worked out is never handed out"


def test_a_failure_inside_on_error_fails_the_run() -> None:
    trial = Trial("""
        - do:
            - uses: thing.write
              on-error:
                - uses: thing.look
                - uses: thing.look
        - uses: thing.look
        """)
    trial.fails("0/0")
    trial.fails("0/0/on-error/0", failure("Denied"))
    assert trial.status == "failed"
    assert trial.state.failure == failure("Denied")
    assert trial.outcome("0/0/on-error/1") is None
    assert trial.outcome("1") is None


def test_on_error_can_have_on_error() -> None:
    trial = Trial("""
        - uses: thing.write
          on-error:
            - uses: thing.look
              on-error:
                - uses: thing.write
                  with: { value: "${{ error.kind }}" }
        """)
    trial.fails("0")
    trial.fails("0/on-error/0", failure("Denied"))
    assert given_to(trial, "0/on-error/0/on-error/0") == "Denied"
    trial.ok("0/on-error/0/on-error/0")
    assert trial.status == "done"


def test_end_inside_on_error_ends_the_run_in_order() -> None:
    trial = Trial("""
        - uses: thing.write
          on-error:
            - end:
        - uses: thing.look
        """)
    trial.fails("0")
    assert trial.status == "done"
    assert trial.outcome("1") is None


# --- input and ticket -------------------------------------------------------------------------------------------------

FROM_TICKET = """
input:
  employee: { type: email, title: Employee, from: ticket.fields.employee }
"""
USE_INPUT = '- { uses: thing.look, with: { value: "${{ input.employee }} for ${{ run.requester }}" } }'


def ticket(**fields: JsonValue) -> JsonValue:
    return {"key": "ITSM-1", "fields": fields, "reporter": {"id": "1", "display_name": "Eva", "email": EVA}}


def test_the_ticket_is_read_first_and_gives_input_and_requester() -> None:
    trial = Trial(USE_INPUT, head=FROM_TICKET, ticket="ITSM-1")
    assert trial.out["start"] == Perform(
        place="start", attempt=1, uses="ticket.read", arguments={"ticket": "ITSM-1"}, timeout_s=60.0
    )
    assert [work.place for work in trial.outstanding()] == ["start"]
    trial.ok("start", ticket(employee=JAN))
    assert trial.state.requester == EVA
    assert given_to(trial, "0") == f"{JAN} for {EVA}"


def test_what_was_handed_in_wins_over_the_ticket() -> None:
    trial = Trial(USE_INPUT, head=FROM_TICKET, ticket="ITSM-1", given={"employee": "ole@example.com"})
    trial.ok("start", ticket(employee=JAN))
    assert given_to(trial, "0") == f"ole@example.com for {EVA}"


def test_without_a_ticket_whoever_starts_the_run_asked_for_it() -> None:
    trial = Trial(USE_INPUT, head=FROM_TICKET, given={"employee": JAN}, started_by=EVA)
    assert given_to(trial, "0") == f"{JAN} for {EVA}"


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({}, "Employee (employee) is missing"),
        ({"employee": f"{JAN}, {EVA}"}, "Employee (employee) names more than one address"),
        ({"employee": "Jan"}, "Employee (employee) must be one e-mail address"),
    ],
)
def test_a_ticket_that_cannot_be_used_gets_an_answer_and_the_run_fails(fields: dict[str, JsonValue], says: str) -> None:
    trial = Trial(USE_INPUT, head=FROM_TICKET, ticket="ITSM-1")
    trial.ok("start", ticket(**fields))
    answer = trial.out["answer"]
    assert isinstance(answer, Perform)
    assert answer.uses == "ticket.comment"
    assert says in str(answer.arguments["text"])
    assert trial.status == "running"
    assert list(trial.outstanding()) == [answer]
    trial.ok("answer")
    assert trial.state.failure is not None
    assert trial.state.failure.kind == "InvalidInput"
    assert trial.outcome("0") is None


def test_that_the_answer_cannot_be_given_does_not_hide_what_was_wrong() -> None:
    trial = Trial(USE_INPUT, head=FROM_TICKET, ticket="ITSM-1")
    trial.ok("start", ticket())
    trial.fails("answer", failure("Denied"))
    assert trial.state.failure is not None
    assert trial.state.failure.kind == "InvalidInput"


NOTE = EffectNote(capability="thing.write", target="thing:1", words="a thing: on true -> false", changed=True)


def test_a_run_that_stops_tells_its_ticket_why_and_that_nothing_was_changed() -> None:
    trial = Trial("- uses: thing.look\n- uses: thing.look", head=FROM_TICKET, ticket="ITSM-1")
    trial.ok("start", ticket(employee=JAN))
    trial.fails("0", failure("NotFound"))
    answer = trial.out["answer"]
    assert isinstance(answer, Perform)
    text = str(answer.arguments["text"])
    assert "NotFound happened" in text
    assert "Nothing was changed." in text
    assert list(trial.outstanding()) == [answer]
    assert trial.status == "running"
    trial.ok("answer")
    assert (trial.status, trial.state.failure, trial.outcome("1")) == ("failed", failure("NotFound"), None)


def test_what_was_changed_before_it_stopped_is_told() -> None:
    trial = Trial("- { id: a, uses: thing.write }\n- { id: b, uses: thing.write }", head=FROM_TICKET, ticket="ITSM-1")
    trial.ok("start", ticket(employee=JAN))
    trial.ok("a", effects=(NOTE,))
    trial.fails("b")
    answer = trial.out["answer"]
    assert isinstance(answer, Perform)
    assert NOTE.words in str(answer.arguments["text"])
    assert "Nothing was changed" not in str(answer.arguments["text"])


@pytest.mark.parametrize("kind", ["OutcomeUnknown", "NotVerified", "TimedOut"])
def test_nobody_is_told_that_nothing_was_changed_when_nobody_knows(kind: str) -> None:
    trial = Trial("- { id: a, uses: thing.write }", head=FROM_TICKET, ticket="ITSM-1")
    trial.ok("start", ticket(employee=JAN))
    trial.fails("a", failure(kind))
    answer = trial.out["answer"]
    assert isinstance(answer, Perform)
    assert "Nothing was changed" not in str(answer.arguments["text"])


@pytest.mark.parametrize(("step_id", "place"), [("", "0/on-error/0"), ("id: told\n              ", "told")])
def test_a_workflow_that_has_told_the_ticket_itself_is_not_talked_over(step_id: str, place: str) -> None:
    trial = Trial(
        f"""
        - uses: thing.look
          on-error:
            - {step_id}uses: ticket.comment
              with: {{ ticket: "${{{{ run.ticket }}}}", text: "Stopped: ${{{{ error.message }}}}" }}
            - fail: Stopped
        """,
        head=FROM_TICKET,
        ticket="ITSM-1",
    )
    trial.ok("start", ticket(employee=JAN))
    trial.fails("0")
    trial.ok(place)
    assert trial.out == {}
    assert trial.status == "failed"


@pytest.mark.parametrize("more", [{"ticket": "ITSM-1", "dry": True}, {"given": {"employee": JAN}}])
def test_a_dry_run_and_a_run_without_a_ticket_stop_in_silence(more: dict[str, Any]) -> None:
    trial = Trial("- uses: thing.look", head=FROM_TICKET, **more)
    if "ticket" in more:
        trial.ok("start", ticket(employee=JAN))
    trial.fails("0")
    assert trial.out == {}
    assert trial.status == "failed"


def test_a_field_nobody_knows_is_refused() -> None:
    trial = Trial(USE_INPUT, head=FROM_TICKET, given={"employe": JAN})
    assert trial.state.failure is not None
    assert "did you mean employee?" in trial.state.failure.message


def test_a_dry_run_leaves_no_comment_on_the_ticket() -> None:
    trial = Trial(USE_INPUT, head=FROM_TICKET, ticket="ITSM-1", dry=True)
    trial.ok("start", ticket())
    assert trial.out == {}
    assert trial.status == "failed"


def test_reading_the_ticket_is_tried_again_and_its_failure_is_the_runs() -> None:
    trial = Trial(USE_INPUT, head=FROM_TICKET, ticket="ITSM-1")
    trial.fails("start", failure("Unavailable", may_retry=True))
    assert trial.status == "waiting"
    trial.fires("again:start:1")
    trial.fails("start", failure("NotFound"))
    assert trial.state.failure == failure("NotFound")


def test_settings_and_facts_of_the_run_can_be_used() -> None:
    trial = Trial(
        '- { uses: thing.look, with: { value: "${{ settings.queue }} ${{ run.id }} ${{ run.tenant }}" } }',
        settings={"queue": "SOC"},
    )
    assert given_to(trial, "0") == "SOC run-1 acme"


# --- events that do not belong ----------------------------------------------------------------------------------------


def test_nothing_moves_before_the_run_has_begun_and_nothing_after_it_is_over() -> None:
    trial = Trial("- uses: thing.look")
    fresh = begin(trial.facts)
    assert Trial("- uses: thing.look").state == trial.state
    trial.ok("0")
    over = trial.state
    for event in (Begun(), Succeeded(place="0", attempt=1, output=None), TimerFired(timer="again:0:1")):
        step = advance(trial.definition, CATALOGUE, over, event)
        assert step.state is over
        assert step.commands == ()
    assert trial.outstanding() == ()
    assert fresh.steps == {}


def test_a_second_begun_changes_nothing() -> None:
    trial = Trial("- uses: thing.look")
    assert trial.take(Begun()) == ()


def test_nobody_can_answer_for_a_step_that_only_holds_others() -> None:
    trial = Trial("- { do: [ { uses: thing.look } ] }")
    assert trial.take(Succeeded(place="0", attempt=0, output=None)) == ()
    assert trial.outcome("0") == "running"


@pytest.mark.parametrize(
    "timer", ["", "again", "again:0:", "again:0:x", "again:0:1.0", "rung:0:x", "remind:0:-1", "again:0:9", "what:0:1"]
)
def test_a_timer_nobody_set_changes_nothing(timer: str) -> None:
    trial = Trial("- uses: thing.write")
    trial.fails("0", failure("Unavailable", may_retry=True))
    assert trial.take(TimerFired(timer=timer)) == ()


def test_a_block_that_is_gone_still_gets_an_answer_from_the_worker() -> None:
    trial = Trial("- uses: thing.gone")
    trial.fails("0", failure("Terminal"))
    assert trial.status == "failed"


def test_outstanding_hands_out_the_same_work_and_only_what_is_out() -> None:
    trial = Trial("""
        - parallel:
            - uses: thing.look
            - uses: thing.write
            - for-each: number in [1, 2, 3]
              at-most: 1
              uses: thing.look
              with: { value: "${{ number }}" }
        """)
    trial.fails("0/1", failure("Unavailable", may_retry=True))
    trial.ok("0/2[0]")
    assert sorted(work.model_dump_json() for work in trial.outstanding()) == sorted(
        work.model_dump_json() for work in trial.out.values()
    )
    assert RunState.model_validate_json(trial.state.model_dump_json()) == trial.state


def test_every_attempt_asks_for_the_same_though_the_report_has_grown_meanwhile() -> None:
    """Else the second attempt would be another effect, and the gateway would refuse it."""
    trial = Trial("""
- parallel:
    - id: told
      uses: thing.write
      with: { value: "${{ run.report }}" }
    - id: other
      uses: thing.write
""")
    first = trial.out["told"]
    assert isinstance(first, Perform)
    note = EffectNote(capability="thing.write", target="thing:1", words="The thing: on true -> false", changed=True)
    trial.ok("other", effects=(note,))
    trial.fails("told", failure("Unavailable", may_retry=True))
    trial.fires("again:told:1")
    second = trial.out["told"]
    assert isinstance(second, Perform)
    assert second.attempt == 2
    assert second.arguments == first.arguments
    trial.ok("told")
    assert trial.step("told").arguments is None
