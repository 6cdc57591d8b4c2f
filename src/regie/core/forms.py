"""A form made of a workflow's input: what people typed, as values. Pure; the pages show it."""

from __future__ import annotations

from collections.abc import Mapping

from pydantic import JsonValue

from regie.core.definition import Definition, InputField, InputType
from regie.core.inputs import Read, read_input

LONGEST_TEXT = 10_000
"""Characters of one field."""


def read_typed(definition: Definition, typed: Mapping[str, str]) -> tuple[dict[str, JsonValue], Read]:
    """What somebody typed, as input to hand in, and that input as read.

    Args:
        definition: Says which fields there are; what is typed for others does not count.
        typed: Text by field. A box that is not ticked is not there.
    """
    given: dict[str, JsonValue] = {}
    wrong: dict[str, str] = {}
    for field in definition.input:
        text = typed.get(field.name, "")
        if len(text) > LONGEST_TEXT:
            wrong[field.name] = f"must have at most {LONGEST_TEXT} characters"
        elif field.type is InputType.BOOLEAN:
            given[field.name] = field.name in typed
        elif text.strip():
            given[field.name] = _value(field, text)
    read = read_input(definition, given)
    return given, Read(read.values, {**read.wrong, **wrong})


def _value(field: InputField, text: str) -> JsonValue:
    """A typed text in the field's JSON type, or the text itself when it is none: reading says what is wrong with it."""
    match field.type:
        case InputType.INTEGER:
            return _number(text, int)
        case InputType.NUMBER:
            return _number(text, float)
        case InputType.LIST:
            return [line.strip() for line in text.splitlines() if line.strip()]
        case _:
            return text.strip()


def _number(text: str, kind: type[int | float]) -> JsonValue:
    try:
        return kind(text.strip())
    except ValueError:
        return text
