"""An imaginary world per test, with a clock that only moves when told to."""

from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx2
import pytest
from fastapi import FastAPI

from regie_sandbox import seed
from regie_sandbox.app import close, make_app
from regie_sandbox.rules import Rules

JAN = "jan.janssen@example.com"


@dataclass
class HandClock:
    """Stands still until `forward`."""

    now: datetime = field(default_factory=lambda: datetime(2026, 11, 21, 12, 0, tzinfo=UTC))

    def __call__(self) -> datetime:
        return self.now

    def forward(self, seconds: float) -> None:
        self.now += timedelta(seconds=seconds)


@dataclass
class Listener:
    """Stands for whoever registered the webhook: remembers requests, answers with the next prepared status."""

    requests: list[httpx2.Request] = field(default_factory=list)
    answers: list[int] = field(default_factory=list)

    def handle(self, request: httpx2.Request) -> httpx2.Response:
        self.requests.append(request)
        status = self.answers.pop(0) if self.answers else 202
        if status == 0:
            raise httpx2.ConnectError("nobody listens")
        return httpx2.Response(status)


@dataclass
class Outside:
    """The world and the clients that talk to it."""

    app: FastAPI
    clock: HandClock
    listener: Listener
    http: httpx2.AsyncClient
    jira: httpx2.AsyncClient

    async def token(self, app: seed.Registration = seed.REGIE_APP) -> str:
        form = {
            "grant_type": "client_credentials",
            "client_id": app.client_id,
            "client_secret": app.client_secret,
            "scope": "https://graph.microsoft.com/.default",
        }
        answer = await self.http.post(f"/login/{seed.TENANT_ID}/oauth2/v2.0/token", data=form)
        return str(answer.json()["access_token"])

    async def graph(self, method: str, path: str, **rest: Any) -> httpx2.Response:
        """One call with a fresh token of Regie's app."""
        headers = {"Authorization": f"Bearer {await self.token()}"} | rest.pop("headers", {})
        return await self.http.request(method, f"/graph/v1.0{path}", headers=headers, **rest)

    async def open_ticket(self, **rest: Any) -> str:
        body = {"reporter": "piet.devries@example.com", "employee": JAN, "last_day": "2026-11-30"} | rest
        answer = await self.http.post("/sandbox/tickets", json=body)
        assert answer.status_code == 201, answer.text
        return str(answer.json()["key"])

    async def rules(self, **turned: Any) -> None:
        assert (await self.http.patch("/sandbox/rules", json=turned)).status_code == 200

    async def fault(self, **fault: Any) -> None:
        assert (await self.http.post("/sandbox/faults", json=fault)).status_code == 201

    async def ledger(self, **query: Any) -> list[dict[str, Any]]:
        entries: list[dict[str, Any]] = (await self.http.get("/sandbox/ledger", params=query)).json()["entries"]
        return entries

    async def digest(self) -> str:
        return str((await self.http.get("/sandbox/world/digest")).json()["digest"])


@pytest.fixture
async def outside(tmp_path: Path) -> AsyncIterator[Outside]:
    clock, listener = HandClock(), Listener()
    app = make_app(
        tmp_path,
        clock=clock,
        rules=Rules(webhook_retry_seconds=0),
        webhook_url="http://127.0.0.1:9/hooks/jira",
        webhook_secret="webhook-secret",
        webhook_client=httpx2.AsyncClient(transport=httpx2.MockTransport(listener.handle)),
    )
    transport = httpx2.ASGITransport(app)
    account = seed.JIRA_ACCOUNT
    async with (
        httpx2.AsyncClient(transport=transport, base_url="http://outside.example") as http,
        httpx2.AsyncClient(
            transport=transport,
            base_url="http://outside.example/jira/rest/api/3",
            auth=(account.email, account.api_token),
        ) as jira,
    ):
        yield Outside(app, clock, listener, http, jira)
    await close(app)
