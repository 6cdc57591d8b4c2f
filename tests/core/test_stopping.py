"""A run that fails as a whole: its deadline is over, or it has reached its limit of changes."""

from __future__ import annotations

import pytest

from regie.core.durations import in_words, parse_duration
from regie.core.effect import EffectNote
from regie.core.places import ANSWER
from regie.core.run_commands import CancelChild, CloseApproval, Perform, SetTimer, StartChild
from regie.core.run_events import ChildEnded
from regie.core.status import RunStatus
from regie.core.stopping import DEADLINE, timers

from .test_cancelling import APPROVAL
from .trial import EVA, Trial, failure

SLA = "sla: { finish: 4h, stop: 3d }"
CHANGED = EffectNote(capability="thing.write", target="t", words="on: a -> b", changed=True)


def fires(trial: Trial) -> None:
    trial.timers[DEADLINE] = 0.0
    trial.fires(DEADLINE)


def test_the_deadline_runs_from_the_start_and_a_dry_run_has_none() -> None:
    trial = Trial("- uses: thing.write", head=SLA)
    assert timers(trial.definition, trial.facts) == (SetTimer(timer=DEADLINE, after_s=3 * 86_400),)
    assert timers(trial.definition, trial.facts.model_copy(update={"dry": True})) == ()
    assert timers(Trial("- uses: thing.write").definition, trial.facts) == ()


def test_what_waits_ends_what_is_out_is_awaited_and_then_the_run_fails() -> None:
    trial = Trial(
        """
        - parallel:
            - wait: 30d
            - id: it
              uses: thing.write
              on-error:
                - uses: thing.look
        - uses: thing.write
        """,
        head=SLA,
        ticket="ITSM-1",
    )
    fires(trial)
    assert (trial.status, trial.outcome("0/0"), set(trial.out)) == ("running", "cancelled", {"it"})
    trial.fails("it", failure("Unavailable", may_retry=True))
    assert (trial.outcome("it"), set(trial.out)) == ("failed", {ANSWER})
    told = trial.out[ANSWER]
    assert isinstance(told, Perform)
    assert "did not come to its end within 3d" in str(told.arguments["text"])
    trial.ok(ANSWER)
    assert trial.status == "failed"
    assert trial.state.failure is not None
    assert trial.state.failure.kind == "TimedOut"


def test_what_was_changed_is_taken_back_with_every_try_that_it_needs() -> None:
    trial = Trial("- { id: it, uses: thing.write, undo: thing.write }\n- wait: 30d", head=SLA)
    trial.ok("it", effects=(CHANGED,))
    fires(trial)
    assert set(trial.out) == {"it/undo"}
    trial.fails("it/undo", failure("Unavailable", may_retry=True))
    trial.fires("again:it/undo:1")
    fires(trial)
    trial.ok("it/undo")
    assert (trial.status, trial.outcome("it/undo")) == ("failed", "done")


def test_nobody_needs_to_answer_any_more() -> None:
    trial = Trial(APPROVAL, head=SLA)
    trial.plans("approval")
    trial.finds("approval", EVA)
    fires(trial)
    assert trial.said(CloseApproval) == [CloseApproval(place="approval", decision="cancelled")]
    assert (trial.status, trial.timers) == ("failed", {})


def test_a_run_that_has_not_begun_reads_nothing() -> None:
    trial = Trial(
        "- uses: thing.write", head=f"{SLA}\ninput: {{ a: {{ type: text, from: ticket.title }} }}", ticket="T-1"
    )
    fires(trial)
    trial.fails("start", failure("Unavailable", may_retry=True))
    assert set(trial.out) == {ANSWER}
    trial.ok(ANSWER)
    assert trial.state.failure is not None
    assert trial.state.failure.kind == "TimedOut"


def test_the_deadline_changes_nothing_of_a_run_that_is_ending_anyhow() -> None:
    trial = Trial("- uses: thing.write", head=SLA, ticket="T-1")
    trial.fails("0")
    fires(trial)
    trial.ok(ANSWER)
    assert trial.state.failure is not None
    assert trial.state.failure.kind == "Terminal"


def test_the_deadline_waits_while_the_run_is_paused() -> None:
    trial = Trial("- wait: 30d", head=SLA)
    trial.pauses()
    fires(trial)
    assert trial.status == "paused"
    trial.resumes()
    assert trial.status == "failed"


def test_a_cancelled_run_is_not_stopped_and_a_stopped_one_can_be_cancelled() -> None:
    trial = Trial("- uses: thing.write", head=SLA)
    trial.cancels()
    fires(trial)
    trial.ok("0")
    assert trial.status == "cancelled"
    trial = Trial("- uses: thing.write", head=SLA)
    fires(trial)
    trial.cancels()
    trial.ok("0")
    assert trial.status == "cancelled"


def test_one_step_that_has_reached_the_limit_stops_the_run_past_its_on_error() -> None:
    trial = Trial("""
        - for-each: item in [1, 2, 3]
          at-most: 2
          uses: thing.write
          on-error:
            - uses: thing.look
        - uses: thing.look
        """)
    trial.ok("0[0]")
    trial.fails("0[1]", failure("LimitReached"))
    assert trial.status == "running"
    trial.ok("0[2]")
    assert trial.status == "failed"
    assert trial.state.failure is not None
    assert trial.state.failure.kind == "LimitReached"


def test_a_child_is_cancelled_with_it_and_its_end_is_awaited() -> None:
    trial = Trial("- { id: it, run: things.child }\n- uses: thing.look", head=SLA)
    started = next(note for note in trial.notes if isinstance(note, StartChild))
    fires(trial)
    [cancel] = trial.said(CancelChild)
    assert isinstance(cancel, CancelChild)
    assert (cancel.run, cancel.by, trial.status) == (started.run, "the run run-1", "waiting")
    trial.take(ChildEnded(place="it", run=started.run, status=RunStatus.CANCELLED))
    assert (trial.outcome("it"), trial.status) == ("cancelled", "failed")
    assert trial.state.failure is not None
    assert trial.state.failure.kind == "TimedOut"


@pytest.mark.parametrize("text", ["90s", "15m", "1h30m", "8h", "2d", "1w2d3h4m5s"])
def test_a_length_of_time_in_words_means_the_same(text: str) -> None:
    assert parse_duration(in_words(parse_duration(text))) == parse_duration(text)
