"""Changes through the gateway to the imaginary outside world, beside the same requests made without a gateway."""

from __future__ import annotations

import asyncio
import statistics
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import httpx2
import yaml
from prometheus_client.parser import text_string_to_metric_families

from bench.workload import OPERATOR
from regie import connectors
from regie.cli.demo_world import TENANT, up_demo
from regie.cli.installation import Installation
from regie.cli.running import Services
from regie.core.capabilities import identity
from regie.engine.port import StartRequest
from regie.engine.postgres import PostgresEngine
from regie.gateway_client import GatewayClient, StepRef
from regie.kit.discovery import connectors_in
from regie.settings import Settings, read_or_make_token
from regie.store import claims, workers
from regie.store.database import Database
from regie.store.postgres_server import PostgresServer

DOMAIN = "bench"
BEAT_S = 4.0
AT_ONCE = 16
FIRST = 100
"""Changes before it is measured: a gateway that has just been started prepares each statement once a connection."""
PARTS = ("grant", "approval", "budget", "lock", "ledger", "audit", "vendor")
"""What the gateway tells apart of a change."""
GRAPH = "/graph/v1.0"
WORKFLOW = """\
workflow: bench.switch_off
title: Switch an account off
owner: team:bench
input: { employee: { type: email } }
steps:
  - { id: off, uses: identity.disable_account, with: { user: "${{ input.employee }}" } }
"""
ABOUT = {"domain": DOMAIN, "title": "Bench", "owner": "team:bench", "classification": "personal"}
PLENTY = {"limit": 10**9, "seconds": 1}


@dataclass(frozen=True)
class Metrics:
    """What the gateway tells of where its time goes."""

    http: httpx2.AsyncClient
    token: str

    async def spent_s(self) -> dict[str, float]:
        """Seconds since its start, by part; `whole` is all of its answers to changes, `vendor` the waiting for that."""
        answer = await self.http.get("/metrics", headers={"Authorization": f"Bearer {self.token}"})
        spent = dict.fromkeys((*PARTS, "whole"), 0.0)
        for family in text_string_to_metric_families(answer.raise_for_status().text):
            for sample in family.samples:
                match sample.name, sample.labels:
                    case "regie_change_part_duration_seconds_sum", {"part": part}:
                        spent[part] += sample.value
                    case "regie_vendor_request_duration_seconds_sum", _:
                        spent["vendor"] += sample.value
                    case "regie_http_request_duration_seconds_sum", {"route": "/v1/apply"}:
                        spent["whole"] += sample.value
        return spent


@dataclass(frozen=True)
class Asking:
    """Everything that asks the gateway and the outside world."""

    gateway: GatewayClient
    metrics: Metrics
    vendor: httpx2.AsyncClient
    hired: list[str]
    steps: list[StepRef]
    database: Database

    async def look_over(self) -> None:
        """Have the database take stock of its tables, as it does by itself within seconds of work."""
        async with self.database.apart() as connection:
            await connection.execute("analyze")

    async def change(self, number: int) -> None:
        """Have a change planned and applied by the gateway."""
        want = identity.UserQuery(user=self.hired[number])
        await self.gateway.apply(self.steps[number], identity.DISABLE_ACCOUNT, want)

    async def change_bare(self, number: int) -> None:
        """The requests that the gateway makes for that: look, change, look again."""
        path = f"{GRAPH}/users/{self.hired[number]}"
        (await self.vendor.get(path, params={"$select": "id,accountEnabled"})).raise_for_status()
        (await self.vendor.patch(path, json={"accountEnabled": False})).raise_for_status()
        (await self.vendor.get(path, params={"$select": "id,accountEnabled"})).raise_for_status()


