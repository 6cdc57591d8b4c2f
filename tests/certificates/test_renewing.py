"""The workflow `certificates.renew`, from order to served certificate, at a real authority."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from regie.core.status import RunStatus
from regie.store.database import Database

from .conftest import Outside
from .stage import Stage, World, opened

pytestmark = pytest.mark.slow


@pytest.fixture
async def stage(database: Database, tmp_path: Path, world: World) -> AsyncIterator[Stage]:
    async with opened(database, tmp_path, world) as made:
        yield made


async def test_a_first_certificate_is_issued_and_put_in_place(stage: Stage, outside: Outside) -> None:
    state = await stage.renew("site")
    assert state.status is RunStatus.DONE, state.failure
    assert outside.pebble.status(stage.serial()) == "Valid"
    assert f"{stage.served().serial_number:x}" == stage.serial()
    proofs = outside.server.webroot / ".well-known" / "acme-challenge"
    assert list(proofs.iterdir()) == []


async def test_twenty_renewals_in_a_row_each_replace_the_one_before(stage: Stage, outside: Outside) -> None:
    serials = [""]
    for _ in range(20):
        state = await stage.renew("site", serials[-1])
        assert state.status is RunStatus.DONE, state.failure
        serials.append(stage.serial())
    assert len(set(serials)) == 21
    assert all(outside.pebble.status(serial) == "Valid" for serial in serials[1:])
    assert stage.deployments() == 20


async def test_the_same_renewal_asked_for_five_times_happens_once(stage: Stage) -> None:
    await stage.renew("site")
    first = stage.serial()
    ends = [await stage.renew("site", first) for _ in range(5)]
    assert [state.status for state in ends] == [RunStatus.DONE] * 5
    assert stage.deployments() == 2


async def test_a_dry_run_orders_and_changes_nothing(stage: Stage) -> None:
    state = await stage.renew("site", dry=True)
    assert state.status is RunStatus.DONE, state.failure
    assert stage.serial() == ""
    assert stage.vault.names() == [("acme", "secret://certificates/acme-account")] or stage.vault.names() == []
