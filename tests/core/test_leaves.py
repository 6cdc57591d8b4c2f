"""Leaves are what a strict reader of RFC 8785 expects, whatever fact they hold; what does not fit is named."""

from __future__ import annotations

import json
import unicodedata

import pytest
import rfc8785
from hypothesis import given
from hypothesis import strategies as st
from pydantic import JsonValue

from regie.core.audit import (
    LEAF_LIMIT,
    SAFE_INTEGER,
    Actor,
    Circumstances,
    Event,
    Fact,
    Position,
    encode_leaf,
    leaf_hash,
)
from regie.core.errors import AuditBroken

CIRCUMSTANCES = Circumstances(at="2026-11-29T12:00:00.000000Z", tenant="acme", domain="hr", corr="c-1", run="r-1")
POSITION = Position("e-1", "00" * 16, 2, "ab" * 32)
TAKEN = ["actor", "at", "corr", "domain", "entry_id", "event", "nonce", "run", "run_prev", "run_seq", "tenant", "v"]

keys = st.from_regex(r"[a-z][a-z0-9_]{0,8}", fullmatch=True)
texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
integers = st.integers(-SAFE_INTEGER, SAFE_INTEGER)
values = st.recursive(
    texts | st.booleans() | integers,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(keys, inner, max_size=3),
    max_leaves=8,
)
details = st.dictionaries(keys.filter(lambda key: key not in TAKEN), values, max_size=5)


def leaf(
    detail: dict[str, JsonValue], circumstances: Circumstances = CIRCUMSTANCES, position: Position = POSITION
) -> bytes:
    actor = Actor(type="worker", id="w-\u0065\u0301")
    return encode_leaf(Fact(event=Event.STEP_FINISHED, actor=actor, detail=detail), circumstances, position)


def in_nfc(value: JsonValue) -> JsonValue:
    match value:
        case str():
            return unicodedata.normalize("NFC", value)
        case list():
            return [in_nfc(item) for item in value]
        case dict():
            return {key: in_nfc(item) for key, item in value.items()}
        case _:
            return value


@given(details)
def test_a_leaf_is_canonical_and_says_all_of_it(detail: dict[str, JsonValue]) -> None:
    expected = {
        "v": 1,
        "event": "step:finished",
        "actor": {"type": "worker", "id": "w-\u00e9"},
        "entry_id": "e-1",
        "nonce": "00" * 16,
        "at": CIRCUMSTANCES.at,
        "tenant": "acme",
        "domain": "hr",
        "corr": "c-1",
        "run": "r-1",
        "run_seq": 2,
        "run_prev": "ab" * 32,
        **{key: in_nfc(value) for key, value in detail.items()},
    }
    assert leaf(detail) == rfc8785.dumps(expected)


def test_what_is_empty_is_left_out() -> None:
    written = leaf({}, Circumstances(at=CIRCUMSTANCES.at, tenant="acme", domain="hr"), Position("e-1", "00" * 16))
    assert sorted(json.loads(written)) == ["actor", "at", "domain", "entry_id", "event", "nonce", "tenant", "v"]


def test_the_circumstances_are_in_nfc_too() -> None:
    written = leaf({}, Circumstances(at=CIRCUMSTANCES.at, tenant="acme", domain="hr", ticket="A\u0308-1"))
    assert json.loads(written)["ticket"] == "\u00c4-1"


@pytest.mark.parametrize("name", TAKEN)
def test_a_fact_does_not_say_where_it_stands(name: str) -> None:
    with pytest.raises(AuditBroken, match=name):
        leaf({name: "forged"})


@pytest.mark.parametrize(
    ("detail", "told"),
    [
        ({"step": {"tries": [1, 1.5]}}, "leaf.step.tries.1: 1.5"),
        ({"step": {"output": None}}, "leaf.step.output: None"),
        ({"count": SAFE_INTEGER + 1}, f"leaf.count: {SAFE_INTEGER + 1}"),
        ({"step": {"Circumstances": "x"}}, "leaf.step: key 'Circumstances'"),
        ({"place\n": "x"}, "leaf: key 'place\\\\n'"),
        ({"": "x"}, "leaf: key ''"),
        ({"text": "\ud800"}, "cannot be written"),
        ({"text": "x" * LEAF_LIMIT}, "over the limit"),
    ],
)
def test_what_does_not_fit_is_named(detail: dict[str, JsonValue], told: str) -> None:
    with pytest.raises(AuditBroken, match=told):
        leaf(detail)


def test_the_hash_is_the_one_of_rfc_6962() -> None:
    # RFC 6962, 2.1: SHA-256 over a zero byte and the entry, which is empty here.
    assert leaf_hash(b"").hex() == "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d"