@dataclass
class EffectFigures:
    """One value a round. Milliseconds for one change after the other, changes in a second for many at once."""

    gateway_ms: list[float] = field(default_factory=list)
    bare_ms: list[float] = field(default_factory=list)
    gateway_per_s: list[float] = field(default_factory=list)
    bare_per_s: list[float] = field(default_factory=list)
    parts_ms: dict[str, list[float]] = field(default_factory=dict)
    """Of one change after the other, by part: what each costs on average."""

    def add_parts(self, before: dict[str, float], after: dict[str, float], changes: int) -> None:
        """Take in what so many changes have spent between two readings."""
        ms = {part: (after[part] - before[part]) * 1000 / changes for part in after}
        # The ledger's transactions write the leaves too; here each stands by itself.
        ms["ledger"] -= ms["audit"]
        whole = ms.pop("whole")
        ms["rest"] = whole - sum(ms.values())
        for part, value in ms.items():
            self.parts_ms.setdefault(part, []).append(value)


async def effects(rounds: int, few: int, many: int) -> EffectFigures:
    """Change accounts, in turn without and with a gateway.

    Args:
        few: Changes one after the other, in each round and each way.
        many: Changes with `AT_ONCE` under way.
    """
    figures = EffectFigures()
    async with asking(rounds * 2 * (few + many) + FIRST) as hands:
        left = iter(range(len(hands.hired)))

        def some(number: int) -> list[int]:
            return [next(left) for _ in range(number)]

        await _at_once(hands.change, some(FIRST))
        await hands.look_over()
        for _ in range(rounds):
            figures.bare_ms.append(await _one_by_one(hands.change_bare, some(few)))
            before = await hands.metrics.spent_s()
            figures.gateway_ms.append(await _one_by_one(hands.change, some(few)))
            figures.add_parts(before, await hands.metrics.spent_s(), few)
            figures.bare_per_s.append(await _at_once(hands.change_bare, some(many)))
            figures.gateway_per_s.append(await _at_once(hands.change, some(many)))
    return figures


async def _one_by_one(change: Callable[[int], Awaitable[None]], numbers: Sequence[int]) -> float:
    spent = []
    for number in numbers:
        began_s = time.monotonic()
        await change(number)
        spent.append((time.monotonic() - began_s) * 1000)
    return statistics.median(spent)


async def _at_once(change: Callable[[int], Awaitable[None]], numbers: Sequence[int]) -> float:
    waiting = iter(numbers)

    async def hand() -> None:
        for number in waiting:
            await change(number)

    began_s = time.monotonic()
    await asyncio.gather(*(hand() for _ in range(AT_ONCE)))
    return len(numbers) / (time.monotonic() - began_s)


@asynccontextmanager
async def asking(number: int) -> AsyncIterator[Asking]:
    """An installation with so many people, each with a run of ours that may change the account, and that we hold."""
    with tempfile.TemporaryDirectory(prefix="regie-bench-") as name:
        folder = Path(name)
        # Under root the database runs under another account, which must be able to enter.
        folder.chmod(0o755)  # noqa: ASYNC240  nothing else runs yet
        settings = Settings(home=folder / "home", port=0, database_url="", workspace=None, crash_at="")
        # The runs are ours: no worker of the installation may take them.
        settings = settings.model_copy(update={"workers": 0})
        try:
            async with AsyncExitStack() as stack:
                services = await stack.enter_async_context(up_demo(settings, lambda _: None))
                installation = Installation(services.settings, lambda _: None)
                database = await stack.enter_async_context(installation.running_database())
                await _load(installation, database)
                vendor = await stack.enter_async_context(
                    httpx2.AsyncClient(base_url=services.sandbox, timeout=60, trust_env=False)
                )
                rules = {"graph_resource_units": PLENTY, "graph_writes": PLENTY}
                (await vendor.patch("/sandbox/rules", json=rules)).raise_for_status()
                vendor.headers["Authorization"] = f"Bearer {await _token(vendor)}"
                hired = [await _hire(vendor, each) for each in range(number)]
                steps = await stack.enter_async_context(_held(database, hired))
                gateway, metrics = await stack.enter_async_context(_gateway(services))
                yield Asking(gateway, metrics, vendor, hired, steps, database)
        finally:
            PostgresServer(settings.home / "postgres").remove()


