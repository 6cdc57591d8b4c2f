"""The stage, set."""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator
from pathlib import Path

import httpx2
import pytest

from regie.core.tenant import SecretRef
from regie.gateway.app import make_gateway
from regie.gateway.identify import Callers, worker_of
from regie.gateway.vault import VaultFile
from regie.gateway_client import GatewayClient
from regie.store.database import Database
from regie.web.app import make_web

from ..gateway.vendor import (  # noqa: TID252  tests are no installed package, so there is no absolute name
    CANARY,
    FOUND,
    WEBHOOK_CANARY,
    Vendor,
)
from ..web.stage import LOCAL, TOKEN, FakeGateway, add_people  # noqa: TID252  same
from .stage import Starts


@pytest.fixture
async def starts(database: Database, tmp_path: Path) -> AsyncIterator[Starts]:
    vault = VaultFile.create(tmp_path / "keys" / "vault")
    for tenant in ("acme", "globex"):
        for name, value in (("client_secret", CANARY), ("webhook", WEBHOOK_CANARY)):
            vault.put(tenant, SecretRef(domain="identity", name="toy", field=name), value)
    tokens = {worker_of("identity"): secrets.token_urlsafe(32)}
    vendor, deliveries = Vendor(), FakeGateway()
    gateway = make_gateway(
        database,
        vault,
        Callers(lambda: tokens),
        connectors={"toy": FOUND},
        transport_for=lambda _: httpx2.MockTransport(vendor.handle),
    )
    await add_people(database)
    web = make_web(database, deliveries, operator_token=TOKEN, ways_in=LOCAL)
    async with (
        gateway.router.lifespan_context(gateway),
        GatewayClient(
            "http://gateway", tokens[worker_of("identity")], transport=httpx2.ASGITransport(gateway)
        ) as client,
        httpx2.AsyncClient(transport=httpx2.ASGITransport(web), base_url="https://web") as http,
    ):
        yield Starts(database, client, vendor, http, deliveries)
