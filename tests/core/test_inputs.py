"""A run's input: what each type takes, where values come from, what is said about wrong ones."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import JsonValue

from regie.core.definition import Definition
from regie.core.errors import InvalidInput
from regie.core.inputs import build_input, needs_ticket

from .trial import definition


def fields(written: str) -> Definition:
    return definition("- { id: no, uses: thing.look }", head="input:\n" + written)


def one(written: str, value: JsonValue) -> JsonValue:
    """One field of this type, handed in."""
    return build_input(fields(f"  it: {written}"), {"it": value}, None)["it"]


@pytest.mark.parametrize(
    ("written", "value", "becomes"),
    [
        ("{ type: text }", " Jan ", "Jan"),
        ("{ type: email }", " jan.janssen@example.com ", "jan.janssen@example.com"),
        ("{ type: date }", "2026-11-30", "2026-11-30"),
        ("{ type: datetime }", "2026-11-30T17:00:00+01:00", "2026-11-30T17:00:00+01:00"),
        ("{ type: datetime }", "2026-11-30T16:00:00Z", "2026-11-30T16:00:00+00:00"),
        ("{ type: integer }", 0, 0),
        ("{ type: number }", 2.5, 2.5),
        ("{ type: number }", 2, 2),
        ("{ type: boolean }", False, False),
        ("{ type: choice, one-of: [low, high] }", "low", "low"),
        ("{ type: list }", ["a", "b"], ["a", "b"]),
        ("{ type: list }", [], []),
    ],
)
def test_a_value_of_its_type_is_taken(written: str, value: JsonValue, becomes: JsonValue) -> None:
    taken = one(written, value)
    assert taken == becomes
    assert type(taken) is type(becomes)


@pytest.mark.parametrize(
    ("written", "value", "says"),
    [
        ("{ type: text }", 5, "must be text"),
        ("{ type: email }", "Jan", "must be one e-mail address"),
        ("{ type: email }", "Jan <jan@example.com>", "must be one e-mail address"),
        ("{ type: email }", "jan@example.com, eva@example.com", "names more than one address"),
        ("{ type: email }", "jan@example.com eva@example.com", "names more than one address"),
        ("{ type: email }", ["jan@example.com"], "must be text"),
        ("{ type: email }", "j" * 1_000_000, "must be one e-mail address"),
        ("{ type: email }", "jan\x00@example.com", "must be one e-mail address"),
        ("{ type: date }", "30.11.2026", "must be a date"),
        ("{ type: date }", "2026-02-30", "must be a date"),
        ("{ type: datetime }", "2026-11-30T17:00:00", "must say its time zone"),
        ("{ type: datetime }", "tomorrow", "must be a time"),
        ("{ type: integer }", 2.0, "must be a whole number"),
        ("{ type: integer }", True, "must be a whole number"),
        ("{ type: integer }", "2", "must be a whole number"),
        ("{ type: integer }", 2**63, "must not be beyond 9223372036854775807"),
        ("{ type: number }", -(2**63), "must not be beyond 9223372036854775807"),
        # More than a float can hold.
        ("{ type: number }", 10**400, "must not be beyond 9223372036854775807"),
        ("{ type: number }", False, "must be a number"),
        ("{ type: number }", "2", "must be a number"),
        ("{ type: number }", math.inf, "must be a number"),
        ("{ type: boolean }", "yes", "must be true or false"),
        ("{ type: boolean }", 1, "must be true or false"),
        ("{ type: choice, one-of: [low, high] }", "middle", "must be one of low, high"),
        ("{ type: list }", "a", "must be a list of texts"),
        ("{ type: list }", ["a", 1], "must be a list of texts"),
    ],
)
def test_a_value_of_another_type_is_refused_in_words(written: str, value: JsonValue, says: str) -> None:
    with pytest.raises(InvalidInput, match=says):
        one(written, value)


SEVERAL = """
  employee: { type: email, title: Employee, from: ticket.fields.employee }
  last_day: { type: date, from: ticket.fields.last_day, required: false }
  queue: { type: text, default: ITSM }
"""


def test_every_fault_is_named_at_once_with_the_title_people_know() -> None:
    with pytest.raises(InvalidInput) as caught:
        build_input(fields(SEVERAL), {"qeue": "SOC"}, {"fields": {"last_day": "soon"}})
    message = caught.value.message
    assert "qeue is no field of it (did you mean queue?)" in message
    assert "Employee (employee) is missing" in message
    assert "last_day must be a date" in message
    assert "soon" not in message, "what somebody wrote is not repeated"


@pytest.mark.parametrize("empty", [None, "", "   "])
def test_nothing_is_nothing_however_it_is_written(empty: JsonValue) -> None:
    built = build_input(
        fields(SEVERAL), {"employee": "jan@example.com", "queue": empty}, {"fields": {"last_day": empty}}
    )
    assert built == {"employee": "jan@example.com", "last_day": None, "queue": "ITSM"}
    with pytest.raises(InvalidInput, match="Employee"):
        build_input(fields(SEVERAL), {"employee": empty}, None)


def test_what_is_handed_in_wins_and_the_ticket_fills_the_rest() -> None:
    ticket: dict[str, JsonValue] = {"fields": {"employee": "jan@example.com", "last_day": "2026-11-30"}}
    built = build_input(fields(SEVERAL), {"employee": "eva@example.com"}, ticket)
    assert built == {"employee": "eva@example.com", "last_day": "2026-11-30", "queue": "ITSM"}


def test_false_and_zero_are_values() -> None:
    written = "  on: { type: boolean, default: true }\n  count: { type: integer, default: 5 }\n"
    assert build_input(fields(written), {"on": False, "count": 0}, None) == {"on": False, "count": 0}


@pytest.mark.parametrize("ticket", [{}, {"fields": None}, {"fields": []}, {"fields": {"employee": {"email": "x"}}}])
def test_a_ticket_of_an_unexpected_shape_is_wrong_input_and_nothing_worse(ticket: dict[str, JsonValue]) -> None:
    with pytest.raises(InvalidInput, match="Employee"):
        build_input(fields(SEVERAL), {}, ticket)


def test_the_ticket_is_needed_when_a_field_comes_from_it() -> None:
    assert needs_ticket(fields(SEVERAL))
    assert not needs_ticket(fields("  queue: { type: text }"))


ANY_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.just(10**400) | st.floats(allow_nan=False) | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)
ALL_TYPES = fields("""
  a: { type: text, from: ticket.fields.a }
  b: { type: email, from: ticket.fields.b }
  c: { type: date, from: ticket.fields.c }
  d: { type: datetime, from: ticket.fields.d }
  e: { type: integer, from: ticket.fields.e }
  f: { type: number, from: ticket.fields.f }
  g: { type: boolean, from: ticket.fields.g }
  h: { type: choice, one-of: [x, y], from: ticket.fields.h }
  i: { type: list, from: ticket.fields.i }
""")


@given(st.dictionaries(st.sampled_from("abcdefghi"), ANY_JSON))
def test_whatever_is_handed_in_it_is_input_or_invalid_input(values: dict[str, JsonValue]) -> None:
    try:
        built = build_input(ALL_TYPES, {}, {"fields": values})
    except InvalidInput:
        return
    assert build_input(ALL_TYPES, built, None) == built, "what was accepted is accepted again"
