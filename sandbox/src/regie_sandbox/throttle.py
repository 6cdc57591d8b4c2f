"""Counting requests the way the vendors do. Jira counts calls and writes to an issue, Graph counts resource units."""

import math
from bisect import bisect_left, bisect_right
from collections import Counter, defaultdict
from collections.abc import Iterable
from datetime import datetime, timedelta

from regie_sandbox.rules import Window


class _Taken:
    """What one key has taken, oldest first, with running totals: a window is the difference of two of them."""

    def __init__(self) -> None:
        self._moments: list[datetime] = []
        self._totals = [0]
        """What was taken before each moment, and after the last."""

    def add(self, now: datetime, units: int, keep_seconds: float) -> None:
        """Count units, and forget what no window looks at any more."""
        # A clock that is set back does not bring the past into disorder.
        self._moments.append(max(now, self._moments[-1]) if self._moments else now)
        self._totals.append(self._totals[-1] + units)
        gone = self._first(now, keep_seconds)
        if gone > len(self._moments) // 2:
            del self._moments[:gone], self._totals[:gone]

    def within(self, now: datetime, seconds: float) -> int:
        """What was taken in the last seconds."""
        return self._totals[-1] - self._totals[self._first(now, seconds)]

    def until_free(self, now: datetime, window: Window, units: int) -> float:
        """Seconds until so much of what was taken has left the window that there is room for some more units."""
        first = self._first(now, window.seconds)
        if first == len(self._moments):
            return window.seconds
        leaving = bisect_left(self._totals, self._totals[-1] + units - window.limit, first + 1)
        last = self._moments[min(leaving, len(self._moments)) - 1]
        return (last + timedelta(seconds=window.seconds) - now).total_seconds()

    def _first(self, now: datetime, seconds: float) -> int:
        """Where the last seconds begin."""
        return bisect_right(self._moments, now - timedelta(seconds=seconds))


class Throttle:
    """Sliding windows per key. A request that would break one window is refused and counts in none.

    Memory only: a restart forgives, as a vendor's restart would.

    Attributes:
        refused: How many requests were refused, by key.
    """

    def __init__(self) -> None:
        self.refused: Counter[str] = Counter()
        self._taken: defaultdict[str, _Taken] = defaultdict(_Taken)

    def take(self, key: str, windows: Iterable[Window], now: datetime, units: int = 1) -> float | None:
        """Count `units` against every window of a key.

        Returns:
            None when they fit; otherwise the seconds until they will.
        """
        taken, longest = self._taken[key], 0.0
        for window in windows:
            longest = max(longest, window.seconds)
            if taken.within(now, window.seconds) + units > window.limit:
                self.refused[key] += 1
                return taken.until_free(now, window, units)
        taken.add(now, units, longest)
        return None

    def share(self, key: str, window: Window, now: datetime) -> float:
        """How much of a window is used, 1.0 being all of it."""
        return self._taken[key].within(now, window.seconds) / window.limit

    def forget(self) -> None:
        """Start every window afresh."""
        self._taken.clear()
        self.refused.clear()


def retry_after(seconds: float) -> str:
    """A `Retry-After` value: whole seconds, never less than one."""
    return str(max(1, math.ceil(seconds)))
