"""A run's input: taken from what was handed in and from the ticket, checked field by field. Used by the interpreter."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from datetime import date, datetime
from typing import NamedTuple

from pydantic import JsonValue

from regie.core.definition import Definition, InputField, InputType
from regie.core.errors import InvalidInput
from regie.core.nearest import did_you_mean
from regie.core.operations import MAX_INTEGER

LONGEST_ADDRESSES = 2_000
"""Characters in which addresses are looked for; one has at most 254 (RFC 5321, 4.5.3.1.3)."""
_PART = r"[^@\s,;<>\"\x00-\x1f\x7f]+"
_ADDRESS = re.compile(rf"{_PART}@{_PART}\.{_PART}")


class Read(NamedTuple):
    """Input as read: each field of its declared type, and what is wrong, in words, by the name of its field."""

    values: dict[str, JsonValue]
    wrong: dict[str, str]


def read_input(
    definition: Definition, given: Mapping[str, JsonValue], ticket: Mapping[str, JsonValue] | None = None
) -> Read:
    """Read the input of a run, as far as it can be read.

    Args:
        definition: Says which fields there are.
        given: Values handed in with the start; they win over the ticket's.
        ticket: The ticket as read (the record `ticket.read` gives), if there is one.
    """
    known = {field.name for field in definition.input}
    wrong = {name: _unknown(name, known) for name in given if name not in known}
    values: dict[str, JsonValue] = {}
    for field in definition.input:
        value = given.get(field.name)
        if value is None and field.source and ticket is not None:
            value = follow({"ticket": dict(ticket)}, field.source)
        if _is_nothing(value):
            if field.required and field.default is None:
                wrong[field.name] = "is missing"
            values[field.name] = field.default
            continue
        try:
            values[field.name] = read_field(field, value)
        except ValueError as error:
            wrong[field.name] = str(error)
    return Read(values, wrong)


def build_input(
    definition: Definition, given: Mapping[str, JsonValue], ticket: Mapping[str, JsonValue] | None
) -> dict[str, JsonValue]:
    """The input of a run, each field of its declared type. For the arguments see `read_input`.

    Raises:
        InvalidInput: Names every field that is missing, unknown or not of its type.
    """
    read = read_input(definition, given, ticket)
    _require_none(definition, read.wrong)
    return read.values


def check_given(definition: Definition, given: Mapping[str, JsonValue]) -> None:
    """Check what is handed in beside a ticket that has not been read yet.

    Raises:
        InvalidInput: Names every field that is unknown or not of its type.
    """
    some = {name: value for name, value in given.items() if not _is_nothing(value)}
    wrong = read_input(definition, some).wrong
    _require_none(definition, {name: what for name, what in wrong.items() if name in some})


def _is_nothing(value: JsonValue) -> bool:
    return value is None or (isinstance(value, str) and not value.strip())


def _require_none(definition: Definition, wrong: Mapping[str, str]) -> None:
    if wrong:
        titles = {field.name: _name(field) for field in definition.input}
        told = [f"{titles.get(name, name)} {what}" for name, what in wrong.items()]
        raise InvalidInput(
            f"The input of {definition.workflow} cannot be used: {'; '.join(told)}.",
            hint="Correct it and start again.",
        )


def needs_ticket(definition: Definition) -> bool:
    """Whether some field is read from the ticket."""
    return any(field.source and field.source.startswith("ticket.") for field in definition.input)


def follow(data: JsonValue, path: str) -> JsonValue:
    """What stands at a path such as `ticket.fields.employee`; null where it leads nowhere."""
    for part in path.split("."):
        if not isinstance(data, dict) or part not in data:
            return None
        data = data[part]
    return data


def _name(field: InputField) -> str:
    return f"{field.title} ({field.name})" if field.title else field.name


def _unknown(name: str, known: set[str]) -> str:
    hint = did_you_mean(name, known)
    return "is no field of it" + (f" ({hint})" if hint else "")


def read_field(field: InputField, value: JsonValue) -> JsonValue:
    """A value in the declared type of its field.

    Raises:
        ValueError: It is not of that type; says in words what it should be.
    """
    match field.type:
        case InputType.BOOLEAN:
            if isinstance(value, bool):
                return value
            raise ValueError("must be true or false")
        case InputType.INTEGER:
            if not isinstance(value, int) or isinstance(value, bool):
                raise ValueError("must be a whole number")
            return _bounded(value)
        case InputType.NUMBER:
            if isinstance(value, float) and math.isfinite(value):
                return value
            if not isinstance(value, int) or isinstance(value, bool):
                raise ValueError("must be a number")
            return _bounded(value)
        case InputType.LIST:
            if isinstance(value, list) and all(isinstance(item, str) for item in value):
                return value
            raise ValueError("must be a list of texts")
        case _:
            if not isinstance(value, str):
                raise ValueError("must be text")
            return _read_text(field, value.strip())


def _bounded(value: int) -> int:
    """A number that definitions can reckon with."""
    if abs(value) > MAX_INTEGER:
        raise ValueError(f"must not be beyond {MAX_INTEGER}")
    return value


def _read_text(field: InputField, text: str) -> str:
    match field.type:
        case InputType.EMAIL:
            return _read_address(text)
        case InputType.DATE:
            try:
                return date.fromisoformat(text).isoformat()
            except ValueError:
                raise ValueError("must be a date such as 2026-11-30") from None
        case InputType.DATETIME:
            try:
                moment = datetime.fromisoformat(text)
            except ValueError:
                raise ValueError("must be a time such as 2026-11-30T17:00:00+01:00") from None
            if moment.tzinfo is None:
                raise ValueError("must say its time zone, such as 2026-11-30T17:00:00+01:00")
            return moment.isoformat()
        case InputType.CHOICE if text not in field.one_of:
            raise ValueError(f"must be one of {', '.join(field.one_of)}")
    return text


def _read_address(text: str) -> str:
    # Looking for addresses in a long text takes the square of its length.
    found = _ADDRESS.findall(text) if len(text) <= LONGEST_ADDRESSES else []
    if len(found) > 1:
        raise ValueError("names more than one address")
    if found != [text]:
        raise ValueError("must be one e-mail address such as jan.janssen@example.com")
    return text
