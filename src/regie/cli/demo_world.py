"""The demo installation: Regie with an imaginary outside world beside it, on ports and with credentials of its own."""

from __future__ import annotations

import asyncio
import importlib.util
import json
import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2
import yaml

from regie.cli.installation import Installation, Say, demo_file, demo_home, operator, real_home
from regie.cli.ports import free_port, require_free
from regie.cli.processes import Process, Supervisor
from regie.core.errors import InvalidInput
from regie.core.reach import OPERATOR
from regie.core.tenant import SecretRef
from regie.gateway.keeping import keep_secrets
from regie.settings import Settings
from regie.store import accounts

TENANT = "example"
"""The demo's only tenant."""
LOOKING_AROUND = "nguyen.thao@example.com"
"""The office manager of the imaginary company: her account may see everything."""


@dataclass(frozen=True, slots=True)
class Services:
    """Where everything answers; `sandbox` is empty outside the demo."""

    web: str
    sandbox: str
    settings: Settings
    supervisor: Supervisor


@dataclass(frozen=True, slots=True)
class World:
    """What the demo installation remembers between starts: its ports."""

    web_port: int
    sandbox_port: int

    @classmethod
    def read(cls, file: Path) -> World:
        """Read it back."""
        return cls(**json.loads(file.read_text()))


@asynccontextmanager
async def up(settings: Settings, say: Say, *, is_demo: bool) -> AsyncIterator[Services]:
    """Everything of one installation, running until the end of the block.

    Raises:
        InvalidInput: It runs already, or is asked to be a demo and is a real one.
    """
    settings = real_home(settings)
    if (
        is_demo
        and settings.home.exists()
        and any(file.name != "up.lock" for file in settings.home.iterdir())
        and not demo_home(settings)
    ):
        raise InvalidInput(
            f"{settings.home} holds an installation that is no demo.", hint="Set REGIE_HOME to another folder."
        )
    with Installation(settings, say).alone():
        async with _started(settings, say, is_demo=is_demo) as services:
            yield services


@asynccontextmanager
async def _started(settings: Settings, say: Say, *, is_demo: bool) -> AsyncIterator[Services]:
    supervisor = Supervisor(say)
    installation = Installation(settings, say)
    server = installation.server()
    try:
        sandbox = ""
        # What can be known to be wrong is told before anything is started for it.
        if is_demo:
            given = world(settings)
            # The imaginary world is told the port anew each time, so another one does as well.
            settings = settings.model_copy(update={"port": free_port(given.web_port), "local_accounts": True})
            installation = Installation(settings, say)
        else:
            installation.read_release()
        require_free(settings.port)
        if is_demo:
            process, _ = await asyncio.gather(
                _start_sandbox(settings, supervisor, given), asyncio.to_thread(installation.start_database)
            )
            sandbox = process.ready["address"]
            await _write_workspace(settings, sandbox)
        async with installation.database() as database:
            release = await installation.load(database)
            if is_demo:
                await _add_accounts(settings, database, release.tenants[TENANT].roles)
            if server is not None:
                supervisor.keep(server.is_running, server.ensure)
            say("Starting gateway, workers and web")
            web = await installation.start(supervisor, installation.start_database(), database)
            gateway = next(process.ready["address"] for process in supervisor.processes if process.name == "gateway")
            installation.write_state(web=web.ready["address"], gateway=gateway, sandbox=sandbox)
            yield Services(web.ready["address"], sandbox, settings, supervisor)
    finally:
        await supervisor.stop()
        installation.forget_state()
        if server is not None:
            server.stop()


def world(settings: Settings) -> World:
    """What makes an installation a demo, written down the first time."""
    file = demo_file(settings)
    if not file.exists():
        settings.home.mkdir(parents=True, exist_ok=True, mode=0o700)
        file.write_text(json.dumps({"web_port": free_port(settings.port), "sandbox_port": free_port()}))
    return World.read(file)


async def _start_sandbox(settings: Settings, supervisor: Supervisor, given: World) -> Process:
    if importlib.util.find_spec("regie_sandbox") is None:
        raise InvalidInput(
            "The imaginary outside world (regie-sandbox) is not installed.", hint="`make setup` in a clone installs it."
        )
    secret = settings.keys / "sandbox-webhook.secret"
    settings.keys.mkdir(parents=True, exist_ok=True, mode=0o700)
    if not secret.exists():
        secret.touch(mode=0o600)
        secret.write_text(secrets.token_urlsafe(24))
    arguments = (
        *("--port", str(given.sandbox_port), "--state", str(settings.home / "sandbox")),
        *("--webhook-url", f"http://127.0.0.1:{settings.port}/v1/inbound/{TENANT}/jira"),
        # In one word: a secret may begin with a dash, and would be taken for an option.
        f"--webhook-secret={secret.read_text()}",
        *("--interactivity-url", f"http://127.0.0.1:{settings.port}/v1/inbound/{TENANT}/slack"),
    )
    return await supervisor.add(Process("sandbox", "regie_sandbox", settings.home / "logs", arguments=arguments))


