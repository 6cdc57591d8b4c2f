"""TLS endpoints through the gateway: whom it trusts, where it may go, and a farm in pages."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from pydantic import JsonValue

from regie.core.capabilities import tls
from regie.core.definition import Definition
from regie.core.errors import Denied
from regie.core.tenant import Connection
from regie.gateway.app import make_gateway
from regie.gateway.identify import Callers, worker_of
from regie.gateway.vault import VaultFile
from regie.store import releases, workers
from regie.store.database import Database
from tests.counterparts.tls import farm

from .conftest import client_of
from .stage import OPERATOR, Stage, release_of, step
from .vendor import Vendor

pytestmark = pytest.mark.slow

DEFINITION = Definition(
    workflow="identity.offboard_employee",
    title="Look",
    owner="team:implementation",
    steps=(step("one", "tls.inspect"), step("page", "tls.inspect_listed")),
)
BLOCKS: dict[str, tuple[str, ...]] = {"tls.inspect": ("tls.inspect",), "tls.inspect_listed": ("tls.inspect_listed",)}


@asynccontextmanager
async def staged(
    database: Database, folder: Path, tokens: dict[str, str], **settings: JsonValue
) -> AsyncIterator[Stage]:
    """A gateway with one connection that looks."""
    connection = Connection(connector="tls", domains=("identity",), settings=settings, secrets={})
    async with database.transaction() as tx:
        await releases.put(tx, release_of({"endpoints": connection}, DEFINITION, BLOCKS), by=OPERATOR)
    gateway = make_gateway(database, VaultFile.create(folder / "vault"), Callers(lambda: tokens))
    async with (
        gateway.router.lifespan_context(gateway),
        client_of(gateway, tokens[worker_of("identity")]) as client,
        client_of(gateway, tokens["web"]) as web,
        workers.registered(database, name="test", domains=["identity"]) as worker,
    ):
        yield Stage(database, client, Vendor(), worker.id, client, web)


async def test_a_list_is_gone_through_in_pages(database: Database, tmp_path: Path, tokens: dict[str, str]) -> None:
    async with farm(tmp_path, 450) as told:
        behaviours = Counter(each.pop("behaviour") for each in told)
        endpoints: list[JsonValue] = [{**each} for each in told]
        roots = (tmp_path / "roots.pem").read_text(encoding="ascii")
        settings: dict[str, JsonValue] = {"networks": ["127.0.0.0/8"], "roots": roots, "endpoints": endpoints}
        async with staged(database, tmp_path, tokens, **settings) as stage:
            run = await stage.start()
            pages = await asyncio.gather(
                *(
                    stage.client.call(run.at("page"), tls.INSPECT_LISTED, tls.Listed(cursor=cursor))
                    for cursor in ("", "200", "400")
                )
            )
    assert [page.cursor for page in pages] == ["200", "400", ""]
    shown = [each for page in pages for each in page.endpoints]
    assert [(each.host, each.port) for each in shown] == [(each["host"], each["port"]) for each in told]
    counted = Counter(" ".join(each.findings) for each in shown)
    assert counted[""] == sum(behaviours[kind] for kind in ("healthy", "smtp", "imap", "pop3"))
    assert counted["revoked:keyCompromise"] == behaviours["revoked"] > 0
    assert counted["unreachable:timeout"] == behaviours["hangs"] > 0
    assert sum(page.troubled for page in pages) == 450 - counted[""]


async def test_nothing_private_is_reached_that_the_connection_does_not_name(
    database: Database, tmp_path: Path, tokens: dict[str, str]
) -> None:
    async with staged(database, tmp_path, tokens) as stage:
        run = await stage.start()
        for host in ("127.0.0.1", "localhost", "169.254.169.254", "10.0.0.1", "::1"):
            shown = await stage.client.call(run.at("one"), tls.INSPECT, tls.EndpointQuery(host=host, port=80))
            assert [(each.code, each.cause) for each in shown.findings] == [(tls.Code.UNREACHABLE, "not_allowed")]


@pytest.mark.parametrize("wrong", [{"networks": ["10.0.0.0/99"]}, {"roots": "none"}])
async def test_settings_that_cannot_be_used_are_refused(
    database: Database, tmp_path: Path, tokens: dict[str, str], wrong: dict[str, JsonValue]
) -> None:
    async with staged(database, tmp_path, tokens, **wrong) as stage:
        run = await stage.start()
        with pytest.raises(Denied):
            await stage.client.call(run.at("one"), tls.INSPECT, tls.EndpointQuery(host="127.0.0.1"))
