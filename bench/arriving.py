"""From a signed webhook to the first step of its run, through the real web, gateway and worker processes.

The first step asks the gateway for something, as most first steps do; what is measured ends when it is handed out.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import json
import tempfile
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import httpx2
import yaml

from regie.cli.demo_world import TENANT, up_demo
from regie.cli.installation import Installation
from regie.settings import Settings
from regie.store import releases, runs, steps
from regie.store.database import Database
from regie.store.postgres_server import PostgresServer

DOMAIN, PROJECT, KIND = "arriving", "BENCH", "Look somebody up"
WORKFLOW = f"""\
workflow: {DOMAIN}.look_up
title: Look somebody up
owner: team:bench
start:
  ticket: {{ system: jira, project: {PROJECT}, request_type: {KIND} }}
steps:
  - {{ id: look, uses: identity.list_access, with: {{ user: elif.demir@example.com }} }}
"""
ABOUT = {"domain": DOMAIN, "title": "Arriving", "owner": "team:bench", "classification": "personal"}
UNTIMED = 20
"""Webhooks before those that are measured: connections are opened, statements prepared."""
PAUSE_S = 0.02
LOOK_S = 0.03
"""Between two looks for the step: looking takes CPU from what is measured."""
PATIENCE_S = 30.0


async def arrivals(number: int) -> list[float]:
    """Seconds from posting each of so many webhooks, one after the other, until its first step began."""
    with tempfile.TemporaryDirectory(prefix="regie-bench-") as name:
        folder = Path(name)
        # Under root the database runs under another account, which must be able to enter.
        folder.chmod(0o755)  # noqa: ASYNC240  nothing else runs yet
        settings = Settings(home=folder / "home", port=0, database_url="", workspace=None, crash_at="")
        try:
            # Twice: a worker serves the domains that there are when it starts.
            async with _installed(settings) as (_, installation, _):
                _write(installation.settings)
            async with _installed(settings) as (web, installation, database):
                secret = (installation.settings.keys / "sandbox-webhook.secret").read_text(encoding="utf-8")
                async with httpx2.AsyncClient(base_url=web, timeout=PATIENCE_S, trust_env=False) as http:
                    taken = [await _arrive(http, database, secret, each) for each in range(UNTIMED + number)]
                return taken[UNTIMED:]
        finally:
            PostgresServer(settings.home / "postgres").remove()


@asynccontextmanager
async def _installed(settings: Settings) -> AsyncIterator[tuple[str, Installation, Database]]:
    """Everything of a demo installation, at work."""
    async with AsyncExitStack() as stack:
        services = await stack.enter_async_context(up_demo(settings, lambda _: None))
        installation = Installation(services.settings, lambda _: None)
        yield services.web, installation, await stack.enter_async_context(installation.running_database())


def _write(settings: Settings) -> None:
    """Add a domain of our own, and let it use the connections."""
    domain = settings.workspace_folder / "domains" / DOMAIN
    (domain / "workflows").mkdir(parents=True)
    (domain / "domain.yaml").write_text(yaml.safe_dump(ABOUT), encoding="utf-8")
    (domain / "workflows" / "look_up.yaml").write_text(WORKFLOW, encoding="utf-8")
    file = settings.workspace_folder / "tenants" / f"{TENANT}.yaml"
    tenant = yaml.safe_load(file.read_text(encoding="utf-8"))
    tenant["domains"].append(DOMAIN)
    for connection in tenant["connections"].values():
        connection["domains"].append(DOMAIN)
    file.write_text(yaml.safe_dump(tenant, sort_keys=False, allow_unicode=True), encoding="utf-8")


async def _arrive(http: httpx2.AsyncClient, database: Database, secret: str, number: int) -> float:
    """Post one webhook and wait for its run's first step; both moments are of the database's clock."""
    new = {"name": "Open", "statusCategory": {"key": "new"}}
    fields = {
        "summary": KIND,
        "status": new,
        "project": {"key": PROJECT},
        "customfield_10010": {"requestType": {"name": KIND}},
    }
    said = {"webhookEvent": "jira:issue_created", "issue": {"key": f"{PROJECT}-{number}", "fields": fields}}
    body = json.dumps(said).encode()
    headers = {
        "Content-Type": "application/json",
        "X-Atlassian-Webhook-Identifier": f"arriving-{number}",
        "X-Hub-Signature": "sha256=" + hmac.new(secret.encode(), body, hashlib.sha256).hexdigest(),
    }
    async with database.reading() as tx:
        posted_at = (await releases.current_at(tx)).now
    answer = await http.post(f"/v1/inbound/{TENANT}/jira", content=body, headers=headers)
    [started] = answer.raise_for_status().json()["runs"]
    async with asyncio.timeout(PATIENCE_S):
        while True:
            async with database.reading() as tx:
                key = await runs.find(tx, started["id"])
                done = [] if key is None else await steps.list_steps(tx, key)
            if done and (begun := done[0].started_at) is not None:
                await asyncio.sleep(PAUSE_S)
                return (begun - posted_at).total_seconds()
            await asyncio.sleep(LOOK_S)
