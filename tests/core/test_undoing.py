"""What a failed run takes back: only what it changed, the latest first, and whatever fails meanwhile."""

from __future__ import annotations

import pytest

from regie.core.effect import EffectNote
from regie.core.places import ANSWER, undo_place, undone_place
from regie.core.report import report
from regie.core.run_commands import Perform

from .trial import Trial, failure

STEPS = """
    - id: one
      uses: thing.write
      with: { value: "${{ run.id }}" }
      undo: thing.write
    - parallel:
        - id: two
          uses: thing.write
          undo: { uses: thing.write, with: { value: "back ${{ steps.one.value }}" } }
        - id: three
          uses: thing.write
          undo: thing.write
        - uses: thing.write
    - id: last
      uses: thing.look
    """


def did(word: str, *, changed: bool = True) -> tuple[EffectNote, ...]:
    return (EffectNote(capability="thing.write", target=word, words=word, changed=changed),)


def failed_at_the_end(**more: str) -> Trial:
    trial = Trial(STEPS, **more)  # type: ignore[arg-type]  # only texts are given here
    trial.ok("one", {"value": 1}, effects=did("first"))
    trial.ok("three", effects=did("third"))
    trial.ok("two", effects=did("second"))
    trial.ok("1/2", effects=did("for ever"))
    trial.fails("last")
    return trial


@pytest.mark.parametrize("place", ["a", "close/0", "a[3]", "close/1[0.12]"])
def test_where_a_step_is_taken_back(place: str) -> None:
    assert undone_place(undo_place(place)) == place
    assert undone_place(place) is None


def test_what_was_done_last_is_taken_back_first() -> None:
    trial = failed_at_the_end()
    for place, value in (("two/undo", "back 1"), ("three/undo", None), ("one/undo", "run-1")):
        assert trial.status == "running"
        assert set(trial.out) == {place}
        work = trial.out[place]
        assert trial.outstanding() == (work,)
        assert isinstance(work, Perform)
        assert (work.uses, work.arguments.get("value"), work.timeout_s) == ("thing.write", value, 7.0)
        trial.ok(place, effects=did(f"{place} is back"))
    assert trial.status == "failed"
    assert trial.state.failure is not None
    assert trial.state.failure.kind == "Terminal"
    said = report(trial.state)
    assert "Taken back:\n- two/undo is back\n- three/undo is back\n- one/undo is back" in said
    assert "Changed:\n- first\n- third\n- second\n- for ever" in said


def test_what_fails_to_be_taken_back_stops_nothing_else_and_is_told() -> None:
    trial = failed_at_the_end(ticket="ITSM-1")
    trial.fails("two/undo", failure("Unavailable", may_retry=True))
    assert (trial.status, trial.out) == ("waiting", {})
    trial.fires("again:two/undo:1")
    trial.fails("two/undo")
    trial.ok("three/undo", effects=did("third is back"))
    trial.fails("one/undo")
    told = trial.out[ANSWER]
    assert isinstance(told, Perform)
    for words in ("- two/undo: Terminal happened", "- one/undo: Terminal happened", "- third is back"):
        assert words in str(told.arguments["text"])
    trial.ok(ANSWER)
    assert (trial.status, trial.outcome("two/undo"), trial.outcome("three/undo")) == ("failed", "failed", "done")


def test_what_was_so_before_or_was_never_done_stays_as_it_is() -> None:
    trial = Trial(STEPS)
    trial.ok("one", {"value": 1}, effects=did("first", changed=False))
    trial.ok("three", effects=did("third"))
    trial.fails("two")
    trial.ok("1/2")
    assert set(trial.out) == {"three/undo"}
    trial.postpones("three/undo", {"job": 1}, 60)
    trial.fires("again:three/undo:1")
    trial.ok("three/undo")
    assert trial.status == "failed"
    assert not {"one/undo", "two/undo"} & set(trial.state.steps)


def test_each_item_of_a_loop_is_taken_back_by_itself() -> None:
    trial = Trial("""
        - id: all
          for-each: item in ['a', 'b', 'c']
          uses: thing.write
          with: { value: "${{ item }}" }
          undo: thing.write
        - fail: no
        """)
    for index in (1, 2, 0):
        trial.ok(f"all[{index}]", effects=did(str(index)))
    for index, item in ((0, "a"), (2, "c"), (1, "b")):
        work = trial.out[f"all/undo[{index}]"]
        assert isinstance(work, Perform)
        assert work.arguments == {"value": item}
        trial.ok(work.place)
    assert trial.status == "failed"


def test_a_failure_that_was_handled_takes_nothing_back() -> None:
    trial = Trial("""
        - uses: thing.write
          undo: thing.write
        - uses: thing.write
          on-error:
            - uses: thing.look
        """)
    trial.ok("0", effects=did("it"))
    trial.fails("1")
    trial.ok("1/on-error/0")
    assert trial.status == "done"
    assert len(trial.handed) == 3


def test_a_dry_run_takes_nothing_back() -> None:
    trial = Trial("- { uses: thing.write, undo: thing.write }\n- fail: no", dry=True)
    trial.ok("0", effects=did("it"))
    assert (trial.status, len(trial.handed)) == ("failed", 1)


def test_a_way_back_that_cannot_be_worked_out_fails_the_step_before_it_changes_anything() -> None:
    trial = Trial("- { uses: thing.write, undo: { uses: thing.write, with: { value: '${{ settings.nope }}' } } }")
    assert (trial.status, trial.handed) == ("failed", [])


def test_who_cancels_while_it_is_taken_back_stops_that_too() -> None:
    trial = failed_at_the_end()
    trial.cancels()
    assert trial.status == "running"
    assert {work.place for work in trial.outstanding()} == {"two/undo"}
    trial.ok("two/undo", effects=did("second is back"))
    assert trial.status == "cancelled"
    assert not {"three/undo", "one/undo"} & set(trial.state.steps)
    assert trial.state.failure is not None
