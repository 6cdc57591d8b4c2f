"""A capability: a named, typed thing that can be done for a tenant. Blocks need them, connectors provide them."""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import StrEnum
from typing import Generic, TypeVar

from pydantic import BaseModel, ConfigDict

NAME = re.compile(r"^[a-z][a-z0-9_]*\.[a-z][a-z0-9_]*$")
"""Grammar of capability and block names: `noun.verb`."""


class Effect(StrEnum):
    """What doing it does to the outside world, from harmless to hard to undo."""

    READ = "read"
    WRITE = "write"
    DESTRUCTIVE = "destructive"

    @property
    def rank(self) -> int:
        """0, 1 or 2, so that effects can be compared."""
        return list(Effect).index(self)


class Record(BaseModel):
    """What every capability takes and gives: a closed, immutable record of JSON values."""

    model_config = ConfigDict(frozen=True, extra="forbid")


Want = TypeVar("Want", bound=Record)
Gives = TypeVar("Gives", bound=Record)


@dataclass(frozen=True, slots=True)
class Capability(Generic[Want, Gives]):
    """A typed thing that can be done for a tenant.

    Attributes:
        name: `noun.verb`, after the need rather than the vendor.
        effect: Read, write or destructive.
        wants: The request's record.
        gives: The answer's record; for a write, the state afterwards.
        summary: One sentence in the imperative, for catalogue and approval pages.
        named_by: The field of the request that, when it is not empty, names what is made for good: every run of the
            tenant's domain that asks with the same name means the same object. Empty where each request means its own.
    """

    name: str
    effect: Effect
    wants: type[Want]
    gives: type[Gives]
    summary: str
    named_by: str = ""

    def __post_init__(self) -> None:
        """Refuse a name outside the grammar, and a name of an object in a field that there is not."""
        if not NAME.match(self.name):
            raise ValueError(f"capability {self.name!r} is not named noun.verb")
        if self.named_by and self.named_by not in self.wants.model_fields:
            raise ValueError(
                f"{self.wants.__name__} has no field {self.named_by} that could name what {self.name} makes"
            )

    def object_name(self, want: Want) -> str:
        """The name for good of what a request is about; empty when it means an object of its own."""
        return str(getattr(want, self.named_by)) if self.named_by else ""


AnyCapability = Capability[Record, Record]
