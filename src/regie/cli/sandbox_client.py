"""The imaginary outside world as the demo and `prove` use it: opening tickets, counting writes, comparing worlds."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import httpx2


@dataclass
class SandboxClient:
    """Speaks to the hand above the imaginary world (`/sandbox/...`), never to the vendors' endpoints."""

    http: httpx2.AsyncClient

    async def open_ticket(self, ticket: dict[str, Any]) -> str:
        """Open a ticket as a customer would on the portal; its key."""
        response = await self.http.post("/sandbox/tickets", json=ticket)
        response.raise_for_status()
        return str(response.json()["key"])

    async def redeliver(self, key: str) -> int:
        """Send the webhook about a ticket once more; the status it was answered with."""
        response = await self.http.post(f"/sandbox/tickets/{key}/redeliver")
        response.raise_for_status()
        return int(response.json().get("status") or 0)

    async def ledger(self, since: int = 0) -> tuple[int, list[dict[str, Any]]]:
        """The writes that outside systems took after a point, and the point now."""
        answer = (await self.http.get("/sandbox/ledger", params={"since": since})).raise_for_status().json()
        return int(answer["last"]), list(answer["entries"])

    async def digest(self) -> str:
        """Digest of the people side of the world."""
        answer = (await self.http.get("/sandbox/world/digest")).raise_for_status().json()
        return str(answer["digest"])

    async def world(self) -> dict[str, Any]:
        """Everything: people, groups, tickets and messages."""
        return dict((await self.http.get("/sandbox/world")).raise_for_status().json())

    async def ticket(self, key: str) -> dict[str, Any]:
        """A ticket as it stands."""
        return next(dict(ticket) for ticket in (await self.world())["tickets"] if ticket["key"] == key)


def about_people(entries: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Only the writes about people; the tickets' own comments and moves are counted apart."""
    return [entry for entry in entries if entry["about"] == "person"]
