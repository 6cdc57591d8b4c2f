"""The workflow `certificates.renew` where a load balancer serves the certificate: handed to the store, then to it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from regie.core.run import RunStatus
from regie.core.tenant import SecretRef
from regie.store.database import Database
from tests.connectors.cloud import listen, theirs
from tests.connectors.conftest import all_connectors
from tests.counterparts.aws import REGION, aws
from tests.counterparts.aws import Aws as Cloud

from .stage import DOMAIN, Stage, World, opened

pytestmark = pytest.mark.slow

SECRET = SecretRef(domain=DOMAIN, name="aws")
SHOP = "shop.example.test"
ALLOWED = sorted({each for name in ("acm", "elb") for each in all_connectors()[name].manifest.permissions})


@pytest.fixture
async def stage(database: Database, tmp_path: Path, world: World) -> AsyncIterator[tuple[Stage, Cloud, str]]:
    """With AWS, and a listener there that serves what nobody here knows."""
    with aws(tmp_path, ALLOWED) as cloud:
        listener = listen(cloud, theirs(cloud, SHOP))
        shared = {"region": REGION, "access_key": cloud.access_key, "endpoint": cloud.endpoint}
        targets = {"shop": {"listener": listener, "server_name": SHOP}}
        configured = {"store": ("acm", shared), "balancers": ("elb", {**shared, "targets": targets})}
        world.connections = {
            name: {
                "connector": connector,
                "domains": [DOMAIN],
                "settings": settings,
                "secrets": {"secret_key": str(SECRET)},
            }
            for name, (connector, settings) in configured.items()
        }
        world.secrets[SECRET] = cloud.secret_key
        places = [{"connection": "balancers", "target": "shop"}, {"connection": "shelf", "target": "other"}]
        world.entries["shop"] = {**world.entry(SHOP), "targets": places, "stores": ["store"]}
        async with opened(database, tmp_path, world) as made:
            yield made, cloud, listener


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
