"""Counting requests the way the vendors do. Jira counts calls and writes to an issue, Graph counts resource units."""

import math
from collections import Counter, deque
from collections.abc import Iterable
from datetime import datetime, timedelta

from regie_sandbox.rules import Window


class Throttle:
    """Sliding windows per key. A request that would break one window is refused and counts in none.

    Memory only: a restart forgives, as a vendor's restart would.

    Attributes:
        refused: How many requests were refused, by key.
    """

    def __init__(self) -> None:
        self.refused: Counter[str] = Counter()
        self._taken: dict[str, deque[tuple[datetime, int]]] = {}

    def _units(self, key: str, window: Window, now: datetime) -> deque[tuple[datetime, int]]:
        start = now - timedelta(seconds=window.seconds)
        return deque(each for each in self._taken.get(key, ()) if each[0] > start)

    def take(self, key: str, windows: Iterable[Window], now: datetime, units: int = 1) -> float | None:
        """Count `units` against every window of a key.

        Returns:
            None when they fit; otherwise the seconds until they will.
        """
        longest = 0.0
        for window in windows:
            longest = max(longest, window.seconds)
            within = self._units(key, window, now)
            used = sum(taken for _, taken in within)
            if used + units <= window.limit:
                continue
            until_free = window.seconds
            while within and used + units > window.limit:
                at, taken = within.popleft()
                used -= taken
                until_free = (at + timedelta(seconds=window.seconds) - now).total_seconds()
            self.refused[key] += 1
            return until_free
        kept = self._units(key, Window(limit=1, seconds=longest), now)
        kept.append((now, units))
        self._taken[key] = kept
        return None

    def share(self, key: str, window: Window, now: datetime) -> float:
        """How much of a window is used, 1.0 being all of it."""
        return sum(taken for _, taken in self._units(key, window, now)) / window.limit

    def forget(self) -> None:
        """Start every window afresh."""
        self._taken.clear()
        self.refused.clear()


def retry_after(seconds: float) -> str:
    """A `Retry-After` value: whole seconds, never less than one."""
    return str(max(1, math.ceil(seconds)))
