"""A run that is paused: nothing new begins, what is out comes back, what arrives takes effect when it is resumed."""

from __future__ import annotations

from regie.core.places import ANSWER
from regie.core.run import Pause
from regie.core.run_commands import CloseApproval, OpenApproval, Perform

from .test_cancelling import APPROVAL
from .trial import EVA, OLE, Trial, failure


def test_work_that_is_out_is_recorded_and_nothing_new_begins_until_it_is_resumed() -> None:
    trial = Trial("""
        - id: first
          parallel:
            - uses: thing.write
            - do:
                - uses: thing.look
                - uses: thing.write
        - uses: thing.look
        """)
    trial.pauses(reason="A look at it.")
    assert (trial.status, trial.state.paused) == ("paused", Pause(by=OLE, reason="A look at it."))
    assert {work.place for work in trial.outstanding()} == {"first/0", "first/1/0"}
    trial.ok("first/0")
    trial.ok("first/1/0")
    assert (trial.outcome("first/0"), trial.outcome("first/1/0"), trial.status) == ("done", "done", "paused")
    assert trial.outstanding() == ()
    assert len(trial.handed) == 2
    trial.resumes()
    assert set(trial.out) == {"first/1/1"}
    trial.ok("first/1/1")
    trial.ok("1")
    assert trial.status == "done"


def test_a_run_that_has_not_begun_begins_when_it_is_resumed() -> None:
    trial = Trial("- uses: thing.write", head="input: { a: { type: text, from: ticket.title } }", ticket="ITSM-1")
    trial.pauses()
    trial.ok("start", {"title": "Hello", "reporter": {"email": EVA}})
    assert (trial.status, set(trial.out)) == ("paused", set())
    trial.resumes()
    assert set(trial.out) == {"0"}


def test_a_timer_that_fires_is_kept() -> None:
    trial = Trial("- wait: 3d\n- uses: thing.look")
    trial.pauses()
    trial.fires("wait:0:0")
    assert (trial.outcome("0"), trial.status) == ("waiting", "paused")
    trial.resumes()
    assert (trial.outcome("0"), set(trial.out)) == ("done", {"1"})


def test_a_failure_is_recorded_and_neither_tried_again_nor_handled_meanwhile() -> None:
    trial = Trial("""
        - parallel:
            - id: passing
              uses: thing.write
            - id: lasting
              uses: thing.write
              on-error:
                - uses: thing.look
        """)
    trial.pauses()
    trial.fails("passing", failure("Unavailable", may_retry=True))
    trial.fails("lasting")
    trial.fires("again:passing:1")
    assert (trial.outcome("passing"), trial.outcome("lasting"), set(trial.out)) == ("waiting", "handling", set())
    trial.resumes()
    assert set(trial.out) == {"passing", "lasting/on-error/0"}


def test_a_failed_run_takes_nothing_back_before_it_is_resumed() -> None:
    trial = Trial("- { id: it, uses: thing.write }", ticket="ITSM-1")
    trial.pauses()
    trial.fails("it")
    assert (trial.status, set(trial.out)) == ("paused", set())
    trial.resumes()
    assert set(trial.out) == {ANSWER}


def test_an_answer_that_came_behind_the_deadline_still_beats_the_silence() -> None:
    trial = Trial(APPROVAL)
    trial.plans("approval")
    trial.finds("approval", EVA)
    trial.pauses()
    trial.fires("rung:approval:0")
    trial.decides("approval", EVA)
    assert (trial.outcome("approval"), trial.status) == ("waiting", "paused")
    trial.resumes()
    assert trial.outcome("approval") == "done"
    assert isinstance(trial.out["1"], Perform)
    assert trial.said(CloseApproval) == []


def test_a_deadline_that_passed_without_an_answer_takes_effect_at_once() -> None:
    trial = Trial(APPROVAL)
    trial.plans("approval")
    trial.finds("approval", EVA)
    trial.pauses()
    trial.fires("rung:approval:0")
    trial.resumes()
    assert set(trial.out) == {"approval"}


def test_a_plan_that_comes_meanwhile_is_not_made_again_and_nobody_is_asked_before() -> None:
    trial = Trial(APPROVAL)
    trial.pauses()
    trial.plans("approval")
    assert trial.outstanding() == ()
    trial.resumes()
    trial.pauses()
    trial.finds("approval", EVA)
    assert (trial.outstanding(), trial.said(OpenApproval)) == ((), [])
    trial.resumes()
    assert len(trial.said(OpenApproval)) == 1


def test_a_lookup_that_fails_does_not_end_what_was_answered_meanwhile() -> None:
    trial = Trial(APPROVAL)
    trial.plans("approval")
    trial.finds("approval", EVA)
    trial.fires("rung:approval:0")
    trial.pauses()
    trial.decides("approval", EVA)
    trial.fails("approval")
    assert trial.outstanding() == ()
    trial.resumes()
    assert (trial.outcome("approval"), trial.said(CloseApproval)) == ("done", [])


def test_a_paused_run_is_cancelled_at_once() -> None:
    trial = Trial(APPROVAL)
    trial.pauses()
    trial.plans("approval")
    trial.cancels()
    assert (trial.status, trial.state.paused, trial.state.held) == ("cancelled", None, ())


def test_the_first_pause_counts_and_one_that_is_not_there_is_not_lifted() -> None:
    trial = Trial("- uses: thing.write")
    trial.resumes()
    assert trial.status == "running"
    trial.pauses(by=OLE)
    trial.pauses(by=EVA)
    assert trial.state.paused == Pause(by=OLE)
    trial.resumes()
    assert trial.status == "running"


def test_a_run_whose_last_work_comes_back_ends_though_it_is_paused() -> None:
    trial = Trial("- uses: thing.write")
    trial.pauses()
    trial.ok("0")
    assert trial.status == "done"


def test_a_run_that_is_telling_its_ticket_is_not_paused() -> None:
    trial = Trial("- uses: thing.write", ticket="ITSM-1")
    trial.fails("0")
    trial.pauses()
    assert trial.status == "running"
    trial.ok(ANSWER)
    assert trial.status == "failed"
