"""The gateway of a test: real database, real vault, imaginary vendor."""

import asyncio
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import httpx2
import pytest
from fastapi import FastAPI

from regie.core.tenant import SecretRef
from regie.crashpoints import arm
from regie.gateway.app import make_gateway
from regie.gateway.identify import WEB, Callers, worker_of
from regie.gateway.vault import VaultFile
from regie.gateway_client import GatewayClient
from regie.store import releases, workers
from regie.store.database import Database

from .stage import OPERATOR, RELEASE, Stage
from .vendor import CANARY, FOUND, WEBHOOK_CANARY, Vendor

REREADS_S = (0.0, 0.0, 0.0)


@pytest.fixture(autouse=True)
def disarmed() -> Iterator[None]:
    """No crash point stays armed."""
    yield
    arm("")


@pytest.fixture
def vault(tmp_path: Path) -> VaultFile:
    made = VaultFile.create(tmp_path / "keys" / "vault")
    for tenant in ("acme", "globex"):
        made.put(tenant, SecretRef(domain="identity", name="toy", field="client_secret"), CANARY)
        made.put(tenant, SecretRef(domain="identity", name="toy", field="webhook"), WEBHOOK_CANARY)
    return made


@pytest.fixture
def tokens() -> dict[str, str]:
    return {caller: secrets.token_urlsafe(32) for caller in (worker_of("identity"), worker_of("support"), WEB)}


@pytest.fixture
def vendor() -> Vendor:
    return Vendor()


@pytest.fixture
def patience() -> list[float]:
    """Seconds that the gateway waited for the vendor, had it really waited."""
    return []


@pytest.fixture
async def loaded(database: Database, gateway_database: Database) -> Database:
    """The database with a release, as a gateway opens it."""
    async with database.transaction() as tx:
        await releases.put(tx, RELEASE, by=OPERATOR)
    return gateway_database


@pytest.fixture
async def gateway(
    loaded: Database, vault: VaultFile, tokens: dict[str, str], vendor: Vendor, patience: list[float]
) -> AsyncIterator[FastAPI]:
    async with alive(build(loaded, vault, tokens, vendor, pauser(patience))) as gateway:
        yield gateway


@asynccontextmanager
async def alive(gateway: FastAPI) -> AsyncIterator[FastAPI]:
    """A gateway until the end of the block: then it lets go of its connections, as its process does."""
    async with gateway.router.lifespan_context(gateway):
        yield gateway


def pauser(patience: list[float]) -> Callable[[float], Awaitable[None]]:
    """Notes how long it was asked to wait, and does not wait."""

    async def pause(seconds: float) -> None:
        patience.append(seconds)
        await asyncio.sleep(0)

    return pause


def build(
    database: Database,
    vault: VaultFile,
    tokens: dict[str, str],
    vendor: Vendor,
    pause: Callable[[float], Awaitable[None]],
) -> FastAPI:
    """A gateway process of its own, on the same database."""
    return make_gateway(
        database,
        vault,
        Callers(lambda: tokens),
        connectors={"toy": FOUND},
        transport_for=lambda address: httpx2.MockTransport(vendor.handle),
        rereads_s=REREADS_S,
        pause=pause,
    )


async def until(is_so: Callable[[], bool], *, within_s: float = 10.0) -> None:
    """Poll until something is so.

    Raises:
        TimeoutError: It is not, within the time.
    """
    async with asyncio.timeout(within_s):
        while not is_so():  # noqa: ASYNC110  what is polled belongs to somebody else
            await asyncio.sleep(0.01)


@pytest.fixture
async def neighbour(
    gateway_database: Database, vault: VaultFile, tokens: dict[str, str], vendor: Vendor, patience: list[float]
) -> AsyncIterator[GatewayClient]:
    """A client of another gateway process on the same database."""
    async with (
        alive(build(gateway_database, vault, tokens, vendor, pauser(patience))) as other,
        client_of(other, tokens[worker_of("identity")]) as client,
    ):
        yield client


def client_of(gateway: FastAPI, token: str) -> GatewayClient:
    return GatewayClient("http://gateway", token, transport=httpx2.ASGITransport(gateway))


@pytest.fixture
async def stage(database: Database, gateway: FastAPI, tokens: dict[str, str], vendor: Vendor) -> AsyncIterator[Stage]:
    async with (
        client_of(gateway, tokens[worker_of("identity")]) as client,
        client_of(gateway, tokens[worker_of("support")]) as other,
        client_of(gateway, tokens["web"]) as web,
        workers.registered(database, name="test", domains=["identity"]) as worker,
    ):
        yield Stage(database, client, vendor, worker.id, other, web)
