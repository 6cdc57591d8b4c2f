"""Interpreter and engine rules together, in very many histories: commits that fail or seem to, zombies, late timers."""

from __future__ import annotations

import random

import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from regie.core.definition import Definition
from tests.core.test_interpreter_properties import (
    DEFINITIONS,
    FACTS,
    FATES,
    LONGEST,
    Fate,
    Play,
    has_end_within,
    is_settled_by_order,
)

from .simulation import Rules, Simulation, Wrong

pytestmark = pytest.mark.slow


def chosen(seed: int) -> list[int]:
    """Up to 120 choices: a list of them would say no more than their seed, and take hypothesis longer to draw."""
    chance = random.Random(seed)  # noqa: S311  repeatable
    return [chance.randrange(2**16) for _ in range(seed % 121)]


CHOICES = st.integers(0, 2**31).map(chosen)
HISTORIES = 400


@settings(max_examples=HISTORIES, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(DEFINITIONS, FATES, CHOICES, st.integers(1, 2))
def test_whatever_happens_a_run_comes_to_what_it_comes_to_undisturbed(
    definition: Definition, fate: Fate, choices: list[int], workers: int
) -> None:
    assume(not any(has_end_within(step) for step in definition.steps))
    undisturbed = Play(definition, fate, [0]).to_the_end()
    simulation = Simulation(definition, fate, undisturbed.facts, workers=workers)
    simulation.disturbed(choices)
    state = simulation.calm(LONGEST)
    if is_settled_by_order(definition, undisturbed) or is_settled_by_order(definition, state):
        return
    assert state.status == undisturbed.status
    assert state.failure == undisturbed.failure
    assert state.steps == undisturbed.steps


@pytest.mark.parametrize(
    "rules",
    [
        Rules(checks_fence=False),
        Rules(parks_only_what_was_seen=False),
        Rules(reads_again_what_is_unknown=False),
        Rules(hears_pauses_first=False),
    ],
    ids=["no fence", "parks without looking", "does not read again", "does not hear pauses"],
)
def test_a_rule_that_is_not_kept_is_noticed(rules: Rules) -> None:
    definitions: list[Definition] = []

    @settings(max_examples=60, derandomize=True, database=None, deadline=None)
    @given(DEFINITIONS)
    def collect(definition: Definition) -> None:
        definitions.append(definition)

    collect()
    for number in range(6000):
        simulation = Simulation(definitions[number % len(definitions)], Fate(number), FACTS, rules)
        try:
            simulation.disturbed(chosen(number * 121 + 80))
            simulation.calm(LONGEST)
        except Wrong:
            return
    pytest.fail("the simulation does not notice")
