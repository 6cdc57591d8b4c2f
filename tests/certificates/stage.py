"""A tenant with certificates to renew, on a real database and gateway, and ways to act in it."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx2
import yaml
from cryptography import x509
from fastapi import FastAPI
from pydantic import JsonValue

from regie import connectors as shipped
from regie.core.audit import Actor
from regie.core.release import Release
from regie.core.run import RunState
from regie.core.tenant import SecretRef
from regie.domains import load_catalogue
from regie.engine.port import StartRequest
from regie.engine.postgres import PostgresEngine
from regie.engine.working import WorkerLoop
from regie.gateway.app import make_gateway
from regie.gateway.identify import Callers, worker_of
from regie.gateway.vault import VaultFile
from regie.gateway_client import GatewayClient
from regie.kit.discovery import connectors_in
from regie.store import audit, claims, effects, releases, runs, workers
from regie.store.database import Database
from regie.store.keys import RunKey
from regie.worker.performer import BlockPerformer
from regie.workspace.loading import load_release
from tests.counterparts.here import LOOPBACK
from tests.gateway.conftest import alive
from tests.gateway.stage import Run

from . import board, shelf

TENANT, DOMAIN, TOKEN = "acme", "certificates", "token-of-the-worker-for-certificates"
OWNER = "certificate.owner@example.com"
OPERATOR = Actor(type="operator", id="ops@example.com")
PATIENCE_S = 60.0
_numbers = itertools.count()


@dataclass
class World:
    """What a test may configure before it begins.

    Attributes:
        directory, trust: Of the authority.
        webroot: Folder shown at plain HTTP.
        shelf: Folder of the deploy target.
        entries: Entries of the tenant's setting `managed`, by name.
        settings: Other settings of the domain.
        connections: Further connections.
    """

    directory: str
    trust: str
    webroot: Path
    shelf: Path
    entries: dict[str, Any] = field(default_factory=dict)
    settings: dict[str, JsonValue] = field(default_factory=dict)
    connections: dict[str, Any] = field(default_factory=dict)
    secrets: dict[SecretRef, str] = field(default_factory=dict)

    def entry(self, *names: str, targets: Sequence[str] = ("site",), **more: JsonValue) -> dict[str, Any]:
        """An entry for names, proven by http-01."""
        return {
            "names": list(names),
            "authority": "authority",
            "key": "ec-p256",
            "proof": "http-01",
            "prove_through": "webroot",
            "targets": [{"connection": "shelf", "target": target} for target in targets],
            **more,
        }

    def release(self, folder: Path) -> Release:
        """Written as an operator would, and loaded."""
        tenant = {
            "tenant": TENANT,
            "title": "Acme",
            "domains": [DOMAIN],
            "connections": {
                "authority": {
                    "connector": "acme",
                    "domains": [DOMAIN],
                    "reach": [LOOPBACK],
                    "settings": {"directory": self.directory, "trusted_authority": self.trust},
                    "secrets": {"account_key": f"secret://{DOMAIN}/acme-account"},
                },
                "webroot": {"connector": "webroot", "domains": [DOMAIN], "settings": {"folder": str(self.webroot)}},
                "shelf": {"connector": "shelf", "domains": [DOMAIN], "settings": {"folder": str(self.shelf)}},
                **self.connections,
            },
            "roles": {"certificate-owner": [OWNER]},
            "settings": {DOMAIN: {"managed": self.entries, **self.settings}},
        }
        (folder / "tenants").mkdir(parents=True, exist_ok=True)
        (folder / "tenants" / f"{TENANT}.yaml").write_text(yaml.safe_dump(tenant), encoding="utf-8")
        return load_release(folder, load_catalogue())


@dataclass
class Stage:
    """Everything a test acts with."""

    database: Database
    world: World
    vault: VaultFile
    gateway: FastAPI
    client: GatewayClient
    engine: PostgresEngine
    worker: str

    async def begin(self, workflow: str, given: dict[str, JsonValue], *, dry: bool = False) -> RunKey:
        """Start a run of any workflow of the domain."""
        request = StartRequest(
            tenant=TENANT,
            workflow=f"{DOMAIN}.{workflow}",
            trigger_key=f"by hand {next(_numbers)}",
            started_by=OPERATOR,
            given=given,
            dry=dry,
        )
        return (await self.engine.start(request)).key

    async def start(self, certificate: str, serial: str = "", *, dry: bool = False) -> RunKey:
        """Start a renewal."""
        return await self.begin("renew", {"certificate": certificate, "serial": serial}, dry=dry)

    async def until(self, key: RunKey, holds: Callable[[RunState], bool]) -> RunState:
        """Wait until a run is as wanted."""
        async with asyncio.timeout(PATIENCE_S):
            while not holds(state := await self.engine.state(key)):  # noqa: ASYNC110  it is in a database
                await asyncio.sleep(0.02)
        return state

    async def renew(self, certificate: str, serial: str = "", *, dry: bool = False) -> RunState:
        """A whole renewal, to its end."""
        key = await self.start(certificate, serial, dry=dry)
        return await self.until(key, lambda state: state.status.is_final)

    async def hold(self, certificate: str = "site") -> Run:
        """A run that nobody moves but the test."""
        async with self.database.transaction() as tx:
            release = await releases.current(tx)
            definition = release.definitions["certificates.renew"]
            key = RunKey(TENANT, DOMAIN, f"00000000-0000-4000-8000-{next(_numbers):012}")
            await runs.start(
                tx,
                runs.NewRun(
                    key=key,
                    workflow=definition.workflow,
                    release=release.digest,
                    definition_digest=definition.digest,
                    trigger_key=key.run,
                    started_by=OPERATOR,
                    state_json="{}",
                    ticket="",
                    dry=False,
                    parent=None,
                ),
            )
            [claimed] = (await claims.take(tx, self.worker, [DOMAIN], 1)).runs
        return Run(self.database, claimed.claim)

    async def pass_on(self, run: Run) -> Run:
        """Let go of a run and claim it again."""
        async with self.database.transaction() as tx:
            await claims.park(tx, run.claim, -1)
            [claimed] = (await claims.take(tx, self.worker, [DOMAIN], 1)).runs
        return Run(self.database, claimed.claim)

    def served(self, target: str = "site") -> x509.Certificate:
        """What lies on the shelf."""
        return x509.load_pem_x509_certificates((self.world.shelf / f"{target}.pem").read_bytes())[0]

    def serial(self, target: str = "site") -> str:
        """Its serial; empty where nothing lies."""
        file = self.world.shelf / f"{target}.serial"
        return file.read_text() if file.exists() else ""

    def deployments(self, target: str = "site") -> int:
        """How often something was laid there."""
        file = self.world.shelf / f"{target}.log"
        return len(file.read_text().splitlines()) if file.exists() else 0

    async def changes(self, key: RunKey) -> list[tuple[str, str]]:
        """What a run has done outside: capability and state, in order."""
        async with self.database.reading() as tx:
            assert await audit.verify(tx, key) == []
            rows = await effects.list_effects(tx, key)
        return [(row.capability, row.state.value) for row in sorted(rows, key=lambda row: row.intended_at)]


@asynccontextmanager
async def opened(
    database: Database,
    folder: Path,
    world: World,
    *,
    transport_for: Callable[[str], httpx2.AsyncBaseTransport] | None = None,
    works: bool = True,
) -> AsyncIterator[Stage]:
    """A stage; a worker moves its runs if it works."""
    vault = VaultFile.create(folder / "vault")
    for reference, value in world.secrets.items():
        vault.put(TENANT, reference, value)
    async with database.transaction() as tx:
        await releases.put(tx, world.release(folder / "workspace"), by=OPERATOR)
    stop = asyncio.Event()
    async with (
        alive(build(database, vault, transport_for)) as gateway,
        client_of(gateway) as client,
        workers.registered(database, name="by hand", domains=[DOMAIN]) as by_hand,
    ):
        catalogue = load_catalogue()
        performer = BlockPerformer(catalogue, {DOMAIN: client}.__getitem__)
        loop = WorkerLoop(database, catalogue, performer, [DOMAIN], name="worker", slots=8)
        working = asyncio.create_task(loop.run(stop)) if works else None
        try:
            yield Stage(database, world, vault, gateway, client, PostgresEngine(database), by_hand.id)
        finally:
            stop.set()
            if working:
                await working


def build(
    database: Database,
    vault: VaultFile,
    transport_for: Callable[[str], httpx2.AsyncBaseTransport] | None = None,
) -> FastAPI:
    """A gateway process of its own, on the same database and vault."""
    known = {**connectors_in(shipped), "shelf": shelf.FOUND, "board": board.FOUND}
    tokens: Mapping[str, str] = {worker_of(DOMAIN): TOKEN}
    return make_gateway(
        database,
        vault,
        Callers(lambda: dict(tokens)),
        connectors=known,
        transport_for=transport_for,
        rereads_s=(0.1, 0.3, 1.0),
    )


def client_of(gateway: FastAPI) -> GatewayClient:
    """A worker's way to a gateway."""
    return GatewayClient("http://gateway", TOKEN, transport=httpx2.ASGITransport(gateway))
