"""What the operators and filters of expressions do: JSON in, JSON of bounded size out, anything else is refused.

Every function raises TypeError or ValueError where data does not fit; `dialect.py` puts them in the place of Jinja's.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from jinja2 import StrictUndefined, Undefined

MAX_INTEGER = 2**63 - 1
"""The largest whole number that may be calculated with: what every JSON reader and PostgreSQL's bigint can carry."""
MAX_SIZE = 1_048_576
"""Characters in the largest value that an expression may give."""


def is_number(value: object) -> bool:
    """Whether this is a JSON number; true and false are none."""
    return isinstance(value, int | float) and not isinstance(value, bool)


_KINDS: dict[type, str] = {
    type(None): "null",
    bool: "a boolean",
    int: "a number",
    float: "a number",
    str: "a text",
    list: "a list",
    dict: "an object",
}


def in_words(value: object) -> str:
    """The JSON kind of a value, with its article, for messages."""
    return _KINDS.get(type(value), f"a {type(value).__name__}")


def text_of(value: object) -> str:
    """How a value reads inside a text. Only texts and numbers can: Python would print `True` and `None`.

    Raises:
        TypeError: It is neither.
    """
    if isinstance(value, str):
        return value
    if is_number(value):
        return str(value)
    raise TypeError(f"{in_words(value)} cannot stand inside a text; only texts and numbers can")


def bounded(value: Any) -> Any:
    """Refuse a number that no JSON reader could carry."""
    if isinstance(value, int) and abs(value) > MAX_INTEGER:
        raise ValueError("the number is too large")
    if isinstance(value, float) and not math.isfinite(value):
        raise ValueError("the number is too large")
    return value


def refuse_size(size: int) -> None:
    """Refuse a text or a list before it is made."""
    if size > MAX_SIZE:
        raise ValueError(f"the result is larger than {MAX_SIZE} characters")


def _a_list(value: Any, name: str) -> list[Any]:
    if not isinstance(value, list):
        raise TypeError(f"{name} needs a list, not {in_words(value)}")
    return value


def _a_text(value: Any, name: str) -> str:
    if not isinstance(value, str):
        raise TypeError(f"{name} needs a text, not {in_words(value)}")
    return value


def length(value: Any) -> int:
    """How many characters, items or fields."""
    if not isinstance(value, str | list | dict):
        raise TypeError(f"length needs a text, a list or an object, not {in_words(value)}")
    return len(value)


def join(value: Any, separator: Any = "") -> str:
    """Texts and numbers in one text."""
    parts = [text_of(item) for item in _a_list(value, "join")]
    between = _a_text(separator, "join")
    refuse_size(sum(map(len, parts)) + len(between) * len(parts))
    return between.join(parts)


def concat(value: list[Any]) -> str:
    """What `~` does with its operands."""
    return join(value)


def pluck(value: Any, name: str) -> list[Any]:
    """One field of each object in a list."""
    items = _a_list(value, "pluck")
    for item in items:
        if not isinstance(item, dict) or name not in item:
            raise ValueError(f"there is no {name!r} in {in_words(item)}")
    return [item[name] for item in items]


def unique(value: Any) -> list[Any]:
    """Each item once, where it comes first."""
    seen = set()
    kept = []
    for item in _a_list(value, "unique"):
        if isinstance(item, list | dict):
            raise TypeError(f"unique needs a list of texts or numbers, not of {in_words(item)}")
        key = (type(item), item)
        if key not in seen:
            seen.add(key)
            kept.append(item)
    return kept


def sort(value: Any) -> list[Any]:
    """In the order of numbers, or of code points."""
    items = _a_list(value, "sort")
    if not (all(isinstance(item, str) for item in items) or all(is_number(item) for item in items)):
        raise TypeError("sort needs a list of texts or a list of numbers")
    return sorted(items)


def end_of(name: str, position: int) -> Callable[[Any], Any]:
    """Make `first` or `last`: an empty list has none, which `default` can answer."""

    def pick(value: Any) -> Any:
        items = _a_list(value, name)
        return items[position] if items else StrictUndefined(f"there is no {name} in an empty list")

    return pick


def default(value: Any, instead: Any) -> Any:
    """Something else in the place of what is missing. Null is not missing."""
    return instead if isinstance(value, Undefined) else value


def required(value: Any) -> Any:
    """Refuse what is missing."""
    if isinstance(value, Undefined):
        str(value)  # raises UndefinedError and says what is missing
    return value


def boolean(value: Any) -> bool:
    """Refuse what is neither true nor false."""
    if not isinstance(value, bool):
        raise TypeError(f"{in_words(value)} stands where a boolean belongs")
    return value


def lower(value: Any) -> str:
    """The text in lower case."""
    return _a_text(value, "lower").lower()


def upper(value: Any) -> str:
    """The text in upper case."""
    return _a_text(value, "upper").upper()


def trim(value: Any) -> str:
    """The text without blanks around it."""
    return _a_text(value, "trim").strip()
