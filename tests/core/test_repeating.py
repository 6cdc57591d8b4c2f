"""A run that repeats another from a step on: what it takes over, what it does again, what keeps it from either."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from regie.core.effect import EffectNote
from regie.core.errors import InvalidInput
from regie.core.interpreter import has_begun, outstanding
from regie.core.places import ANSWER
from regie.core.repeating import kept_digest, repeat
from regie.core.run import Parent, RunFacts, RunState
from regie.core.run_commands import StartChild
from regie.core.run_events import Begun, ChildEnded
from regie.core.status import RunStatus

from .trial import EVA, JAN, OLE, Trial

CHANGED = EffectNote(capability="thing.write", target="t", words="on: a -> b", changed=True)
STEPS = """
    - id: look
      uses: thing.look
    - id: one
      uses: thing.write
      with: { value: "${{ steps.look.value }}" }
    - id: two
      uses: thing.write
      with: { value: "${{ steps.one.value }}" }
    - id: three
      uses: thing.write
    """
APPROVED = """
    - id: approval
      uses: people.approve
      with:
        question: Well?
        covers: [{covers}]
        ask: [ {{ who: "role:one", within: 4h }} ]
    - id: first
      uses: thing.write
    - id: second
      if: steps.approval.decision == 'approved'
      uses: thing.write
    """


def facts(trial: Trial) -> RunFacts:
    return trial.facts.model_copy(update={"id": "run-2", "rerun_of": "run-1", "started_by": OLE})


def again(trial: Trial, from_step: str, now: Trial | None = None) -> RunState:
    now = now or trial
    return repeat(trial.state, trial.definition, now.definition, from_step, facts(trial))


def play(trial: Trial, state: RunState) -> Trial:
    """Let the new run begin."""
    new = Trial.__new__(Trial)
    new.__dict__.update({**trial.__dict__, "state": state, "out": {}, "handed": [], "timers": {}, "notes": []})
    assert not has_begun(state)
    assert outstanding(new.definition, new.catalogue, state) == ()
    new.take(Begun())
    assert has_begun(new.state)
    return new


def failed() -> Trial:
    trial = Trial(STEPS, started_by=JAN)
    trial.ok("look", {"value": "seen"})
    trial.ok("one", {"value": "made"}, effects=(CHANGED,))
    trial.fails("two")
    return trial


def test_what_stands_before_the_step_is_kept_and_the_rest_is_done() -> None:
    trial = failed()
    state = again(trial, "two")
    assert {place: step.kept for place, step in state.steps.items()} == {"look": True, "one": True}
    new = play(trial, state)
    work = new.out["two"]
    assert work.kind == "perform"
    assert work.arguments == {"value": "made"}
    new.ok("two")
    new.ok("three")
    assert new.status == "done"
    assert {work.place for work in new.handed} == {"two", "three"}
    assert new.state.requester == JAN


def test_what_was_kept_is_told_apart_and_never_taken_back() -> None:
    steps = "- { id: one, uses: thing.write, undo: thing.write }\n- { id: two, uses: thing.write }"
    trial = Trial(steps, ticket="ITSM-1")
    trial.ok("one", effects=(CHANGED,))
    trial.ok("two")
    new = play(trial, again(trial, "two"))
    new.fails("two")
    assert set(new.out) == {ANSWER}
    assert "Nothing was changed" in str(getattr(new.out[ANSWER], "arguments", {})["text"])


def test_a_yes_is_not_taken_over_for_what_is_done_again() -> None:
    trial = Trial(APPROVED.format(covers="second"), started_by=JAN)
    trial.plans("approval")
    trial.finds("approval", EVA)
    trial.decides("approval", EVA)
    trial.ok("first", effects=(CHANGED,))
    trial.fails("second")
    new = play(trial, again(trial, "second"))
    assert new.outcome("first") == "done"
    new.plans("approval")
    new.finds("approval", EVA, OLE)
    opened = new.step("approval").approval
    assert opened is not None
    assert opened.asked == (EVA,), "whoever repeats a run does not approve it"
    new.decides("approval", EVA, says_yes=False)
    assert (new.outcome("second"), new.status) == ("skipped", "refused")


def test_what_was_looked_at_behind_an_answer_that_is_asked_for_again_is_looked_at_again() -> None:
    looked = APPROVED.format(covers="second").replace(
        "    - id: second",
        """    - id: look
      uses: thing.look
    - id: other
      if: steps.look.value != 'same'
      fail: It has changed.
    - id: second""",
    )
    trial = Trial(looked, started_by=JAN)
    trial.plans("approval")
    trial.finds("approval", EVA)
    trial.decides("approval", EVA)
    trial.ok("first", effects=(CHANGED,))
    trial.ok("look", {"value": "same"})
    trial.fails("second")
    new = play(trial, again(trial, "second"))
    assert new.outcome("first") == "done", "what has changed something is not done again"
    new.plans("approval")
    new.finds("approval", EVA)
    new.decides("approval", EVA)
    new.ok("look", {"value": "another"})
    assert (new.outcome("other"), new.status) == ("failed", "failed")


def test_a_yes_for_what_is_kept_is_kept_and_one_that_covers_nothing_is_asked_again() -> None:
    for covers, is_kept in (("first", True), ("", False)):
        trial = Trial(APPROVED.format(covers=covers), started_by=JAN)
        trial.plans("approval")
        trial.finds("approval", EVA)
        trial.decides("approval", EVA)
        trial.ok("first")
        trial.fails("second")
        assert ("approval" in again(trial, "second").steps) == is_kept


def test_a_loop_and_its_items_are_kept_together() -> None:
    trial = Trial("- { id: all, for-each: 'x in [1, 2]', uses: thing.write }\n- { id: last, uses: thing.write }")
    trial.ok("all[0]", 1)
    trial.ok("all[1]", 2)
    trial.ok("last")
    assert set(again(trial, "last").steps) == {"all", "all[0]", "all[1]"}
    assert kept_digest(again(trial, "last")) != kept_digest(again(trial, "all"))


def test_the_definition_may_change_behind_and_not_before() -> None:
    trial = failed()
    mended = Trial(STEPS.replace("id: three", "id: mended"))
    assert set(again(trial, "two", mended).steps) == {"look", "one"}
    for broken in (
        Trial(STEPS.replace("steps.look.value", "'x'")),
        Trial(STEPS, head="input: { a: { type: text, default: x } }"),
    ):
        with pytest.raises(InvalidInput, match="has changed since"):
            again(trial, "two", broken)


def test_a_comment_in_the_file_changes_nothing() -> None:
    trial = failed()
    moved = Trial(STEPS.replace("    - id: one", "\n\n    - id: one"))
    assert moved.definition.digest != trial.definition.digest
    assert set(again(trial, "two", moved).steps) == {"look", "one"}


@pytest.mark.parametrize(
    ("from_step", "says"),
    [("three", "so it has no result to keep"), ("tow", "has no step 'tow'"), ("", "has no step")],
)
def test_from_where_it_cannot_be_repeated(from_step: str, says: str) -> None:
    with pytest.raises(InvalidInput, match=says) as caught:
        again(failed(), from_step)
    assert caught.value.hint


def test_which_runs_cannot_be_repeated() -> None:
    running = Trial(STEPS)
    with pytest.raises(InvalidInput, match="is not over"):
        again(running, "look")
    dry = Trial("- { id: one, uses: thing.look }", dry=True)
    dry.ok("one")
    with pytest.raises(InvalidInput, match="dry run"):
        again(dry, "one")
    unread = Trial(
        "- { id: one, uses: thing.look }", head="input: { a: { type: text, from: ticket.title } }", ticket="T-1"
    )
    unread.fails("start")
    with pytest.raises(InvalidInput, match="never came to its first step"):
        again(unread, "one")


def test_what_was_taken_back_is_not_kept() -> None:
    trial = Trial("- { id: one, uses: thing.write, undo: thing.write }\n- { id: two, uses: thing.write }")
    trial.ok("one", effects=(CHANGED,))
    trial.fails("two")
    trial.ok("one/undo")
    with pytest.raises(InvalidInput, match="was taken back"):
        again(trial, "two")
    assert again(trial, "one").steps == {}


def test_a_run_that_ended_before_the_step_has_nothing_behind_it() -> None:
    trial = Trial("- { id: one, uses: thing.look }\n- { id: stop, end: enough }\n- { id: two, uses: thing.look }")
    trial.ok("one")
    with pytest.raises(InvalidInput, match="ended at 'stop'"):
        again(trial, "two")


def test_an_approval_within_a_kept_step_is_not_asked_again_by_itself() -> None:
    trial = Trial("""
        - id: both
          do:
            - id: approval
              uses: people.approve
              with: { question: Well?, covers: [act], ask: [ { who: "role:one", within: 4h } ] }
        - id: act
          uses: thing.write
        """)
    trial.plans("approval")
    trial.finds("approval", EVA)
    trial.decides("approval", EVA)
    trial.ok("act")
    with pytest.raises(InvalidInput, match="asked again") as caught:
        again(trial, "act")
    assert caught.value.hint == "Repeat from both."
    with pytest.raises(InvalidInput, match="stands within 'both'"):
        again(trial, "approval")


@given(st.integers(1, 6), st.integers(0, 6), st.integers(0, 6))
def test_each_step_is_done_once_over_both_runs_unless_it_is_repeated(count: int, fails_at: int, from_at: int) -> None:
    trial = Trial("\n".join(f"- {{ id: s{number}, uses: thing.write }}" for number in range(count)))
    for number in range(count):
        if number == fails_at:
            trial.fails(f"s{number}")
            break
        trial.ok(f"s{number}")
    if from_at > min(fails_at, count - 1):
        with pytest.raises(InvalidInput):
            again(trial, f"s{from_at}")
        return
    new = play(trial, again(trial, f"s{from_at}"))
    for number in range(from_at, count):
        new.ok(f"s{number}")
    assert new.status == "done"
    assert [work.place for work in new.handed] == [f"s{number}" for number in range(from_at, count)]


def test_a_child_is_repeated_through_its_parent_only() -> None:
    trial = failed()
    parent = Parent(run="run-0", place="it", lineage=("things.outer:it",))
    child = trial.state.model_copy(update={"facts": trial.facts.model_copy(update={"parent": parent})})
    with pytest.raises(InvalidInput, match="is a child of run run-0") as caught:
        repeat(child, trial.definition, trial.definition, "two", facts(trial))
    assert caught.value.hint == "Repeat that one, from step it."


@pytest.mark.parametrize(("ticket", "may"), [("T-1", True), ("", False)])
def test_a_child_is_started_again_only_for_a_ticket(ticket: str, *, may: bool) -> None:
    trial = Trial("- { id: it, run: things.child }", ticket=ticket)
    started = next(note for note in trial.notes if isinstance(note, StartChild))
    trial.take(ChildEnded(place="it", run=started.run, status=RunStatus.DONE))
    assert trial.status == "done"
    if may:
        assert again(trial, "it").steps == {}
        return
    with pytest.raises(InvalidInput, match="a run of its own, for no ticket"):
        again(trial, "it")
