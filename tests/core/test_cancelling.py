"""A run that is cancelled: nothing new begins, what is out comes back, and the ticket is told once."""

from __future__ import annotations

from regie.core.places import ANSWER
from regie.core.run_commands import CloseApproval, CloseRun, Perform
from regie.core.status import RunStatus, StepStatus

from .trial import EVA, JAN, OLE, Trial, failure

APPROVAL = """
    - id: approval
      uses: people.approve
      with:
        question: Well?
        ask:
          - { who: "role:one", within: 4h, remind: 1h }
          - { who: "role:two", within: 4h }
    - uses: thing.write
    """


def test_work_that_is_out_is_awaited_and_nothing_new_begins() -> None:
    trial = Trial("""
        - id: first
          parallel:
            - uses: thing.write
            - do:
                - uses: thing.look
                - uses: thing.write
        - uses: thing.write
        """)
    trial.cancels(reason="Not needed.")
    assert not trial.commands
    assert trial.status == "running"
    assert {work.place for work in trial.outstanding()} == {"first/0", "first/1/0"}
    trial.ok("first/0")
    assert trial.status == "running"
    trial.ok("first/1/0")
    assert trial.status == "cancelled"
    outcomes = {place: step.status.value for place, step in trial.state.steps.items()}
    assert outcomes == {"first": "cancelled", "first/0": "done", "first/1": "cancelled", "first/1/0": "done"}
    assert trial.commands[-1] == CloseRun(status=RunStatus.CANCELLED)
    assert len(trial.handed) == 2


def test_what_only_waits_ends_at_once() -> None:
    trial = Trial("""
        - parallel:
            - wait: 3d
            - id: retried
              uses: thing.write
            - id: later
              uses: thing.write
            - for-each: item in ['1h', '2h']
              at-most: 1
              do:
                - wait: ${{ item }}
        - uses: thing.look
        """)
    trial.fails("retried", failure("Unavailable", may_retry=True))
    trial.postpones("later", {"job": 1}, 60)
    assert len(trial.timers) == 4
    trial.cancels()
    assert trial.timers == {}
    assert trial.status == "cancelled"
    assert {step.status for step in trial.state.steps.values()} == {StepStatus.CANCELLED}
    assert (why := trial.step("later").failure) is not None
    assert why.kind == "OutcomeUnknown"


def test_what_people_were_asked_is_withdrawn() -> None:
    trial = Trial(APPROVAL)
    trial.plans("approval")
    trial.finds("approval", EVA)
    assert set(trial.timers) == {"rung:approval:0", "remind:approval:0"}
    trial.cancels()
    assert trial.said(CloseApproval) == [CloseApproval(place="approval", decision="cancelled")]
    assert (trial.status, trial.timers) == ("cancelled", {})


def test_nobody_decides_and_nobody_further_is_asked_after_it() -> None:
    trial = Trial(APPROVAL)
    trial.plans("approval")
    trial.finds("approval", EVA)
    trial.fires("rung:approval:0")
    trial.cancels()
    assert trial.said(CloseApproval) == [CloseApproval(place="approval", decision="cancelled")]
    trial.decides("approval", EVA)
    assert trial.status == "running"
    trial.finds("approval", OLE)
    assert (trial.status, trial.outcome("approval")) == ("cancelled", "cancelled")
    assert trial.said(CloseApproval) == [CloseApproval(place="approval", decision="cancelled")]


def test_a_lookup_that_fails_after_it_withdraws_nothing_twice() -> None:
    trial = Trial(APPROVAL)
    trial.plans("approval")
    trial.finds("approval", EVA)
    trial.fires("rung:approval:0")
    trial.cancels()
    trial.fails("approval", failure("Unavailable", may_retry=True))
    assert (trial.status, trial.outcome("approval")) == ("cancelled", "failed")
    assert trial.said(CloseApproval) == [CloseApproval(place="approval", decision="cancelled")]


