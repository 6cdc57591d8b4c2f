"""Scopes allow what they name where they name it, and nothing else."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from regie.core.reach import EVERYTHING, NOTHING, Act, Reach, Scope

TENANTS, DOMAINS = ("acme", "umbrella"), ("hr", "identity")
WORKFLOWS = ("identity.a", "identity.b")


@st.composite
def scopes(draw: st.DrawFn) -> Scope:
    domain = draw(st.sampled_from(("", *DOMAINS)))
    acts = draw(st.frozensets(st.sampled_from(Act)))
    named = draw(st.frozensets(st.sampled_from(WORKFLOWS))) if domain == "identity" and Act.TELL not in acts else ()
    return Scope(tenant=draw(st.sampled_from(("", *TENANTS))), domain=domain, acts=acts, workflows=frozenset(named))


@given(
    st.lists(scopes(), max_size=4),
    st.sampled_from(Act),
    st.sampled_from(TENANTS),
    st.sampled_from(DOMAINS),
    st.sampled_from(("", *WORKFLOWS)),
)
def test_a_reach_allows_what_one_of_its_places_covers(
    held: list[Scope], act: Act, tenant: str, domain: str, workflow: str
) -> None:
    reach = Reach(scopes=tuple(held))
    covered = any(t in ("", tenant) and d in ("", domain) and w in ("", workflow) for t, d, w in reach.places(act))
    assert reach.allows(act, tenant, domain, workflow) == covered
    if reach.is_everything:
        assert covered


def test_everything_and_nothing() -> None:
    assert EVERYTHING.is_everything
    assert all(EVERYTHING.allows(act, "acme", "hr") for act in Act)
    assert not any(NOTHING.allows(act, "acme", "hr") for act in Act)
    assert NOTHING.in_words() == "nothing"
    assert not Reach(scopes=(Scope(acts=frozenset({Act.LOOK})),)).is_everything


@pytest.mark.parametrize(
    "wrong",
    [
        {"domain": "hr", "acts": ["start"], "workflows": ["identity.a"]},
        {"acts": ["start"], "workflows": ["identity.a"]},
        {"domain": "identity", "acts": ["tell"], "workflows": ["identity.a"]},
        {"acts": ["approve"]},
    ],
)
def test_a_scope_that_would_not_mean_what_it_says_is_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        Scope.model_validate(wrong)
