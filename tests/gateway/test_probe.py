"""Trying a connection out: one harmless read, for the web's token only."""

from __future__ import annotations

import dataclasses
from collections.abc import AsyncIterator

import httpx2
import pytest

from regie.core.errors import AuthFailed, Denied, InvalidInput, NotFound, Unavailable
from regie.gateway.app import make_gateway
from regie.gateway.identify import WEB, Callers
from regie.gateway.vault import VaultFile
from regie.gateway_client import GatewayClient
from regie.store.database import Database

from .conftest import alive, client_of
from .stage import Stage
from .vendor import FOUND, Vendor

pytestmark = pytest.mark.slow

PROBED = dataclasses.replace(FOUND, manifest=FOUND.manifest.model_copy(update={"probe": "/whoami"}))


@pytest.fixture
def answers() -> list[int]:
    """Statuses that the vendor answers with, one after the other."""
    return []


@pytest.fixture
async def web(
    stage: Stage, database: Database, vault: VaultFile, tokens: dict[str, str], answers: list[int]
) -> AsyncIterator[GatewayClient]:
    """The web's client of a gateway whose connector names a question."""

    def vendor(request: httpx2.Request) -> httpx2.Response:
        if request.url.host.startswith("login"):
            return httpx2.Response(200, json={"access_token": "t", "expires_in": 3600})
        assert (request.method, request.url.path) == ("GET", "/whoami")
        return httpx2.Response(answers.pop(0), json={})

    probed = make_gateway(
        database,
        vault,
        Callers(lambda: tokens),
        connectors={"toy": PROBED},
        transport_for=lambda _: httpx2.MockTransport(vendor),
    )
    async with alive(probed), client_of(probed, tokens[WEB]) as client:
        yield client


@pytest.mark.parametrize("status", [200, 404])
async def test_an_answer_is_an_answer(web: GatewayClient, answers: list[int], status: int) -> None:
    answers.append(status)
    await web.probe("acme", "directory")
    assert answers == []


@pytest.mark.parametrize(("status", "kind"), [(401, AuthFailed), (403, AuthFailed), (500, Unavailable)])
async def test_what_is_wrong_is_raised(
    web: GatewayClient, answers: list[int], status: int, kind: type[Exception]
) -> None:
    answers.extend([status, status])
    with pytest.raises(kind):
        await web.probe("acme", "directory")


async def test_only_the_webs_token_counts(stage: Stage) -> None:
    with pytest.raises(Denied):
        await stage.client.probe("acme", "directory")


async def test_what_cannot_be_tried_out(stage: Stage, vendor: Vendor) -> None:
    for tenant, connection in (("acme", "nothing"), ("nobody", "directory")):
        with pytest.raises(NotFound):
            await stage.web.probe(tenant, connection)
    with pytest.raises(InvalidInput):
        await stage.web.probe("acme", "directory")
