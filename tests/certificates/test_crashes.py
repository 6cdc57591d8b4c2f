"""A gateway that dies at any crash point of any step: one order, one certificate, one deployment."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from regie.core.capabilities import certificate
from regie.core.capability import Capability, Record
from regie.core.errors import Unavailable
from regie.crashpoints import CrashPoint, arm
from regie.gateway_client import GatewayClient
from regie.store.database import Database
from tests.counterparts.between import Between, cut
from tests.gateway.conftest import alive
from tests.gateway.stage import Run

from .conftest import Outside
from .stage import Stage, World, build, client_of, opened

pytestmark = pytest.mark.slow

POINTS = [
    CrashPoint.BEFORE_INTENT,
    CrashPoint.AFTER_INTENT,
    CrashPoint.AFTER_EFFECT,
    CrashPoint.BEFORE_RECEIPT,
    CrashPoint.AFTER_RECEIPT,
]
STEPS = ["order", "publish", "prove", "finalise", "withdraw", "deploy"]


class Killed(BaseException):
    """Ends everything, as SIGKILL would; nothing in the gateway may catch it."""


def kill() -> None:
    raise Killed


@pytest.fixture
async def between(outside: Outside) -> AsyncIterator[Between]:
    made = Between(outside.pebble.trust)
    yield made
    await made.shut()


@pytest.fixture
async def stage(database: Database, tmp_path: Path, world: World, between: Between) -> AsyncIterator[Stage]:
    async with opened(database, tmp_path, world, transport_for=lambda _: between, works=False) as made:
        yield made


class Renewal:
    """The steps of a renewal, each asked for as a worker does; one of them may be spoilt."""

    def __init__(self, stage: Stage, between: Between, run: Run) -> None:
        self.stage = stage
        self.between = between
        self.run = run
        self.crash: tuple[str, CrashPoint] | None = None
        # Names that the authority has not seen: it takes half of those that it knows for proven.
        self.names = [f"{secrets.token_hex(6)}.example.test" for _ in range(2)]

    async def bring_about(self) -> str:
        """All of it; the serial that is in place at the end."""
        wanted = certificate.NewOrder(names=self.names, proof="http-01", connection="authority")
        order = await self.change("order", "order", certificate.ORDER, wanted)
        for number, proof in enumerate(order.proofs):
            shown = certificate.Publication(
                name=proof.name, path=proof.path, content=proof.content, connection="webroot"
            )
            await self.change("publish", f"prove/1[{number}]", certificate.PUBLISH_PROOF, shown)
            proving = certificate.Proving(
                authorisation=proof.authorisation, name=proof.name, kind="http-01", connection="authority"
            )
            await self.change("prove", f"prove/2[{number}]", certificate.PROVE, proving)
            await self.change("withdraw", f"tidy/1[{number}]", certificate.WITHDRAW_PROOF, shown)
        finalising = certificate.Finalising(order=order.order, names=order.names, connection="authority")
        kept = await self.change("finalise", "issued", certificate.FINALISE, finalising)
        deployment = certificate.Deployment(target="site", certificate=kept.certificate, connection="shelf")
        deployed = await self.change("deploy", "deploy[0]", certificate.DEPLOY, deployment)
        assert deployed.serial == kept.serial
        return str(kept.serial)

    async def change(self, step: str, place: str, capability: Capability[Any, Any], want: Record) -> Any:
        crash, self.crash = self.crash, (None if self.crash and self.crash[0] == step else self.crash)
        if crash and crash[0] == step:
            arm(crash[1], end=kill)
            with pytest.raises(Killed):
                await self.settle(self.stage.client, place, capability, want)
            arm("")
            self.run = await self.stage.pass_on(self.run)
            another = build(self.stage.database, self.stage.vault, lambda _: self.between)
            async with alive(another) as gateway, client_of(gateway) as other:
                return await self.settle(other, place, capability, want)
        return await self.settle(self.stage.client, place, capability, want)

    async def settle(self, client: GatewayClient, place: str, capability: Capability[Any, Any], want: Record) -> Any:
        """Ask until it is over, as an engine does."""
        handle = None
        async with asyncio.timeout(30):
            while True:
                try:
                    answer = await client.apply(self.run.at(place), capability, want, handle)
                except Unavailable:
                    self.run = await self.stage.pass_on(self.run)
                    continue
                if answer.state != "pending":
                    return answer.output
                handle = answer.handle
                await asyncio.sleep(0.1)


async def assert_happened_once(stage: Stage, outside: Outside, between: Between, renewal: Renewal, serial: str) -> None:
    assert stage.serial() == serial
    assert outside.pebble.status(serial) == "Valid"
    assert between.count("POST", "/order-plz") == 1
    assert between.count("POST", "/finalize-order/") == 1
    assert stage.deployments() == 1
    rows = await renewal.run.effects()
    assert {row.state.value for row in rows} <= {"received", "unchanged"}
    assert len([name for _, name in stage.vault.names() if "certificate-" in name]) == 1
    proofs = outside.server.webroot / ".well-known" / "acme-challenge"
    assert list(proofs.iterdir()) == []


@pytest.mark.parametrize("point", POINTS)
@pytest.mark.parametrize("step", STEPS)
async def test_a_gateway_that_dies_leaves_one_of_each(
    stage: Stage, outside: Outside, between: Between, step: str, point: CrashPoint
) -> None:
    renewal = Renewal(stage, between, await stage.hold())
    renewal.crash = (step, point)
    serial = await renewal.bring_about()
    assert renewal.crash is None, "nothing died"
    await assert_happened_once(stage, outside, between, renewal, serial)


@pytest.mark.parametrize("part", ["/order-plz", "/chalZ/", "/finalize-order/"])
async def test_an_answer_that_is_lost_leaves_one_of_each(
    stage: Stage, outside: Outside, between: Between, part: str
) -> None:
    between.spoil("POST", part, cut)
    renewal = Renewal(stage, between, await stage.hold())
    serial = await renewal.bring_about()
    await assert_happened_once(stage, outside, between, renewal, serial)
