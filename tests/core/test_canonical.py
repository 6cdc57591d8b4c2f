"""What is written as bytes is what a strict reader of RFC 8785 expects, as far as it is promised."""

from __future__ import annotations

import json

import pytest
import rfc8785
from hypothesis import given
from hypothesis import strategies as st
from pydantic import JsonValue

from regie.core import canonical
from regie.core.audit import SAFE_INTEGER

KEYS = st.text(st.characters(max_codepoint=0xFFFF, exclude_categories=["Cs"]))
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-SAFE_INTEGER, SAFE_INTEGER) | st.text(st.characters(codec="utf-8")),
    lambda inner: st.lists(inner) | st.dictionaries(KEYS, inner),
)


@given(VALUES)
def test_others_make_the_same_bytes(value: JsonValue) -> None:
    assert canonical.encode(value) == rfc8785.dumps(value)


@pytest.mark.parametrize("value", [{"a": 1.0}, {"a": 1e-7}, {"a": -0.0}, {"\U0001f600": 1, "\uffff": 2}])
def test_beyond_that_they_may_make_others_and_nothing_is_lost(value: JsonValue) -> None:
    assert canonical.encode(value) != rfc8785.dumps(value)
    assert json.loads(canonical.encode(value)) == value


@pytest.mark.parametrize("value", [float("nan"), float("inf"), "\ud800", {"\udfff": 1}])
def test_what_json_cannot_carry_is_refused(value: JsonValue) -> None:
    with pytest.raises(ValueError, match=r"not JSON compliant|surrogates not allowed"):
        canonical.encode(value)
