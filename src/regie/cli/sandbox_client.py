"""The imaginary outside world as the demo and `prove` use it: opening tickets, counting writes, comparing worlds."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import httpx2

from regie.core.errors import InvalidInput


@dataclass
class SandboxClient:
    """Speaks to the hand above the imaginary world (`/sandbox/...`), never to the vendors' endpoints."""

    http: httpx2.AsyncClient

    async def open_ticket(self, ticket: dict[str, Any]) -> str:
        """Open a ticket as a customer would on the portal; its key.

        Raises:
            InvalidInput: There is no such ticket in this world.
        """
        response = await self.http.post("/sandbox/tickets", json=ticket)
        if response.is_client_error:
            raise InvalidInput(f"The imaginary company takes no such ticket: {_detail(response)}")
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


def faults_in_words(faults: Iterable[Mapping[str, Any]]) -> str:
    """What pydantic has found wrong, each with its place in what was read."""
    return "; ".join(": ".join(filter(None, (".".join(map(str, each["loc"])), each["msg"]))) for each in faults)


def _detail(response: httpx2.Response) -> str:
    """Why the hand above the world refuses, in words: it says them itself, or which fields do not fit."""
    detail = response.json().get("detail", response.text)
    if not isinstance(detail, list):
        return str(detail)
    return f"{faults_in_words({**each, 'loc': each['loc'][1:]} for each in detail)}."


def about_people(entries: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Only the writes about people; the tickets' own comments and moves are counted apart."""
    return [entry for entry in entries if entry["about"] == "person"]
