"""A release is kept under its digest for ever; loading it again changes nothing; every log concerned is told."""

from __future__ import annotations

import asyncio

import pytest

from regie.core.audit import Actor, Event
from regie.core.errors import InvalidInput
from regie.core.release import Release
from regie.store import releases
from regie.store.database import Database
from regie.store.sealer import Sealer
from tests.leaves import read_outside

pytestmark = pytest.mark.slow

OPERATOR = Actor(type="operator", id="operator")


async def put(database: Database, release: Release) -> bool:
    async with database.transaction() as tx:
        return await releases.put(tx, release, by=OPERATOR)


async def test_without_a_release_there_is_no_current_one(database: Database) -> None:
    async with database.reading() as tx:
        with pytest.raises(InvalidInput):
            await releases.current(tx)
        with pytest.raises(InvalidInput):
            await releases.get(tx, "0" * 64)


async def test_a_release_comes_back_as_it_was(
    database: Database, database_url: str, sealer: Sealer, release: Release
) -> None:
    assert await put(database, release)
    async with Database(database_url, sealer) as other, other.reading() as tx:
        found = await releases.current(tx)
        assert found == release
        assert found.digest == release.digest
        assert await releases.get(tx, release.digest) is found


async def test_loading_again_changes_nothing_and_going_back_is_recorded(database: Database, release: Release) -> None:
    changed = release.model_copy(update={"blocks": {}})
    assert changed.digest != release.digest
    assert await put(database, release)
    assert not await put(database, release)
    assert await put(database, changed)
    assert await put(database, release)
    async with database.reading() as tx:
        history = await releases.history(tx)
        told = {
            tenant: [leaf.fields["release"] for leaf in await read_outside(tx, tenant, "identity")]
            for tenant in ("acme", "umbrella")
        }
        leaf = (await read_outside(tx, "acme", "identity"))[0]
    digests = [release.digest, changed.digest, release.digest]
    assert [activation.digest for activation in history] == digests
    assert {activation.by for activation in history} == {"operator"}
    assert told == {"acme": digests, "umbrella": digests}
    assert leaf.event is Event.RELEASE_LOADED


async def test_loading_at_once_makes_it_current_once(database: Database, release: Release) -> None:
    assert sorted(await asyncio.gather(*(put(database, release) for _ in range(5)))) == [False] * 4 + [True]
    async with database.reading() as tx:
        assert len(await releases.history(tx)) == 1
