"""A gateway that dies at any crash point while it puts a certificate in place at a real server: one deployment."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx2
import pytest
from fastapi import FastAPI
from pydantic import JsonValue

from regie import connectors
from regie.core.capabilities import certificate
from regie.core.definition import Definition
from regie.core.errors import Denied, Refused
from regie.core.tenant import Connection, SecretRef
from regie.crashpoints import CrashPoint, arm
from regie.gateway.app import make_gateway
from regie.gateway.identify import Callers, worker_of
from regie.gateway.keyring import Keyring
from regie.gateway.vault import VaultFile
from regie.gateway_client import GatewayClient
from regie.kit.discovery import connectors_in
from regie.kit.keys import Material, Part
from regie.store import releases, workers
from regie.store.database import Database
from regie_sandbox.servers.haproxy import Haproxy, haproxy
from regie_sandbox.servers.nginx import Nginx, nginx
from tests.connectors.deploying import NAME, TARGET, clients
from tests.counterparts.here import LOOPBACK
from tests.counterparts.sshd import sshd

from .conftest import REREADS_S, client_of, pauser
from .stage import OPERATOR, Stage, release_of, step
from .test_crashes import POINTS, Killed, kill
from .test_keyring import Signer
from .vendor import Vendor

pytestmark = pytest.mark.slow

SIGNER = Signer()
SSH_KEY = SecretRef(domain="identity", name="web-key")
DEFINITION = Definition(
    workflow="identity.offboard_employee",
    title="Deploy",
    owner="team:implementation",
    steps=(step("before", "certificate.find_deployed"), step("deploy", "certificate.deploy")),
)
BLOCKS: dict[str, tuple[str, ...]] = {
    each.name: (each.name,) for each in (certificate.FIND_DEPLOYED, certificate.DEPLOY)
}


@dataclass
class Server:
    """A running server, and a connection to it."""

    port: int
    pem_file: Path
    connection: Connection


def connection(connector: str, port: int, **settings: JsonValue) -> Connection:
    over_ssh = "address" in settings
    return Connection(
        connector=connector,
        domains=("identity",),
        settings={"targets": {TARGET: {"server_name": NAME, "address": f"127.0.0.1:{port}"}}, **settings},
        secrets={"ssh_key": SSH_KEY} if over_ssh else {},
        reach=(LOOPBACK,),
    )


@pytest.fixture(params=["nginx", "haproxy"])
def server(request: pytest.FixtureRequest, tmp_path: Path, vault: VaultFile) -> Iterator[Server]:
    """A server, reached on this machine or over SSH."""
    connector, _, way = request.param.partition(" ")
    with ExitStack() as stack:
        settings: dict[str, JsonValue] = {}
        if way:
            host = stack.enter_context(sshd(tmp_path))
            vault.put("acme", SSH_KEY, host.private_key)
            settings = {"address": host.address, "user": host.user, "host_key": host.host_key}
        if connector == "sftp":
            settings |= {"folder": str(tmp_path), "targets": {TARGET: {"server_name": NAME}}}
            yield Server(0, tmp_path / TARGET / "chain.pem", connection("sftp", 0, **settings))
            return
        web: Nginx | Haproxy
        if connector == "nginx":
            web = stack.enter_context(nginx(tmp_path, SIGNER.issue([NAME]), name=NAME, target=TARGET))
        else:
            web = stack.enter_context(haproxy(tmp_path, SIGNER.issue([NAME]), target=TARGET))
            settings["socket"] = str(web.socket)
        settings |= {"folder": str(web.pem_file.parent), "config": str(web.config)}
        yield Server(web.port, web.pem_file, connection(connector, web.port, **settings))


@pytest.fixture
async def gateway(database: Database, server: Server) -> None:
    """The release; the gateways themselves are made from it."""
    async with database.transaction() as tx:
        await releases.put(tx, release_of({"web-1": server.connection}, DEFINITION, BLOCKS), by=OPERATOR)


def build(database: Database, vault: VaultFile, tokens: dict[str, str]) -> FastAPI:
    return make_gateway(
        database,
        vault,
        Callers(lambda: tokens),
        connectors=dict(connectors_in(connectors)),
        transport_for=lambda _: httpx2.MockTransport(lambda _: httpx2.Response(500)),
        rereads_s=REREADS_S,
        pause=pauser([]),
    )


@asynccontextmanager
async def running(app: FastAPI, tokens: dict[str, str]) -> AsyncIterator[GatewayClient]:
    """A client of a gateway that ends as its process does."""
    async with app.router.lifespan_context(app), client_of(app, tokens[worker_of("identity")]) as made:
        yield made


@pytest.fixture
async def client(
    gateway_database: Database, vault: VaultFile, tokens: dict[str, str], gateway: None
) -> AsyncIterator[GatewayClient]:
    async with running(build(gateway_database, vault, tokens), tokens) as made:
        yield made


@pytest.fixture
async def neighbour(
    gateway_database: Database, vault: VaultFile, tokens: dict[str, str], gateway: None
) -> AsyncIterator[GatewayClient]:
    async with running(build(gateway_database, vault, tokens), tokens) as made:
        yield made


@pytest.fixture
async def stage(database: Database, client: GatewayClient) -> AsyncIterator[Stage]:
    async with workers.registered(database, name="test", domains=["identity"]) as worker:
        yield Stage(database, client, Vendor(), worker.id, client, client)


@pytest.fixture
def keyring(gateway_database: Database, vault: VaultFile) -> Keyring:
    return Keyring(gateway_database, vault, tenant="acme", domain="identity")


async def kept(keyring: Keyring, order: str, name: str = NAME) -> certificate.KeptCertificate:
    request = await keyring.request(order, [name], "ec-p256")
    return await keyring.keep(request.certificate, SIGNER.sign(request), [name])


def wanting(reference: str) -> certificate.Deployment:
    return certificate.Deployment(target=TARGET, certificate=reference, connection="web-1")


@pytest.mark.parametrize("point", POINTS)
async def test_killed_at_a_named_point_it_is_deployed_once(
    stage: Stage, neighbour: GatewayClient, server: Server, keyring: Keyring, point: CrashPoint
) -> None:
    run = await stage.start()
    new = await kept(keyring, "order 1")
    looking = certificate.Target(target=TARGET, connection="web-1")
    before = await stage.client.call(run.at("before"), certificate.FIND_DEPLOYED, looking)
    with clients(server.port, 1, SIGNER.pem):
        arm(point, end=kill)
        with pytest.raises(Killed):
            await stage.client.apply(run.at("deploy"), certificate.DEPLOY, wanting(new.certificate))
        written = server.pem_file.stat().st_mtime_ns

        answer = await neighbour.apply(
            (await stage.pass_on(run)).at("deploy"), certificate.DEPLOY, wanting(new.certificate)
        )

        assert answer.state == "received"
        assert answer.output is not None
        assert answer.output.serial == answer.output.installed == new.serial != before.serial
        assert (await run.leaves()).count("effect:received") == 1
        was_made = point not in {CrashPoint.BEFORE_INTENT, CrashPoint.AFTER_INTENT}
        assert (server.pem_file.stat().st_mtime_ns == written) is was_made


async def test_a_certificate_that_does_not_fit_its_target_is_refused_and_said_so(
    stage: Stage, server: Server, keyring: Keyring
) -> None:
    run = await stage.start()
    other = await kept(keyring, "order 2", "other.example.test")
    content = server.pem_file.read_bytes()
    with clients(server.port, 1, SIGNER.pem), pytest.raises(Refused, match="so it is not put in place"):
        await stage.client.apply(run.at("deploy"), certificate.DEPLOY, wanting(other.certificate))
    assert server.pem_file.read_bytes() == content
    assert await run.leaves() == []


@pytest.mark.parametrize("server", ["nginx over SSH", "haproxy over SSH"], indirect=True)
async def test_over_ssh_with_a_key_from_the_vault(stage: Stage, server: Server, keyring: Keyring) -> None:
    run = await stage.start()
    with clients(server.port, 1, SIGNER.pem):
        new = await kept(keyring, "order 3")
        answer = await stage.client.apply(run.at("deploy"), certificate.DEPLOY, wanting(new.certificate))
    assert answer.state == "received"
    assert answer.output is not None
    assert answer.output.serial == answer.output.installed == new.serial
    assert server.pem_file.stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("server", ["sftp over SSH"], indirect=True)
async def test_files_over_sftp_hold_what_the_vault_holds_and_the_former_ones_come_back(
    stage: Stage, server: Server, keyring: Keyring
) -> None:
    first, second = await kept(keyring, "order 5"), await kept(keyring, "order 6")

    async def deploy(reference: str) -> str:
        """In a run of its own; gives what brings the former one back."""
        run = await stage.start()
        looking = certificate.Target(target=TARGET, connection="web-1")
        before = await stage.client.call(run.at("before"), certificate.FIND_DEPLOYED, looking)
        answer = await stage.client.apply(run.at("deploy"), certificate.DEPLOY, wanting(reference))
        assert answer.state == "received"
        return before.restore

    async def is_there(wanted: certificate.KeptCertificate) -> bool:
        parts = {"certificate.pem": Part.CERTIFICATE, "chain.pem": Part.CHAIN, "key.pem": Part.PRIVATE_KEY}
        held = {name: (server.pem_file.parent / name).read_bytes() for name in parts}
        return held == {name: await keyring.resolve(Material(wanted.certificate, part)) for name, part in parts.items()}

    nothing = await deploy(first.certificate)
    assert await is_there(first)
    restore = await deploy(second.certificate)
    assert await is_there(second)
    await deploy(restore)
    assert await is_there(first)
    await deploy(nothing)
    assert not server.pem_file.parent.is_symlink()


@pytest.mark.parametrize("server", ["nginx over SSH"], indirect=True)
async def test_over_ssh_nobody_signs_in_without_the_pinned_key(
    stage: Stage, server: Server, keyring: Keyring, database: Database
) -> None:
    changed = server.connection.model_copy(update={"settings": {**server.connection.settings, "host_key": ""}})
    async with database.transaction() as tx:
        await releases.put(tx, release_of({"web-1": changed}, DEFINITION, BLOCKS), by=OPERATOR)
    run = await stage.start()
    new = await kept(keyring, "order 4")
    with pytest.raises(Denied, match="host_key is missing"):
        await stage.client.apply(run.at("deploy"), certificate.DEPLOY, wanting(new.certificate))
