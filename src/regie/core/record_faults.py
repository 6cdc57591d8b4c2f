"""What pydantic finds wrong with a record, as faults with positions. Used for workspace files and block arguments."""

from __future__ import annotations

import typing
from collections.abc import Iterator
from typing import Any

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from regie.core.errors import Fault
from regie.core.located import Node, Source
from regie.core.nearest import did_you_mean

_MESSAGES = {
    "missing": "{name!r} is missing",
    "extra_forbidden": "{name!r} is not known here",
    "string_type": "a text belongs here",
    "int_type": "a whole number belongs here",
    "int_from_float": "a whole number belongs here",
    "float_type": "a number belongs here",
    "bool_type": "true or false belongs here",
    "list_type": "a list belongs here",
    "tuple_type": "a list belongs here",
    "dict_type": "an object belongs here",
    "model_type": "an object belongs here",
    "literal_error": "one of these belongs here: {expected}",
    "enum": "one of these belongs here: {expected}",
}


def record_faults(
    error: ValidationError, model: type[BaseModel], source: Source, node: Node, *, is_part: bool = False
) -> list[Fault]:
    """One fault for each finding.

    Args:
        error: What pydantic raised.
        model: The record it was to be.
        source: The file.
        node: The value in the file that was to be the record.
        is_part: Only some fields of the record were looked at, so none of its own is missing.
    """
    return [
        _fault(found, model, source, node)
        for found in error.errors(include_url=False)
        if not (is_part and found["type"] == "missing" and len(found["loc"]) == 1)
    ]


def _fault(found: ErrorDetails, model: type[BaseModel], source: Source, node: Node) -> Fault:
    *before, last = found["loc"] or ("",)
    kind, name = found["type"], str(last)
    context = {key: value for key, value in found.get("ctx", {}).items() if key == "expected"}
    default = found["msg"].removeprefix("Value error, ")
    message = _MESSAGES[kind].format(name=name, **context) if kind in _MESSAGES else default
    parent = node.below(*before)
    if kind == "missing":
        return source.fault(parent, message)
    if kind == "extra_forbidden":
        hint = did_you_mean(name, set(known_fields(model, tuple(before))))
        return source.fault_at_key(parent, name, message, hint=hint)
    place = parent.below(last)
    if isinstance(place.value, int | float) and kind == "string_type":
        return source.fault(place, message, hint="put it in quotes")
    return source.fault(place, message)


def known_fields(model: type[BaseModel], path: tuple[str | int, ...] = ()) -> Iterator[str]:
    """The names that a record's object at a path may have, as they are written."""
    reached: list[Any] = [model]
    for part in path:
        reached = [inner for outer in reached for inner in _inside(outer, part)]
    for annotation in reached:
        for record in _records(annotation):
            yield from (info.alias or name for name, info in record.model_fields.items())


def _records(annotation: Any) -> Iterator[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    else:
        for argument in typing.get_args(annotation):
            yield from _records(argument)


def _inside(annotation: Any, part: str | int) -> Iterator[Any]:
    """The annotations of what lies behind one part of a path."""
    for record in _records(annotation):
        for name, info in record.model_fields.items():
            if part in (name, info.alias):
                yield info.annotation
                return
    # A list's position, a key of a dict, or pydantic's own name for a branch of a union: the record stays in sight.
    yield annotation
