"""A question to the policies: who wants to do what with which thing, and what stands around it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple


class Ref(NamedTuple):
    """Names an entity of a type of the schema."""

    type: str
    id: str


Value = str | bool | int | Ref | frozenset[str] | frozenset[Ref]
"""What an attribute can be."""


@dataclass(frozen=True, slots=True)
class Entity:
    """Somebody or something with what policies may know of it.

    Attributes:
        parents: What it belongs to: the roles of a person.
    """

    ref: Ref
    attributes: Mapping[str, Value] = field(default_factory=dict)
    parents: frozenset[Ref] = frozenset()


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """A question.

    Attributes:
        context: What belongs to neither of the two.
        words: What stands for `{name}` in a policy's `@because` and `@hint`.
    """

    principal: Entity
    action: str
    resource: Entity
    context: Mapping[str, Value]
    words: Mapping[str, str]


def person_ref(address: str) -> Ref:
    """A person, whichever way the address is written."""
    return Ref("Person", address.casefold())


def people(addresses: Iterable[str]) -> frozenset[Ref]:
    """Several people by address."""
    return frozenset(map(person_ref, addresses))
