"""Hands to do everything wrong with, in a running installation or on the command line."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import hmac
import json
import os
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, NamedTuple

import httpx2
import psycopg
import yaml

from regie import cli
from regie.cli.installation import Installation
from regie.cli.story import Story
from regie.store.audit import Leaf
from regie.store.choosing import TURNS
from regie.store.database import Database
from regie.store.sealer import Sealer
from tests.leaves import read_outside

REGIE = str(Path(sys.executable).parent / "regie")
OFFBOARD = "identity.offboard_employee"
REPORTER, OFFICER = "elif.demir@example.com", "ingrid.larsen@example.com"
LOOK = """\
workflow: identity.look_up
title: Look somebody up
owner: team:implementation
start:
  ticket: { system: jira, project: ITSM, request_type: Onboarding }
input:
  employee: { type: email, title: Employee, from: ticket.fields.employee }
steps:
  - id: access
    uses: identity.list_access
    with: { user: "${{ input.employee }}" }
    retry: { attempts: 2, first: 1s, most: 1s }
"""
"""A workflow that only reads, and soon gives up."""


def regie(home: Path, *arguments: str, stdin: str = "", **more: str) -> subprocess.CompletedProcess[str]:
    """Run the command line as a process of its own; `more` are settings."""
    settings = {f"REGIE_{name.upper()}": value for name, value in {"home": str(home), "port": "0", **more}.items()}
    environment = {"PATH": os.defpath, "HOME": str(home.parent), **settings}
    # Whoever tests another tree than the installed one means that tree here too.
    environment["PYTHONPATH"] = str(Path(cli.__file__).parents[2])
    return subprocess.run(
        [REGIE, *arguments], capture_output=True, text=True, timeout=120, env=environment, input=stdin, check=False
    )


class Mark(NamedTuple):
    """How things stood: the world of people, the writes outside, the number of runs and of their effects."""

    world: str
    writes: int
    runs: int


class Stage:
    """One running installation."""

    def __init__(self, story: Story) -> None:
        self.story = story
        self.settings = story.services.settings
        self.sandbox = story.sandbox.http
        self.web = story.services.web
        self.tenant_file = self.settings.workspace_folder / "tenants" / "example.yaml"
        self.written = self.tenant_file.read_text(encoding="utf-8")

    async def prepare(self) -> None:
        """Add a workflow that soon gives up."""
        folder = self.settings.workspace_folder / "domains" / "identity" / "workflows"
        folder.mkdir(parents=True)
        (folder / "look_up.yaml").write_text(LOOK, encoding="utf-8")
        await self.load()

    async def load(self) -> None:
        installation = Installation(self.settings, lambda _: None)
        release = installation.read_release()
        async with installation.running_database() as database:
            loaded = await installation.load(database)
        assert loaded.digest == release.digest

    @contextlib.asynccontextmanager
    async def tenant(self, **changed: Any) -> AsyncIterator[dict[str, Any]]:
        """The tenant with another file for a while."""
        tenant: dict[str, Any] = yaml.safe_load(self.written)
        for path, value in changed.items():
            inner = tenant
            *before, last = path.split("__")
            for name in before:
                inner = inner[name]
            inner[last] = value
        self.tenant_file.write_text(yaml.safe_dump(tenant, sort_keys=False), encoding="utf-8")
        try:
            await self.load()
            yield tenant
        finally:
            self.tenant_file.write_text(self.written, encoding="utf-8")
            await self.load()

    # --- how things stand ---------------------------------------------------------------------------------------------

    async def mark(self) -> Mark:
        seq, _ = await self.story.sandbox.ledger()
        runs = await self.story.operator.every("/v1/runs", 10_000)
        return Mark(await self.story.sandbox.digest(), seq, len(runs))

    async def outside_leaves(self) -> list[Leaf]:
        """Facts about no run, newest first."""
        installation = Installation(self.settings, lambda _: None)
        dsn = installation.running_address()
        assert dsn is not None
        async with (
            Database(dsn, Sealer.from_file(self.settings.sealing_key_file)) as database,
            database.reading() as tx,
        ):
            return await read_outside(tx, "example", "identity")

    async def comments(self, ticket: str) -> str:
        """What has been said on a ticket, as one text."""
        return json.dumps((await self.story.sandbox.ticket(ticket))["comments"], ensure_ascii=False)

    # --- tickets ------------------------------------------------------------------------------------------------------

    async def open(self, **more: Any) -> tuple[str, dict[str, Any]]:
        """Open a ticket; its key and the run once it is over."""
        ticket = await self.story.sandbox.open_ticket({"reporter": REPORTER, "last_day": "2026-12-31", **more})
        return ticket, await self.story.end_of(await self.story.run_of(ticket))

    async def ask(self, employee: str, **more: Any) -> tuple[str, str, dict[str, Any]]:
        """Open an offboarding; ticket, run and the approval that it waits for."""
        request = {"reporter": REPORTER, "last_day": "2026-12-31", "employee": employee, **more}
        ticket = await self.story.sandbox.open_ticket(request)
        run = await self.story.run_of(ticket)
        approval = await self.story.open_approval(run)
        assert approval is not None
        return ticket, run, approval

    async def decide(self, approval: dict[str, Any], person: str, **more: str) -> httpx2.Response:
        """Say yes to a plan as a person; the answer as it comes."""
        passwords = json.loads(self.settings.sign_ins_file.read_text())
        body = {"decision": "approved", "plan_sha256": approval["plan_sha256"], **more}
        async with httpx2.AsyncClient(base_url=self.web, auth=(person, passwords[person]), trust_env=False) as http:
            return await http.post(f"/v1/approvals/{approval['id']}/decision", json=body)

    @contextlib.asynccontextmanager
    async def full_queue(self, domain: str, start: dict[str, Any]) -> AsyncIterator[None]:
        """One run waits to begin and the domain takes no more, until the end of the block: no worker gets a turn."""
        dsn = Installation(self.settings, lambda _: None).running_address()
        assert dsn is not None
        async with await psycopg.AsyncConnection.connect(dsn, autocommit=True) as connection:
            await connection.execute("select pg_advisory_lock(%s, hashtext(%s))", [TURNS, domain])
            await connection.execute("update regie.quota set waiting = 1 where domain = %s", [domain])
            try:
                assert (await self.api("POST", "/v1/runs", json=start)).status_code == 201
                yield
            finally:
                await connection.execute("update regie.quota set waiting = null where domain = %s", [domain])

    # --- API and deliveries -------------------------------------------------------------------------------------------

    async def api(self, method: str, path: str, **more: Any) -> httpx2.Response:
        """A request as the operator; the answer as it comes."""
        token = self.settings.operator_token_file.read_text().strip()
        headers = {"Authorization": f"Bearer {token}", **more.pop("headers", {})}
        async with httpx2.AsyncClient(base_url=self.web, trust_env=False, timeout=30) as http:
            return await http.request(method, path, headers=headers, **more)

    async def deliver(
        self,
        body: bytes,
        *,
        where: str = "example/jira",
        signed: bytes | None = None,
        headers: dict[str, str] | None = None,
    ) -> httpx2.Response:
        """A webhook as Jira sends it, signed for its body or for another one."""
        secret = (self.settings.keys / "sandbox-webhook.secret").read_text()
        digest = hmac.new(secret.encode(), body if signed is None else signed, hashlib.sha256).hexdigest()
        sent = {
            "Content-Type": "application/json",
            "X-Hub-Signature": f"sha256={digest}",
            "X-Atlassian-Webhook-Identifier": hashlib.sha256(body).hexdigest()[:20],
            **(headers or {}),
        }
        async with httpx2.AsyncClient(base_url=self.web, trust_env=False, timeout=30) as http:
            return await http.post(f"/v1/inbound/{where}", content=body, headers=sent)

    async def cli(self, *arguments: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
        return await asyncio.to_thread(regie, self.settings.home, *arguments, stdin=stdin)

    # --- trouble outside ----------------------------------------------------------------------------------------------

    @contextlib.asynccontextmanager
    async def trouble(self, **fault: Any) -> AsyncIterator[None]:
        """The vendors go wrong in a chosen way, until the end of the block."""
        (await self.sandbox.post("/sandbox/faults", json=fault)).raise_for_status()
        try:
            yield
        finally:
            (await self.sandbox.delete("/sandbox/faults")).raise_for_status()

    @contextlib.asynccontextmanager
    async def hiding(self, *people: str) -> AsyncIterator[None]:
        """People hide their addresses in Jira, until the end of the block."""
        (await self.sandbox.patch("/sandbox/rules", json={"jira_hidden_addresses": people})).raise_for_status()
        try:
            yield
        finally:
            (await self.sandbox.patch("/sandbox/rules", json={"jira_hidden_addresses": []})).raise_for_status()


def announcement(ticket: str, *, request_type: str | None = "Offboarding", project: str = "ITSM") -> bytes:
    """The body of a webhook about a new ticket; without a request type as some sites send it."""
    fields: dict[str, Any] = {"summary": "Offboarding", "project": {"key": project}}
    if request_type is not None:
        fields["customfield_10010"] = {"requestType": {"name": request_type}}
    issue = {"key": ticket, "fields": fields}
    return json.dumps({"webhookEvent": "jira:issue_created", "issue": issue}).encode()
