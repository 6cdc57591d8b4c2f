"""The schedule of a storm: drawn from its seed, dense enough, and with every crash point in it."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from regie.crashpoints import HOLD, CrashPoint
from torture.schedule import APART_S, PROCESSES, WORKERS, Disturbance, Kind, drawn, only_takeovers


def struck(schedule: list[Disturbance], *kinds: Kind) -> int:
    return sum(each.kind in kinds for each in schedule)


@given(seed=st.integers(0, 2**31), seconds=st.floats(10, 1200))
@settings(max_examples=30, deadline=None)
def test_the_same_seed_draws_the_same_storm_in_order_and_in_time(seed: int, seconds: float) -> None:
    schedule = drawn(seed, seconds)
    assert schedule == drawn(seed, seconds)
    assert [each.at_s for each in schedule] == sorted(each.at_s for each in schedule)
    assert all(0 < each.at_s < seconds for each in schedule)
    assert {each.kind for each in schedule} == set(Kind)
    assert {each.target for each in schedule} <= {"", *PROCESSES}


def test_another_seed_draws_another_storm() -> None:
    assert drawn(1, 60) != drawn(2, 60)


@pytest.mark.parametrize(("seconds", "kills", "restarts", "cuts"), [(180, 40, 3, 250), (1200, 300, 20, 2000)])
def test_a_storm_is_as_dense_as_its_target(seconds: float, kills: int, restarts: int, cuts: int) -> None:
    schedule = drawn(7, seconds)
    assert struck(schedule, Kind.KILL, Kind.CRASH) >= kills
    assert struck(schedule, Kind.DATABASE) >= restarts
    assert sum(each.detail.get("connections", 0) for each in schedule if each.kind is Kind.CUT) >= cuts


def test_the_quick_storm_passes_every_crash_point() -> None:
    armed = [each.detail["point"] for each in drawn(3, 180) if each.kind in {Kind.CRASH, Kind.HOLD}]
    assert {point.removeprefix(HOLD).partition(":")[0] for point in armed} == set(CrashPoint)


def test_a_trial_strikes_once_with_each_kind() -> None:
    assert sorted(each.kind for each in drawn(3, 20, once_each=True)) == sorted(Kind)


def test_when_only_takeovers_are_measured_workers_are_killed_in_turn_and_nothing_else_happens() -> None:
    made = only_takeovers(7, 10)
    assert made == only_takeovers(7, 10) != only_takeovers(8, 10)
    assert {each.kind for each in made} == {Kind.KILL}
    assert [each.target for each in made] == list(WORKERS) * 5
    assert all(after.at_s - before.at_s > APART_S - 1 for before, after in pairwise(made))
