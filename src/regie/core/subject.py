"""People in the audit log: a leaf names them by a commitment, from which nobody learns who it is.

`SHA256("pii-commit/v1" || 0 || salt || JCS(value))`, with 32 random bytes of salt for each person in each log. So one
person has one name in a log, which four eyes can be compared by, and another one in the next log. Whoever is told salt
and value can check that they belong to the leaf; once both are gone, nobody can.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from dataclasses import replace
from typing import Final

from pydantic import JsonValue

from regie.core import canonical
from regie.core.audit import PERSON, Fact

SALT_BYTES: Final = 32
ERASED: Final = "erased"
"""What stands for a person of whom nothing is kept any more."""
_IN_LEAF = re.compile(rb'"(' + PERSON.encode() + rb'[0-9a-f]{64})"')
_PLACES: Final = (
    ("approval", "approver"),
    ("approval", "requester"),
    ("told", "person"),
    ("account", "id"),
    ("before", "id"),
)
"""Where in the detail of a fact a person may stand, besides the actor."""


def commitment(salt: bytes, person: str) -> str:
    """The name of a person in a log."""
    return PERSON + hashlib.sha256(b"pii-commit/v1\0" + salt + canonical.encode(person)).hexdigest()


def people_in(fact: Fact) -> set[str]:
    """The people whom a fact names, but for those who stand in it by a commitment already."""
    found = {fact.actor.id} if fact.actor.type == "person" else set()
    for noun, part in _PLACES:
        about = fact.detail.get(noun)
        if isinstance(about, Mapping) and isinstance(person := about.get(part), str):
            found.add(person)
    return {person for person in found if person and not person.startswith(PERSON)}


def with_names(fact: Fact, names: Mapping[str, str]) -> Fact:
    """A fact with other names for people."""
    actor = fact.actor
    if actor.type == "person":
        actor = actor.model_copy(update={"id": names.get(actor.id, actor.id)})
    detail = dict(fact.detail)
    for noun, part in _PLACES:
        about = detail.get(noun)
        if isinstance(about, Mapping) and isinstance(person := about.get(part), str):
            detail[noun] = {**about, part: names.get(person, person)}
    return replace(fact, actor=actor, detail=detail)


def commitments_in(leaf: bytes) -> set[str]:
    """The commitments that stand in a leaf."""
    return {found.decode() for found in _IN_LEAF.findall(leaf)}


def revealed(value: JsonValue, names: Mapping[str, str]) -> JsonValue:
    """What a leaf says, with what is known of people in place of commitments."""
    match value:
        case str():
            return names.get(value, value)
        case list():
            return [revealed(item, names) for item in value]
        case dict():
            return {key: revealed(item, names) for key, item in value.items()}
        case _:
            return value
