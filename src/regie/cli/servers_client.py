"""The servers of the imaginary company as demo and `prove` use them: what was done to them, and what a hand does."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import httpx2


@dataclass(frozen=True, slots=True)
class Visits:
    """What a client met that connected to one server all the time.

    Attributes:
        serials: Each that was presented, in order.
        trouble: Why the last handshake failed that did.
    """

    handshakes: int
    failed: int
    serials: list[str]
    trouble: str


@dataclass
class ServersClient:
    """Speaks to the hand above the servers (`/servers/...`), never to them."""

    http: httpx2.AsyncClient

    async def endpoints(self) -> list[dict[str, Any]]:
        """Everything that is served over TLS, or ought to be."""
        return list((await self._get("/servers"))["endpoints"])

    async def counts(self) -> dict[str, int]:
        """Orders, certificates, updates of names, and how often each server took a certificate up; since ever."""
        return dict(await self._get("/servers/counts"))

    async def state(self) -> dict[str, Any]:
        """What is in place and served now, with a `digest` of it."""
        return dict(await self._get("/servers/state"))

    async def put_by_hand(self, name: str, *, lifetime_days: int, left_days: int) -> str:
        """Have somebody put a certificate in place wherever a name is served; its serial."""
        ages = {"lifetime_days": lifetime_days, "left_days": left_days}
        answer = await self.http.put(f"/servers/certificates/{name}", json=ages)
        return str(answer.raise_for_status().json()["serial"])

    async def begin_visits(self) -> None:
        """Have a client connect to the servers all the time."""
        (await self.http.put("/servers/visitor")).raise_for_status()

    async def visits(self) -> dict[str, Visits]:
        """What it has met so far, by server."""
        return {name: Visits(**seen) for name, seen in (await self._get("/servers/visitor")).items()}

    async def end_visits(self) -> dict[str, Visits]:
        """What it has met in all, by server; it connects no more."""
        answer = (await self.http.delete("/servers/visitor")).raise_for_status().json()
        return {name: Visits(**seen) for name, seen in answer.items()}

    async def _get(self, path: str) -> Any:
        return (await self.http.get(path)).raise_for_status().json()
