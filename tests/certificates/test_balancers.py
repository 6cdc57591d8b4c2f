"""The workflow `certificates.renew` where a load balancer serves the certificate: handed to the store, then to it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from regie.core.status import RunStatus
from regie.core.tenant import SecretRef
from regie.store import records
from regie.store.database import Database
from regie.store.records import Shelf
from tests.connectors.cloud import listen, theirs
from tests.connectors.conftest import all_connectors
from tests.counterparts.aws import REGION, aws
from tests.counterparts.aws import Aws as Cloud
from tests.counterparts.here import LOOPBACK

from .stage import DOMAIN, TENANT, Stage, World, opened

pytestmark = pytest.mark.slow

SECRET = SecretRef(domain=DOMAIN, name="aws")
SHOP = "shop.example.test"
ALLOWED = sorted({each for name in ("acm", "elb") for each in all_connectors()[name].manifest.permissions})


@pytest.fixture
async def stage(database: Database, tmp_path: Path, world: World) -> AsyncIterator[tuple[Stage, Cloud, str]]:
    """With AWS, and a listener there that serves what nobody here knows."""
    with aws(ALLOWED) as cloud:
        listener = listen(cloud, theirs(cloud, SHOP))
        shared = {"region": REGION, "access_key": cloud.access_key, "endpoint": cloud.endpoint}
        targets = {"shop": {"listener": listener, "server_name": SHOP}}
        configured = {"store": ("acm", shared), "balancers": ("elb", {**shared, "targets": targets})}
        world.connections = {
            name: {
                "connector": connector,
                "domains": [DOMAIN],
                "reach": [LOOPBACK],
                "settings": settings,
                "secrets": {"secret_key": str(SECRET)},
            }
            for name, (connector, settings) in configured.items()
        }
        world.secrets[SECRET] = cloud.secret_key
        places = [{"connection": "balancers", "target": "shop"}, {"connection": "shelf", "target": "other"}]
        world.settings["sources"] = ["store"]
        world.entries["shop"] = {**world.entry(SHOP), "targets": places, "stores": ["store"]}
        async with opened(database, tmp_path, world) as made:
            yield made, cloud, listener


def stored(cloud: Cloud) -> set[str]:
    kinds = {"keyTypes": ["EC_prime256v1"]}
    pages = cloud.client("acm").get_paginator("list_certificates").paginate(Includes=kinds)
    return {str(each["CertificateArn"]) for page in pages for each in page["CertificateSummaryList"]}


async def test_what_is_renewed_is_stored_and_served_and_the_former_comes_back(stage: tuple[Stage, Cloud, str]) -> None:
    made, cloud, listener = stage

    def served() -> str:
        [only] = cloud.client("elbv2").describe_listener_certificates(ListenerArn=listener)["Certificates"]
        return str(only["CertificateArn"])

    def serial() -> str:
        found = cloud.client("acm").describe_certificate(CertificateArn=served())["Certificate"]
        return str(found["Serial"]).replace(":", "").lstrip("0")

    first, foreign = served(), serial()
    broken = made.world.shelf / "other.broken"
    broken.touch()
    state = await made.renew("shop", foreign)
    assert state.status is RunStatus.FAILED
    assert served() == first, "the undo of a run puts back what Regie never had"
    broken.unlink()
    state = await made.renew("shop", foreign)
    assert state.status is RunStatus.DONE, state.failure
    assert served() != first
    assert serial() == made.serial("other")
    # Whoever asks for the same renewal again finds it done.
    assert (await made.renew("shop", foreign)).status is RunStatus.DONE
    assert made.deployments("other") == 1

    # What AWS has is watched, beside what is presented.
    key = await made.begin("watch", {})
    state = await made.until(key, lambda state: state.status.is_final)
    assert state.status is RunStatus.DONE, state.failure
    async with made.database.reading() as tx:
        found, _ = await records.list_records(tx, Shelf(TENANT, DOMAIN, "certificate"), state="", after="", most=100)
    inventory = {each.key.removesuffix(" in store"): each for each in found}
    assert set(inventory) == {first, *stored(cloud)}
    assert {arn for arn, each in inventory.items() if each.state != "unused"} == {served()}
    assert inventory[served()].value["renewed_by"] == "regie"
    assert inventory[served()].value["used_by"] == [listener]
