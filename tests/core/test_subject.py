"""People in facts: found where they stand, replaced by a commitment, and shown again to whom they are known."""

from __future__ import annotations

import hashlib
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from regie.core.audit import Actor, Circumstances, Event, Fact, Position, encode_leaf
from regie.core.errors import AuditBroken
from regie.core.subject import commitment, commitments_in, people_in, revealed, with_names

EVA, BEN = "eva.jansen@example.com", "ben@example.com"
CIRCUMSTANCES = Circumstances(at="2026-11-29T12:00:00Z", tenant="acme", domain="hr")
POSITION = Position("e", "00" * 16)
GRANTED = Fact(
    event=Event.APPROVAL_GRANTED,
    actor=Actor(type="person", id=EVA),
    detail={"approval": {"id": "a", "approver": EVA, "requester": BEN}, "told": {"person": "U123", "delivery": "d"}},
)


def test_a_commitment_is_what_its_formula_says() -> None:
    salt = bytes(range(32))
    made = hashlib.sha256(b"pii-commit/v1\0" + salt + b'"zo\xc3\xab@example.com"').hexdigest()
    assert commitment(salt, "zoë@example.com") == f"person:{made}"


@given(st.binary(min_size=32, max_size=32), st.text(min_size=1, max_size=30), st.text(min_size=1, max_size=30))
def test_commitments_tell_people_apart(salt: bytes, one: str, other: str) -> None:
    assert (commitment(salt, one) == commitment(salt, other)) == (one == other)
    assert commitment(salt, one) != commitment(bytes(32 * [salt[0] ^ 1]), one)


def test_people_are_replaced_wherever_they_stand() -> None:
    assert people_in(GRANTED) == {EVA, BEN, "U123"}
    names = {person: commitment(bytes(32), person) for person in people_in(GRANTED)}
    replaced = with_names(GRANTED, names)
    leaf = encode_leaf(replaced, CIRCUMSTANCES, POSITION)
    assert commitments_in(leaf) == set(names.values())
    assert not any(person.encode() in leaf for person in names)
    assert people_in(replaced) == set(), "twice changes nothing"
    shown = revealed(json.loads(leaf), {value: person for person, value in names.items()})
    assert isinstance(shown, dict)
    assert (shown["actor"], shown["approval"]) == ({"type": "person", "id": EVA}, GRANTED.detail["approval"])


def test_programs_keep_their_names() -> None:
    fact = Fact(event=Event.RUN_WOKEN, actor=Actor(type="worker", id="host-1"), detail={"told": "nobody"})
    assert people_in(fact) == set()
    assert with_names(fact, {"host-1": "x"}) == fact


def test_a_leaf_that_names_a_person_in_clear_is_refused() -> None:
    with pytest.raises(AuditBroken, match="commitment"):
        encode_leaf(GRANTED, CIRCUMSTANCES, POSITION)
