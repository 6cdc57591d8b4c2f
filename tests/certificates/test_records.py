"""Records for dns-01, set and taken away through the gateway: once, whatever dies; and a renewal proven by them."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from regie.core.capabilities import dns
from regie.core.capability import Capability
from regie.core.tenant import SecretRef
from regie.crashpoints import CrashPoint, arm
from regie.gateway_client import GatewayClient
from regie.store.database import Database
from regie_sandbox.servers.knot import KEY_NAME, Knot, knot
from regie_sandbox.servers.pebble import pebble
from tests.connectors.conftest import all_connectors
from tests.counterparts.aws import aws
from tests.counterparts.here import LOOPBACK
from tests.gateway.conftest import alive

from .conftest import Outside
from .stage import DOMAIN, Stage, World, build, client_of, opened
from .test_crashes import POINTS, Killed, kill

pytestmark = pytest.mark.slow

SECRET = SecretRef(domain=DOMAIN, name="records")


@dataclass(frozen=True)
class Zone:
    """A zone somewhere.

    Attributes:
        connection: As the tenant's file configures it.
        texts: The values of a name, without quotes.
    """

    name: str
    connection: dict[str, Any]
    secret: str
    texts: Callable[[str], set[str]]


@pytest.fixture(scope="module")
def name_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Knot]:
    folder: Path = tmp_path_factory.mktemp("knot")
    with knot(folder) as started:
        yield started


@pytest.fixture(scope="module")
def at_knot(name_server: Knot) -> Zone:
    settings = {"primary": name_server.address, "zones": [name_server.zone], "key_name": KEY_NAME}
    connection = {"connector": "dns", "reach": [LOOPBACK], "settings": settings, "secrets": {"key": str(SECRET)}}
    return Zone(name_server.zone, connection, name_server.secret, name_server.txt)


@pytest.fixture(scope="module")
def at_route_53() -> Iterator[Zone]:
    with aws(all_connectors()["route53"].manifest.permissions) as cloud:
        client = cloud.client("route53")
        zone = client.create_hosted_zone(Name="example.test", CallerReference="1")["HostedZone"]["Id"]

        def texts(name: str) -> set[str]:
            found = client.list_resource_record_sets(HostedZoneId=zone)["ResourceRecordSets"]
            sets = [each for each in found if each["Name"] == f"{name}."]
            return {value["Value"].strip('"') for each in sets for value in each["ResourceRecords"]}

        settings = {"access_key": cloud.access_key, "endpoint": cloud.endpoint}
        connection = {
            "connector": "route53",
            "reach": [LOOPBACK],
            "settings": settings,
            "secrets": {"secret_key": str(SECRET)},
        }
        yield Zone("example.test", connection, cloud.secret_key, texts)


@pytest.fixture(params=["at_knot", "at_route_53"])
def zone(request: pytest.FixtureRequest) -> Zone:
    found: Zone = request.getfixturevalue(request.param)
    return found


@pytest.fixture
async def stage(database: Database, tmp_path: Path, world: World, zone: Zone) -> AsyncIterator[Stage]:
    connect(world, zone)
    async with opened(database, tmp_path, world, works=False) as made:
        yield made


def connect(world: World, zone: Zone) -> None:
    world.connections["records"] = {**zone.connection, "domains": [DOMAIN]}
    world.secrets[SECRET] = zone.secret


@pytest.mark.parametrize("point", POINTS)
async def test_a_gateway_that_dies_leaves_one_change(
    stage: Stage, zone: Zone, point: CrashPoint, request: pytest.FixtureRequest
) -> None:
    name = f"_acme-challenge.{request.node.name.partition('[')[2].strip(']').replace('_', '-')}.{zone.name}"
    want = dns.RecordValue(name=name, value="proof", connection="records")
    steps: list[tuple[str, Capability[Any, Any], set[str]]] = [
        ("prove/0[0]", dns.SET_RECORD, {"proof"}),
        ("tidy/0[0]", dns.REMOVE_RECORD, set()),
    ]
    run = await stage.hold()

    async def settle(client: GatewayClient, place: str, capability: Capability[Any, Any]) -> Any:
        answer = await client.apply(run.at(place), capability, want)
        while answer.state == "pending":
            answer = await client.apply(run.at(place), capability, want, answer.handle)
        return answer

    for place, capability, left in steps:
        arm(point, end=kill)
        with pytest.raises(Killed):
            await settle(stage.client, place, capability)
        arm("")
        run = await stage.pass_on(run)
        async with alive(build(stage.database, stage.vault)) as gateway, client_of(gateway) as other:
            answer = await settle(other, place, capability)
        assert answer.output.present is (capability is dns.SET_RECORD)
        assert zone.texts(name) == left
    assert {row.state.value for row in await run.effects()} == {"received"}


async def test_a_name_and_its_wildcard_are_proven_by_records(  # noqa: PLR0917  all of them are fixtures
    database: Database, tmp_path: Path, outside: Outside, world: World, at_knot: Zone, name_server: Knot
) -> None:
    folder = tmp_path / "authority"
    folder.mkdir()
    with pebble(folder, dns_port=name_server.port, http_port=outside.server.http_port) as authority:
        world.directory, world.trust = authority.directory, authority.trust
        connect(world, at_knot)
        names = ["shop.example.test", "*.shop.example.test"]
        world.entries["site"] = world.entry(*names, proof="dns-01", prove_through="records")
        async with opened(database, tmp_path, world) as stage:
            state = await stage.renew("site")
            assert state.status.value == "done", state.failure
            assert authority.status(stage.serial()) == "Valid"
            assert name_server.txt("_acme-challenge.shop.example.test") == set()
            again = await stage.renew("site")
            assert again.status.value == "done"
            assert stage.deployments() == 1
