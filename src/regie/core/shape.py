"""What is known beforehand about a value: its JSON kinds, its fields, its items, the words it may be.

Shapes come from the records of blocks, from the declared input and from the settings; the checker reads expressions
with them. Whatever is not known is allowed: a shape is a reason to refuse only where no value could be right.
"""

from __future__ import annotations

import functools
import types
import typing
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, datetime, time
from enum import Enum
from typing import Any

from pydantic import BaseModel, JsonValue

from regie.core.definition import InputField, InputType

TEXT, NUMBER, BOOLEAN, LIST, OBJECT, NULL = "a text", "a number", "a boolean", "a list", "an object", "null"
KINDS = frozenset({TEXT, NUMBER, BOOLEAN, LIST, OBJECT, NULL})
_MAX_DEPTH = 8


@dataclass(frozen=True, slots=True)
class Shape:
    """What a value may be.

    Attributes:
        kinds: The JSON kinds it may have.
        fields: The fields of the object, all of them; none when any may be there.
        required: Those of its fields that must be given, where it is wanted rather than found.
        item: What the list's items, or the values behind an object's unknown fields, are; none when anything.
        words: The texts it may be; none when any.
    """

    kinds: frozenset[str]
    fields: Mapping[str, Shape] | None = None
    required: frozenset[str] = frozenset()
    item: Shape | None = None
    words: frozenset[str] | None = None

    def may_be(self, *kinds: str) -> bool:
        """Whether it may be one of these kinds."""
        return not self.kinds.isdisjoint(kinds)

    def in_words(self) -> str:
        """The kinds, for messages."""
        return " or ".join(sorted(self.kinds))


ANY = Shape(KINDS)
A_TEXT, A_NUMBER, A_BOOLEAN = (Shape(frozenset({kind})) for kind in (TEXT, NUMBER, BOOLEAN))


def a_list(item: Shape | None = None) -> Shape:
    """A list of such items."""
    return Shape(frozenset({LIST}), item=item)


def an_object(fields: Mapping[str, Shape], required: frozenset[str] = frozenset()) -> Shape:
    """An object with just these fields."""
    return Shape(frozenset({OBJECT}), fields=fields, required=required)


def one_of(words: frozenset[str]) -> Shape:
    """A text that is one of these."""
    return Shape(frozenset({TEXT}), words=words)


def either(one: Shape, other: Shape) -> Shape:
    """What a value may be that is the one or the other."""
    if one == other:
        return one
    objects = [shape for shape in (one, other) if shape.may_be(OBJECT)]
    holders = [shape for shape in (one, other) if shape.may_be(OBJECT, LIST)]
    texts = [shape for shape in (one, other) if shape.may_be(TEXT)]
    items = [shape.item for shape in holders if shape.item is not None]
    words = [shape.words for shape in texts if shape.words is not None]
    return Shape(
        kinds=one.kinds | other.kinds,
        # Two kinds of objects are rare enough to say nothing about their fields.
        fields=objects[0].fields if len(objects) == 1 else None,
        required=objects[0].required if len(objects) == 1 else frozenset(),
        item=functools.reduce(either, items) if items and len(items) == len(holders) else None,
        words=frozenset().union(*words) if words and len(words) == len(texts) else None,
    )


@functools.lru_cache(maxsize=1024)
def of_record(record: type[BaseModel]) -> Shape:
    """The shape of a record as JSON."""
    return of_annotation(record)


def of_annotation(annotation: Any, depth: int = 0) -> Shape:  # noqa: PLR0911  one return for each form
    """The shape of a Python annotation's JSON form; anything unusual may be anything."""
    if depth > _MAX_DEPTH or annotation is JsonValue or annotation is Any:
        return ANY
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    if origin is typing.Annotated:
        return of_annotation(arguments[0], depth)
    if origin in (typing.Union, types.UnionType):
        return functools.reduce(either, (of_annotation(argument, depth + 1) for argument in arguments))
    if origin is typing.Literal:
        return functools.reduce(either, (of_value(value) for value in arguments))
    if origin in (list, tuple, set, frozenset):
        return a_list(of_annotation(arguments[0], depth + 1) if arguments else None)
    if origin in (dict, Mapping):
        return Shape(frozenset({OBJECT}), item=of_annotation(arguments[1], depth + 1))
    return _of_class(annotation, depth) if isinstance(annotation, type) else ANY


_CLASSES: tuple[tuple[type, Shape], ...] = (
    (bool, A_BOOLEAN),
    (int, A_NUMBER),
    (float, A_NUMBER),
    (str, A_TEXT),
    (datetime, A_TEXT),
    (date, A_TEXT),
    (time, A_TEXT),
    (type(None), Shape(frozenset({NULL}))),
    (list, a_list()),
    (tuple, a_list()),
    (dict, Shape(frozenset({OBJECT}))),
)


def _of_class(annotation: type, depth: int) -> Shape:
    if issubclass(annotation, BaseModel):
        if "__get_pydantic_core_schema__" in annotation.__dict__ or annotation.model_config.get("extra") != "forbid":
            return Shape(frozenset({OBJECT}))
        fields = annotation.model_fields
        return an_object(
            {info.alias or name: of_annotation(info.annotation, depth + 1) for name, info in fields.items()},
            frozenset(info.alias or name for name, info in fields.items() if info.is_required()),
        )
    if issubclass(annotation, Enum):
        return functools.reduce(either, (of_value(member.value) for member in annotation))
    return next((shape for known, shape in _CLASSES if issubclass(annotation, known)), ANY)


def of_value(value: JsonValue) -> Shape:
    """The shape of a constant."""
    match value:
        case str():
            return one_of(frozenset({value}))
        case bool():
            return A_BOOLEAN
        case int() | float():
            return A_NUMBER
        case None:
            return Shape(frozenset({NULL}))
        case list():
            return a_list(functools.reduce(either, map(of_value, value)) if value else None)
        case dict():
            return an_object({key: of_value(item) for key, item in value.items()})


def of_setting(value: JsonValue) -> Shape:
    """The shape of a setting: another tenant may set another value of the same kind."""
    match value:
        case str():
            return A_TEXT
        case list():
            return a_list(functools.reduce(either, map(of_setting, value)) if value else None)
        case _:
            return of_value(value)


def of_input(field: InputField) -> Shape:
    """The shape of an input field; null where nothing need be given."""
    shape = {
        InputType.INTEGER: A_NUMBER,
        InputType.NUMBER: A_NUMBER,
        InputType.BOOLEAN: A_BOOLEAN,
        InputType.LIST: a_list(A_TEXT),
        InputType.CHOICE: one_of(frozenset(field.one_of)),
    }.get(field.type, A_TEXT)
    return shape if field.required or field.default is not None else either(shape, of_value(None))