async def _write_workspace(settings: Settings, sandbox: str) -> None:
    """Write the demo's tenant and vault from the credentials that the imaginary world hands out; once."""
    file = settings.workspace_folder / "tenants" / f"{TENANT}.yaml"
    if file.exists():
        return
    async with httpx2.AsyncClient(base_url=sandbox, trust_env=False) as http:
        given: dict[str, Any] = (await http.get("/sandbox/credentials")).json()
        people = (await http.get("/sandbox/world")).json()["people"]
    jira, graph, slack = given["jira"], given["graph"], given["slack"]
    webhook = (settings.keys / "sandbox-webhook.secret").read_text()
    tenant = {
        "tenant": TENANT,
        "title": "Example Company",
        "domains": ["identity"],
        "connections": {
            "jira": {
                "connector": "jira",
                "domains": ["identity"],
                "settings": {
                    "site": f"{sandbox}/jira",
                    "email": jira["email"],
                    "fields": {name: jira["fields"][name] for name in ("employee", "last_day")},
                    "closing_transitions": ["Start progress", "Resolve"],
                },
                "secrets": {"api_token": "secret://identity/jira-token", "webhook": "secret://identity/jira-webhook"},
            },
            "graph": {
                "connector": "graph",
                "domains": ["identity"],
                "settings": {
                    "address": f"{sandbox}/graph/v1.0",
                    "token_url": f"{sandbox}/login/{graph['tenant_id']}/oauth2/v2.0/token",
                    "client_id": graph["client_id"],
                },
                "secrets": {"client_secret": "secret://identity/graph-client"},
            },
            "slack": {
                "connector": "slack",
                "domains": ["identity"],
                "settings": {
                    "address": f"{sandbox}/slack/api",
                    "workspace": slack["workspace"],
                    "app": slack["app"],
                    "channels": slack["channels"],
                    "decides": True,
                },
                "secrets": {
                    "bot_token": "secret://identity/slack-bot",
                    "signing_secret": "secret://identity/slack-signing",
                },
            },
        },
        "roles": {"security-officer": [_titled(people, "Security Officer")]},
        # A demo cannot wait for hours.
        "settings": {
            "identity": {"manager_answers_within": "3s", "remind_after": "1s", "officer_answers_within": "20m"}
        },
    }
    keep_secrets(
        settings.vault_file,
        TENANT,
        {
            SecretRef(domain="identity", name="jira-token"): jira["api_token"],
            SecretRef(domain="identity", name="jira-webhook"): webhook,
            SecretRef(domain="identity", name="graph-client"): graph["client_secret"],
            SecretRef(domain="identity", name="slack-bot"): slack["bot_token"],
            SecretRef(domain="identity", name="slack-signing"): slack["signing_secret"],
        },
    )
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(yaml.safe_dump(tenant, sort_keys=False, allow_unicode=True), encoding="utf-8")
    managers = {person["manager_id"] for person in people}
    approvers = [person["upn"] for person in people if person["id"] in managers]
    asked = (*approvers, _titled(people, "Security Officer"), LOOKING_AROUND)
    passwords = {person: secrets.token_urlsafe(12) for person in asked}
    settings.sign_ins_file.touch(mode=0o600)
    settings.sign_ins_file.write_text(json.dumps(passwords, indent=2))


def _titled(people: list[dict[str, Any]], title: str) -> str:
    """The address of whoever has a job."""
    return next(str(person["upn"]) for person in people if person["job_title"] == title)


async def _add_accounts(settings: Settings, database: Any, roles: dict[str, tuple[str, ...]]) -> None:
    """Local accounts for the people whom the demo asks, one of which may look around everywhere."""
    passwords: dict[str, str] = json.loads(settings.sign_ins_file.read_text())
    async with database.transaction() as tx:
        known = {account.address for account in await accounts.list_accounts(tx)}
        for person in passwords.keys() - known:
            held = tuple(role for role, people in roles.items() if person in people)
            if person == LOOKING_AROUND:
                held += (OPERATOR,)
            await accounts.add(
                tx,
                address=person,
                display_name=person.partition("@")[0].replace(".", " ").title(),
                password=passwords[person],
                roles=held,
                by=operator(),
            )
