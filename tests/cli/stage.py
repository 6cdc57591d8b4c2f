"""Hands to act in an installation in which nothing runs but the database."""

from __future__ import annotations

import asyncio
import atexit
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, LiteralString

import psycopg
import yaml

from regie.cli import doctor
from regie.cli.findings import Finding, Level
from regie.cli.installation import Installation
from regie.core.audit import Actor
from regie.core.run_commands import OpenApproval
from regie.core.status import RunStatus
from regie.core.tenant import SecretRef
from regie.engine.port import StartRequest
from regie.engine.postgres import PostgresEngine
from regie.gateway.keeping import keep_secrets
from regie.gateway_client import GatewayClient
from regie.settings import read_or_make_token
from regie.store import approvals, claims, commits, workers
from regie.store.database import Database
from regie.store.keys import RunKey
from regie.web.app import make_web
from regie.web.identify import WaysIn

from ..typists import Typist  # noqa: TID252  same
from ..web.listening import listening  # noqa: TID252  tests are no installed package, so there is no absolute name

REGIE = str(Path(sys.executable).parent / "regie")
WORKFLOW = "identity.offboard_employee"
OPERATOR = Actor(type="operator", id="operator")
SECRETS = {"api_token": "secret://identity/jira-token", "webhook": "secret://identity/jira-webhook"}
TENANT: dict[str, Any] = {
    "tenant": "acme",
    "title": "Acme",
    "domains": ["identity"],
    "connections": {
        "jira": {
            "connector": "jira",
            "domains": ["identity"],
            "settings": {"site": "https://acme.example.com", "email": "regie@example.com"},
            "secrets": SECRETS,
        }
    },
    "roles": {"security-officer": ["ingrid.larsen@example.com"]},
    "settings": {"identity": {"remind_after": "1h"}},
}


def regie(home: Path, *arguments: str, stdin: str = "", **more: str) -> subprocess.CompletedProcess[str]:
    """Run the command line as a process of its own, without the time to load it; `more` are settings."""
    settings = {f"REGIE_{name.upper()}": value for name, value in {"home": str(home), "port": "0", **more}.items()}
    environment = {"PATH": os.defpath, "HOME": str(home.parent), **settings}
    command = [*typist().words(), *arguments]
    return subprocess.run(
        command, capture_output=True, text=True, timeout=120, env=environment, input=stdin, check=False
    )


@cache
def typist() -> Typist:
    """The one of this test process."""
    folder = Path(tempfile.mkdtemp(prefix="regie-typist-"))
    # Whoever tests another tree than the installed one means that tree here too.
    made = Typist(folder, {"PATH": os.defpath, "PYTHONPATH": str(Path(doctor.__file__).parents[2])})
    atexit.register(shutil.rmtree, folder)
    atexit.register(made.close)
    return made


@dataclass
class Stage:
    """One installation."""

    installation: Installation
    database: Database

    @property
    def home(self) -> Path:
        return self.installation.settings.home

    @property
    def tenant_file(self) -> Path:
        return self.installation.settings.workspace_folder / "tenants" / "acme.yaml"

    def write_tenant(self, **parts: Any) -> None:
        self.tenant_file.parent.mkdir(parents=True, exist_ok=True)
        self.tenant_file.write_text(yaml.safe_dump({**TENANT, **parts}, sort_keys=False), encoding="utf-8")

    def keep_secrets(self) -> None:
        for text in SECRETS.values():
            reference = SecretRef.parse(text)
            assert isinstance(reference, SecretRef)
            keep_secrets(self.installation.settings.vault_file, "acme", {reference: "hush"})

    async def regie(self, *arguments: str, **more: str) -> subprocess.CompletedProcess[str]:
        url = self.installation.settings.database_url
        return await asyncio.to_thread(regie, self.home, *arguments, database_url=url, **more)

    @asynccontextmanager
    async def answering(self) -> AsyncIterator[None]:
        """A web answers meanwhile: a command that finds none starts all of Regie for itself, which takes seconds."""
        token = read_or_make_token(self.installation.settings.operator_token_file)
        async with GatewayClient("http://127.0.0.1:9", "x") as gateway:
            web = make_web(self.database, gateway, operator_token=token, ways_in=WaysIn(has_local_accounts=True))
            with self.installation.alone():
                async with listening(web) as address:
                    self.installation.write_state(web=address)
                    yield
                self.installation.forget_state()

    async def examine(self, *, is_online: bool = False) -> list[Finding]:
        return await doctor.examine(self.installation, is_online=is_online)

    async def bad(self) -> list[Finding]:
        """What the doctor finds worth a look."""
        return [each for each in await self.examine() if each.level in {Level.WARNING, Level.PROBLEM}]

    async def only(self) -> Finding:
        """The one thing that the doctor finds worth a look."""
        found = await self.bad()
        assert len(found) == 1, found
        assert found[0].remedy
        return found[0]

    async def start(self, ticket: str = "ITSM-1") -> RunKey:
        request = StartRequest(
            tenant="acme", workflow=WORKFLOW, trigger_key=f"t:{ticket}", started_by=OPERATOR, ticket=ticket
        )
        return (await PostgresEngine(self.database).start(request)).key

    async def park(self, key: RunKey, *opened: OpenApproval, within_s: float = 3600) -> None:
        """Have a worker bring a run to where it waits, for these approvals and for nothing else."""
        async with (
            workers.registered(self.database, name="w", domains=["identity"]) as worker,
            self.database.transaction() as tx,
        ):
            [claimed] = (await claims.take(tx, worker.id, ["identity"], 1)).runs
            assert claimed.claim.key == key
            step = commits.StepCommit(
                state_json=claimed.state_json,
                status=RunStatus.WAITING,
                approvals=opened,
                timers_set={"rung:approval:0": within_s} if opened else {},
                park_seen=claimed.inbox_n,
            )
            await commits.commit(tx, claimed.claim, step)

    async def ask(self, *approvers: str) -> str:
        """A run that waits for people; the approval's id."""
        key = await self.start()
        opened = OpenApproval(
            place="approval",
            rung=1,
            rungs=1,
            question="Really?",
            plan=(),
            approvers=approvers,
            requester="rik@example.com",
            expires_after_s=3600,
        )
        await self.park(key, opened)
        return approvals.approval_id(key, "approval")

    def sql(self, statement: LiteralString) -> None:
        """Break something that no code of ours would."""
        with psycopg.connect(self.installation.settings.database_url, autocommit=True) as connection:
            connection.execute(statement)
