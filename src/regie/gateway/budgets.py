"""What vendors have asked us to wait: after a throttled answer nothing goes to the same endpoints before its time."""

from __future__ import annotations

import time
from collections.abc import Callable

from regie.core.errors import Throttled

UNSAID_S = 1.0
"""Seconds to wait after a throttled answer that does not say how long."""

Endpoints = tuple[str, str, str]
"""Tenant, connection and capability: the endpoints that one capability uses slow down together, others go on."""


class Budgets:
    """Remembers, for each connection and capability, until when the vendor wants no request.

    Args:
        clock: Seconds that only go forward.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._closed_until: dict[Endpoints, float] = {}

    def take(self, endpoints: Endpoints) -> None:
        """Take a place, at once or not at all.

        Raises:
            Throttled: The vendor's time is not over; carries the rest of it.
        """
        rest_s = self._closed_until.get(endpoints, 0.0) - self._clock()
        if rest_s > 0:
            tenant, connection, capability = endpoints
            raise Throttled(
                f"Connection {connection} of {tenant} has been asked to slow down {capability}.", after_s=rest_s
            )
        self._closed_until.pop(endpoints, None)

    def note(self, endpoints: Endpoints, throttled: Throttled) -> None:
        """Remember what the vendor asked for; a longer wait stands against a shorter one."""
        wait_s = UNSAID_S if throttled.after_s is None else throttled.after_s
        until = self._clock() + wait_s
        self._closed_until[endpoints] = max(until, self._closed_until.get(endpoints, 0.0))
