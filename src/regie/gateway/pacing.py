"""A connection's pace: which budgets each of its requests draws from, and what its vendor's answers say about them."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping

import structlog
from pydantic import JsonValue

from regie.core.errors import RegieError
from regie.gateway.budgets import Asker, Budgets
from regie.kit.manifest import Manifest
from regie.kit.rates import ELSEWHERE, Charge, Outgoing
from regie.kit.session import retry_after_s
from regie.store.rate_budgets import Draw
from regie.telemetry import metrics

_log = structlog.get_logger(__name__)

FIRST_WITHIN_S = 2.0
"""Seconds that the first request of a question may wait: nothing has been done yet, so the run can come again."""
LATER_WITHIN_S = 20.0
"""Seconds that those after it may wait: what has begun is better finished."""
FREELY = 1e6
"""Requests at once, and in a second, of endpoints without a limit: only what the vendor itself asks for counts."""
_THROTTLED = 429


class ConnectionPace:
    """The pace of one question through one connection. See `kit.rates.Pace`.

    Args:
        connection: Tenant and name of the connection.
        settings: Of the connection, with the defaults filled in.
        capability: What is asked for: what fits no endpoint of the manifest slows down together with that.
        is_patient: Let also the first request wait long.
    """

    def __init__(
        self,
        budgets: Budgets,
        manifest: Manifest,
        *,
        connection: tuple[str, str],
        settings: Mapping[str, JsonValue],
        capability: str,
        asker: Asker,
        is_patient: bool = False,
    ) -> None:
        self._budgets = budgets
        self._manifest = manifest
        self._connection = connection
        self._settings = settings
        self._capability = capability
        self._asker = asker
        self._within_s = LATER_WITHIN_S if is_patient else FIRST_WITHIN_S
        self._charged: tuple[Outgoing, list[Charge]] | None = None

    async def enter(self, request: Outgoing) -> Mapping[str, str]:
        """Wait for a place. See `kit.rates.Pace`."""
        with metrics.timing("budget"):
            draws = [self._draw(charge) for charge in self._charges(request)]
            await self._budgets.take([*draws, self._endpoint(request)], self._asker, self._within_s)
        self._within_s = LATER_WITHIN_S
        header = self._manifest.priority_header
        return {header: self._asker.priority} if header else {}

    async def heard(self, request: Outgoing, status: int, headers: Mapping[str, str]) -> None:
        """Take in what the vendor says. See `kit.rates.Pace`."""
        try:
            await self._hear(request, status, headers)
        except RegieError as error:
            # The answer counts, whether or not what it says about limits could be kept.
            _log.warning("budget:not_kept", connector=self._manifest.name, kind=type(error).__name__)

    async def _hear(self, request: Outgoing, status: int, headers: Mapping[str, str]) -> None:
        charges = self._charges(request)
        if status == _THROTTLED:
            reason = headers.get(self._manifest.reason_header.lower(), "") if self._manifest.reason_header else ""
            met = [self._draw(charge) for charge in charges if reason and charge.limit.reason == reason]
            await self._budgets.close(met or [self._endpoint(request)], retry_after_s(headers))
            return
        for charge in charges:
            left = _left(charge, headers)
            if left is not None:
                await self._budgets.lower(self._draw(charge), left)

    def _charges(self, request: Outgoing) -> list[Charge]:
        """What a request has to pay; worked out when it is sent, and kept until it is answered."""
        if self._charged is None or self._charged[0] is not request:
            paid = self._manifest.charges(request, self._settings, self._manifest.authentication.kind)
            self._charged = (request, paid)
        return self._charged[1]

    def _draw(self, charge: Charge) -> Draw:
        limit = charge.limit
        shared = [str(self._settings.get(name, "")) for name in limit.by]
        return Draw(
            key=_key(self._manifest.name, limit.bucket, charge.of),
            about=f"{self._manifest.title}: {limit.about} ({', '.join(filter(None, shared)) or limit.scope})",
            at_once=limit.at_once,
            each_s=limit.each_s,
            cost=charge.cost,
        )

    def _endpoint(self, request: Outgoing) -> Draw:
        """What is closed by a vendor that asks for time and does not say for which limit: this endpoint."""
        endpoint, _ = self._manifest.endpoint_of(request.path)
        named = self._capability if endpoint == ELSEWHERE else f"{request.method} {endpoint}"
        return Draw(
            key=_key(self._manifest.name, "asked-to-wait", (*self._connection, named)),
            about=f"{self._manifest.title}: {named} ({self._connection[1]} of {self._connection[0]})",
            at_once=FREELY,
            each_s=FREELY,
            cost=1.0,
        )


def _left(charge: Charge, headers: Mapping[str, str]) -> float | None:
    """How much is left as the vendor says; none when it does not say."""
    limit = charge.limit
    left = _figure(headers.get(limit.remaining.lower())) if limit.remaining else None
    used = _figure(headers.get(limit.used_share.lower())) if limit.used_share else None
    return max(0.0, (1 - used) * limit.calls) if used is not None else left


def _figure(text: str | None) -> float | None:
    try:
        value = float(text) if text is not None and len(text) < 20 else math.nan
    except ValueError:
        return None
    return value if math.isfinite(value) and value >= 0 else None


def _key(connector: str, bucket: str, of: tuple[str, ...]) -> str:
    """Names a budget. What tells it from others may be long, or somebody's: only its digest is kept."""
    digest = hashlib.sha256("\0".join(of).encode()).hexdigest()[:24]
    return f"{connector}/{bucket}/{digest}"
