"""Those who ask for offboardings and those who are asked: requests keep coming, and people answer, or do not."""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any, TypeVar

import httpx2

from regie.cli.demo_world import TENANT
from regie.core.errors import Denied, RegieError, Unavailable
from regie.core.status import RunStatus
from regie.store import run_lists
from regie.store.runs import RunRow
from torture.evidence import Request, Wish
from torture.place import Place

T = TypeVar("T")

REPORTER = "elif.demir@example.com"
MANAGERS = ("piet.devries@example.com", "mehmet.yildiz@example.com", "sofia.almeida@example.com")
GROUPS = ("Sales Team", "CRM Users", "VPN Users", "Engineering", "Service Desk")
WISHES = (Wish.APPROVE,) * 7 + (Wish.REFUSE, Wish.REFUSE, Wish.SILENT)
WORKFLOW = "identity.offboard_employee"
THROUGH_API = 0.1
"""Share of requests that come through the API instead of a ticket."""
TWINS = 0.08
"""Share of tickets that somebody opens a second time."""
THINKING_S = 2.0
"""Longest that somebody thinks before answering."""
LOOK_S = 0.5
MOST_RUNS = 20_000


@dataclass
class Customers:
    """Everybody outside.

    Args:
        in_flight: How many requests to keep under way.

    Attributes:
        requests: Those that were accepted, or that a ticket stands for.
        counts: Answers given, deliveries repeated.
    """

    place: Place
    chance: random.Random
    in_flight: int
    requests: list[Request] = field(default_factory=list)
    counts: Counter[str] = field(default_factory=Counter)
    _answering: dict[str, asyncio.Task[None]] = field(default_factory=dict)
    _numbers: int = 0

    async def ask(self, stop: asyncio.Event) -> None:
        """Keep requests coming until told to stop."""
        while not stop.is_set():
            rows = await self.runs()
            over = sum(row.status.is_final for row in rows)
            for _ in range(min(3, self.in_flight - (len(self.requests) - over))):
                await self._ask_once()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(stop.wait(), LOOK_S)

    async def answer(self, stop: asyncio.Event) -> None:
        """Answer approvals until told to stop."""
        while not stop.is_set():
            with contextlib.suppress(RegieError):
                page = await self.place.operator.get("/v1/approvals", status="open", limit=200)
                for approval in page["items"]:
                    if approval["id"] not in self._answering:
                        task = asyncio.create_task(self._answer_one(approval))
                        self._answering[approval["id"]] = task
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(stop.wait(), LOOK_S)
        for task in self._answering.values():
            task.cancel()
        await asyncio.gather(*self._answering.values(), return_exceptions=True)

    async def deliver_again(self) -> None:
        """Have the desk send the webhook about some ticket a second time."""
        tickets = [request.ticket for request in self.requests if request.ticket]
        if tickets:
            await self._redeliver(self.chance.choice(tickets))

    async def deliver_the_rest(self) -> None:
        """Have the desk send every webhook that was not taken yet."""
        for request in [request for request in self.requests if request.ticket]:
            found = (await self.place.sandbox.get(f"/sandbox/tickets/{request.ticket}/webhooks")).json()
            if not any(delivery["state"] == "delivered" for delivery in found):
                await self._redeliver(request.ticket)

    async def runs(self) -> list[RunRow]:
        """Every run, whatever happens to the database meanwhile."""

        async def read() -> list[RunRow]:
            async with self.place.database.reading() as tx:
                return await run_lists.list_runs(tx, limit=MOST_RUNS)

        return await patiently(read)

    async def open_runs(self) -> list[RunRow]:
        """Those that are not over."""
        return [row for row in await self.runs() if row.status in {RunStatus.RUNNING, RunStatus.WAITING}]

    async def _redeliver(self, ticket: str) -> None:
        with contextlib.suppress(httpx2.HTTPError):
            answer = await self.place.sandbox.post(f"/sandbox/tickets/{ticket}/redeliver")
            self.counts["deliveries repeated"] += int(answer.is_success)

    async def _ask_once(self) -> None:
        self._numbers += 1
        person = f"p{self._numbers:05}@example.com"
        wish = self.chance.choice(WISHES)
        groups = self.chance.sample(GROUPS, self.chance.randint(0, 3))
        hired = await self.place.sandbox.post(
            "/sandbox/people",
            json={
                "upn": person,
                "given_name": "Person",
                "surname": f"{self._numbers:05}",
                "manager": self.chance.choice(MANAGERS),
                "groups": groups,
            },
        )
        known = hired.raise_for_status().json()

        def request(name: str, ticket: str = "", answered: str = "") -> Request:
            return Request(name, ticket, person, known["id"], tuple(known["groups"]), wish, answered)

        if self.chance.random() < THROUGH_API:
            name = f"torture-{self._numbers}"
            body = {"tenant": TENANT, "workflow": WORKFLOW, "input": {"employee": person}}
            post = self.place.operator.post
            answer = await patiently(lambda: post("/v1/runs", body, {"Idempotency-Key": name}))
            self.requests.append(request(name, answered=str(answer["id"])))
            return
        for _ in range(2 if self.chance.random() < TWINS else 1):
            ticket = await self.place.story.sandbox.open_ticket({"reporter": REPORTER, "employee": person})
            self.requests.append(request(ticket, ticket))

    async def _answer_one(self, approval: dict[str, Any]) -> None:
        """Think, then answer, until it is known that the answer has been taken or is too late."""
        asked = next((each for each in self.requests if approval["question"].endswith(f"{_name(each)}?")), None)
        if asked is None or asked.wish is Wish.SILENT:
            if asked is None:
                del self._answering[approval["id"]]
            return
        decision = "approved" if asked.wish is Wish.APPROVE else "refused"
        await asyncio.sleep(self.chance.uniform(0, THINKING_S))
        who = self.chance.choice(approval["approvers"])
        while True:
            try:
                await patiently(lambda: self.place.story.decide(approval, who, decision, "It was asked for."))
            except Denied:
                # An earlier try got through without an answer, or the time is over; the evidence shows which.
                self.counts["answers that came late or twice"] += 1
            except RegieError:
                # Somebody who signs in very often at the same time is asked to wait.
                self.counts["answers that had to wait"] += 1
                await asyncio.sleep(LOOK_S)
                continue
            else:
                self.counts[decision] += 1
            return


def _name(request: Request) -> str:
    """How the directory calls whom a request is about."""
    return f"Person {request.person[1:6]}"


async def patiently(act: Callable[[], Awaitable[T]]) -> T:
    """Try again while something does not answer."""
    while True:
        try:
            return await act()
        except (Unavailable, httpx2.TransportError):
            await asyncio.sleep(LOOK_S)