async def _load(installation: Installation, database: Database) -> None:
    """Add a domain of our own with a workflow without approvals, and let it use the connections."""
    settings = installation.settings
    domain = settings.workspace_folder / "domains" / DOMAIN
    (domain / "workflows").mkdir(parents=True)
    (domain / "domain.yaml").write_text(yaml.safe_dump(ABOUT), encoding="utf-8")
    (domain / "workflows" / "switch_off.yaml").write_text(WORKFLOW, encoding="utf-8")
    file = settings.workspace_folder / "tenants" / f"{TENANT}.yaml"
    tenant = yaml.safe_load(file.read_text(encoding="utf-8"))
    tenant["domains"].append(DOMAIN)
    tenant["connections"]["graph"]["domains"].append(DOMAIN)
    # What is measured is the gateway: not the pace that a vendor allows.
    buckets = connectors_in(connectors)["graph"].manifest.limits
    tenant["connections"]["graph"]["limits"] = {limit.bucket: PLENTY["limit"] for limit in buckets}
    file.write_text(yaml.safe_dump(tenant, sort_keys=False, allow_unicode=True), encoding="utf-8")
    await installation.load(database)


async def _token(vendor: httpx2.AsyncClient) -> str:
    app = (await vendor.get("/sandbox/credentials")).raise_for_status().json()["graph"]
    form = {name: app[name] for name in ("client_id", "client_secret")}
    form |= {"grant_type": "client_credentials", "scope": "https://graph.microsoft.com/.default"}
    answer = await vendor.post(f"/login/{app['tenant_id']}/oauth2/v2.0/token", data=form)
    return str(answer.raise_for_status().json()["access_token"])


async def _hire(vendor: httpx2.AsyncClient, number: int) -> str:
    person = f"b{number:05}@example.com"
    new = {"upn": person, "given_name": "Person", "surname": f"{number:05}"}
    (await vendor.post("/sandbox/people", json=new)).raise_for_status()
    return person


@asynccontextmanager
async def _held(database: Database, hired: Sequence[str]) -> AsyncIterator[list[StepRef]]:
    """A run for each person, held by a worker that is us; the installation's own does not serve this domain."""
    engine = PostgresEngine(database)
    async with workers.registered(database, name="bench", domains=[DOMAIN]) as worker:
        beating = asyncio.create_task(_beat(database, worker.id))
        try:
            by_run = {}
            for person in hired:
                started = await engine.start(
                    StartRequest(
                        tenant=TENANT,
                        workflow="bench.switch_off",
                        trigger_key=person,
                        started_by=OPERATOR,
                        given={"employee": person},
                    )
                )
                by_run[started.key.run] = person
            async with database.transaction() as tx:
                claimed = (await claims.take(tx, worker.id, [DOMAIN], len(hired))).runs
            held = {
                by_run[each.claim.key.run]: StepRef(**each.claim.key._asdict(), place="off", fence=each.claim.fence)
                for each in claimed
            }
            yield [held[person] for person in hired]
        finally:
            beating.cancel()
            with suppress(asyncio.CancelledError):
                await beating


async def _beat(database: Database, worker: str) -> None:
    while True:
        await asyncio.sleep(BEAT_S)
        async with database.transaction() as tx:
            await workers.beat(tx, worker)


@asynccontextmanager
async def _gateway(services: Services) -> AsyncIterator[tuple[GatewayClient, Metrics]]:
    address = next(each.ready["address"] for each in services.supervisor.processes if each.name == "gateway")
    token = read_or_make_token(services.settings.worker_token_file(DOMAIN))
    reading = read_or_make_token(services.settings.metrics_token_file)
    async with (
        GatewayClient(address, token) as gateway,
        httpx2.AsyncClient(base_url=address, timeout=60, trust_env=False) as http,
    ):
        yield gateway, Metrics(http, reading)
