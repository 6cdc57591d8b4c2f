"""The vendors' windows: whatever is asked in whatever order, no window ever holds more than its limit."""

from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from regie_sandbox.rules import Window
from regie_sandbox.throttle import Throttle

START = datetime(2026, 11, 2, 9, 0, tzinfo=UTC)
WINDOWS = (Window(limit=5, seconds=2), Window(limit=12, seconds=10))

asked = st.lists(st.tuples(st.integers(0, 3000), st.integers(1, 4)), max_size=60)
"""Milliseconds since the request before, and units."""


@given(asked)
def test_a_request_is_refused_exactly_when_it_would_break_a_window(asked: list[tuple[int, int]]) -> None:
    throttle, now = Throttle(), START
    taken: list[tuple[datetime, int]] = []
    for wait_ms, units in asked:
        now += timedelta(milliseconds=wait_ms)
        used = [sum(part for at, part in taken if at > now - timedelta(seconds=window.seconds)) for window in WINDOWS]
        fits = all(part + units <= window.limit for part, window in zip(used, WINDOWS, strict=True))

        assert (throttle.take("key", WINDOWS, now, units) is None) is fits
        if fits:
            taken.append((now, units))
        assert throttle.share("key", WINDOWS[0], now) <= 1


@given(asked)
def test_whoever_waits_as_long_as_told_is_let_in(asked: list[tuple[int, int]]) -> None:
    throttle, now = Throttle(), START
    for wait_ms, units in asked:
        now += timedelta(milliseconds=wait_ms)
        # Each window tells its own wait, so at most two of them are in the way.
        for _ in range(len(WINDOWS) + 1):
            wait_s = throttle.take("key", WINDOWS, now, units)
            if wait_s is None:
                break
            assert wait_s > 0
            now += timedelta(seconds=wait_s)
        else:
            raise AssertionError("refused again and again")


def test_a_clock_that_is_set_back_forgives_nothing() -> None:
    throttle = Throttle()
    for _ in range(5):
        assert throttle.take("key", WINDOWS, START) is None
    assert throttle.take("key", WINDOWS, START - timedelta(minutes=1)) is not None


def test_a_window_that_holds_nothing_refuses_what_is_larger_than_itself() -> None:
    assert Throttle().take("key", WINDOWS, START, 6) == 2
