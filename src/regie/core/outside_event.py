"""An event from outside: what a program tells that has happened, and when it is the one that a step waits for.

Made by the web, kept by the store, matched by both engines. A wait is met by the first event of its name, since its run
began, whose data has the wanted values in the wanted fields. Values are compared as JSON: 1 is 1.0, and neither is "1".
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated

from pydantic import BaseModel, ConfigDict, JsonValue, StringConstraints, field_validator

from regie.core import canonical
from regie.core.capability import NAME

LARGEST_DATA = 64 * 1024
"""Bytes of an event's data: it becomes a part of the state of each run that waits for it."""
MOST_FIELDS = 100
Name = Annotated[str, StringConstraints(pattern=NAME.pattern, max_length=200)]


class OutsideEvent(BaseModel):
    """Something that happened outside.

    Attributes:
        id: Chosen by whoever tells it: the same one in the same domain of a tenant is the same event.
        name: `noun.verb`, such as `contract.sign`.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    tenant: str
    domain: str
    id: Annotated[str, StringConstraints(min_length=1, max_length=200)]
    name: Name
    data: dict[str, JsonValue] = {}

    @field_validator("data")
    @classmethod
    def _is_small(cls, data: dict[str, JsonValue]) -> dict[str, JsonValue]:
        if len(data) > MOST_FIELDS:
            raise ValueError(f"an event has at most {MOST_FIELDS} fields")
        if len(canonical.encode(data)) > LARGEST_DATA:
            raise ValueError(f"the data of an event has at most {LARGEST_DATA} bytes")
        return data

    @property
    def marks(self) -> list[str]:
        """What waits are compared with: one mark for the name, and one for each field."""
        return [mark(self.name), *(mark(self.name, field, value) for field, value in self.data.items())]


def marks_of(name: str, where: Mapping[str, JsonValue]) -> list[str]:
    """The marks that an event must have to meet a wait, those first that few events have."""
    return [*(mark(name, field, where[field]) for field in sorted(where)), mark(name)]


def mark(name: str, field: str = "", value: JsonValue = None) -> str:
    """A digest of an event's name, or of one of its fields with its value."""
    return canonical.digest([name, field, _comparable(value)] if field else [name])


def _comparable(value: JsonValue) -> JsonValue:
    """The value with one form for each number."""
    match value:
        case float() if value.is_integer():
            return int(value)
        case list():
            return [_comparable(item) for item in value]
        case dict():
            return {key: _comparable(item) for key, item in value.items()}
        case _:
            return value
