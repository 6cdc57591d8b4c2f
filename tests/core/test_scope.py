"""What an expression can see from where it stands."""

from __future__ import annotations

from pydantic import JsonValue

from regie.core.run import StepState
from regie.core.scope import Surroundings, place_in, view_steps
from regie.core.status import StepStatus

from .trial import definition

LOOPS = definition("""
- id: before
  uses: thing.look
- id: outer
  for-each: letter in ['a', 'b']
  do:
    - id: first
      uses: thing.look
    - id: inner
      for-each: number in [1, 2]
      uses: thing.look
    - id: last
      uses: thing.look
- id: after
  uses: thing.look
""")


def done(output: JsonValue = None, items: list[JsonValue] | None = None) -> StepState:
    return StepState(status=StepStatus.DONE, output=output, items=items)


def see(home: str, loop: tuple[int, ...], **states: StepState) -> dict[str, JsonValue]:
    """What is seen from a place; a step's state is given under its id, or `ID_0_1` for a loop item."""
    placed = {}
    for name, state in states.items():
        step_id, *indices = name.split("_")
        placed[step_id + (f"[{'.'.join(indices)}]" if indices else "")] = state
    return view_steps(LOOPS, placed, Surroundings(loop=loop), home)


def test_finished_steps_show_their_fields_and_their_outcome() -> None:
    seen = see("after", (), before=done({"value": 1}), outer=StepState(status=StepStatus.SKIPPED))
    assert seen == {"before": {"value": 1, "outcome": "done"}, "outer": {"outcome": "skipped"}}


def test_unfinished_steps_are_not_there() -> None:
    under_way = (StepStatus.RUNNING, StepStatus.WAITING, StepStatus.HANDLING)
    assert [see("after", (), before=StepState(status=status)) for status in under_way] == [{}, {}, {}]


def test_a_field_named_outcome_does_not_hide_the_outcome() -> None:
    assert see("after", (), before=done({"outcome": "mine"})) == {"before": {"outcome": "done"}}


def test_an_output_that_is_no_object_has_no_fields() -> None:
    assert see("after", (), before=done("text")) == {"before": {"outcome": "done"}}


def test_inside_a_loop_one_sees_the_same_item_and_what_is_outside() -> None:
    states = {"before": done(), "first_0": done({"value": "a"}), "first_1": done({"value": "b"})}
    assert see("last", (0,), **states) == {"before": {"outcome": "done"}, "first": {"value": "a", "outcome": "done"}}
    assert see("last", (1,), **states)["first"] == {"value": "b", "outcome": "done"}
    assert see("inner", (1, 0), **states)["first"] == {"value": "b", "outcome": "done"}


def test_from_outside_a_loop_its_steps_are_not_seen() -> None:
    assert see("after", (), first_0=done({"value": "a"})) == {}


def test_a_loop_shows_its_items_in_input_order_begun_or_not() -> None:
    failed = StepState(status=StepStatus.FAILED)
    seen = see("last", (0,), inner_0=done(items=[1, 2, 3]), inner_0_1=failed, inner_0_0=done({"value": 1}))
    assert seen["inner"] == {
        "outcome": "done",
        "items": [
            {"outcome": "done", "output": {"value": 1}},
            {"outcome": "failed", "output": None},
            {"outcome": "skipped"},
        ],
    }


def test_places_of_loop_items_name_every_loop_around_outermost_first() -> None:
    inner = LOOPS.by_id["inner"]
    assert place_in(inner, ()) == "inner"
    assert place_in(inner, (1, 0)) == "inner[1.0]"


def test_surroundings_add_up() -> None:
    around = Surroundings().item(1, "letter", "b").item(0, "number", 1).handling({"kind": "Terminal"})
    assert around.loop == (1, 0)
    assert around.names == {"letter": "b", "number": 1, "error": {"kind": "Terminal"}}
