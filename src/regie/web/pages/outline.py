"""What a value consists of, without the value: names, kinds and lengths. Pages show inputs and outputs like this."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import NamedTuple

from pydantic import JsonValue

from regie.web.pages.wording import counted, is_address, masked

MOST_LINES = 40
_DEEPEST = 3


class Line(NamedTuple):
    """One field: its name, and what is there."""

    name: str
    says: str


def outline(value: JsonValue, *, is_plain: bool) -> list[Line]:
    """The fields of a value.

    Args:
        is_plain: Show e-mail addresses in full; otherwise only their first letter and host.
    """
    found = list(_lines("", value, 0, is_plain=is_plain))
    if len(found) > MOST_LINES:
        return [*found[:MOST_LINES], Line("...", f"and {len(found) - MOST_LINES} more")]
    return found


def _lines(name: str, value: JsonValue, depth: int, *, is_plain: bool) -> Iterator[Line]:
    match value:
        case Mapping() if value and depth < _DEEPEST:
            for key, part in value.items():
                yield from _lines(f"{name}.{key}" if name else key, part, depth + 1, is_plain=is_plain)
        case Mapping():
            yield Line(name, counted(len(value), "field", "fields"))
        case list():
            keys = dict.fromkeys(key for item in value if isinstance(item, Mapping) for key in item)
            each = f", each with {', '.join(keys)}" if keys else ""
            yield Line(name, f"list of {len(value)}{each}")
        case _:
            yield Line(name, _single(value, is_plain=is_plain))


def _single(value: JsonValue, *, is_plain: bool) -> str:
    match value:
        case None:
            return "nothing"
        case bool():
            return "yes or no"
        case int() | float():
            return "number"
        case str() if is_address(value):
            return value if is_plain else masked(value)
        case str():
            return f"text, {counted(len(value), 'character', 'characters')}"
        case _:
            return "something"