def test_nobody_is_asked_when_the_plan_comes_too_late() -> None:
    trial = Trial(APPROVAL)
    trial.cancels()
    trial.plans("approval")
    assert trial.status == "cancelled"
    assert trial.said(CloseApproval) == []


def test_a_failure_after_it_is_neither_tried_again_nor_handled() -> None:
    trial = Trial("""
        - id: it
          uses: thing.write
          on-error:
            - uses: thing.write
        """)
    trial.cancels()
    trial.fails("it", failure("Unavailable", may_retry=True))
    assert (trial.status, trial.outcome("it"), trial.timers) == ("cancelled", "failed", {})
    assert trial.state.failure == trial.step("it").failure


def test_handling_stops_where_it_is() -> None:
    trial = Trial("""
        - id: it
          uses: thing.write
          on-error:
            - uses: thing.write
            - uses: thing.write
        """)
    trial.fails("it")
    trial.cancels()
    trial.ok("it/on-error/0")
    assert (trial.status, trial.outcome("it")) == ("cancelled", "cancelled")
    assert trial.outcome("it/on-error/1") is None


def test_a_change_that_takes_effect_later_is_not_asked_about_again() -> None:
    trial = Trial("- { id: it, uses: thing.write }", ticket="ITSM-1")
    trial.cancels()
    trial.postpones("it", {"job": 1}, 60)
    assert trial.timers == {}
    assert (why := trial.step("it").failure) is not None
    assert why.kind == "OutcomeUnknown"
    told = trial.out[ANSWER]
    assert isinstance(told, Perform)
    assert "had not taken effect yet" in str(told.arguments["text"])


def test_the_ticket_is_told_once_by_whom_why_and_what_was_changed() -> None:
    trial = Trial("- { uses: thing.write }\n- { uses: thing.write }", ticket="ITSM-1")
    trial.cancels(by=OLE, reason="Jan stays.")
    assert ANSWER not in trial.out
    trial.ok("0")
    told = trial.out[ANSWER]
    assert isinstance(told, Perform)
    assert str(told.arguments["text"]).startswith(f"This request was cancelled by {OLE}. Jan stays.\n\nNothing was")
    trial.fails(ANSWER, failure("Unavailable", may_retry=True))
    assert trial.status == "waiting"
    trial.fires(f"again:{ANSWER}:1")
    assert trial.out[ANSWER] == told.model_copy(update={"attempt": 2})
    trial.cancels(by=EVA)
    trial.ok(ANSWER)
    assert trial.status == "cancelled"


def test_before_the_ticket_is_read_nothing_is_read() -> None:
    trial = Trial("- uses: thing.write", head="input: { a: { type: text, from: ticket.title } }", ticket="ITSM-1")
    trial.fails("start", failure("Unavailable", may_retry=True))
    trial.cancels()
    assert (trial.outcome("start"), set(trial.out)) == ("cancelled", {ANSWER})
    trial.ok(ANSWER)
    assert trial.status == "cancelled"


def test_the_ticket_is_not_told_of_wrong_input_as_well() -> None:
    trial = Trial("- uses: thing.write", head="input: { a: { type: text, from: ticket.title } }", ticket="ITSM-1")
    trial.cancels()
    trial.ok("start", {"title": ""})
    told = trial.out[ANSWER]
    assert isinstance(told, Perform)
    assert "cancelled" in str(told.arguments["text"])
    trial.ok(ANSWER)
    assert trial.status == "cancelled"


def test_a_run_that_has_failed_and_tells_so_cannot_be_cancelled() -> None:
    trial = Trial("- uses: thing.write", ticket="ITSM-1")
    trial.fails("0")
    told = trial.out[ANSWER]
    trial.cancels()
    assert not trial.commands
    assert trial.outstanding() == (told,)
    trial.ok(ANSWER)
    assert trial.status == "failed"


def test_a_last_step_that_comes_back_after_it_does_not_make_the_run_done() -> None:
    trial = Trial("- uses: thing.write", started_by=JAN)
    trial.cancels()
    trial.ok("0")
    assert (trial.status, trial.outcome("0")) == ("cancelled", "done")
