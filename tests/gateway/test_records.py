"""Records through the gateway: a step reaches those of its own tenant and domain, a dry run keeps none."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from regie.core.capabilities import record
from regie.core.definition import Definition
from regie.core.errors import Denied, InvalidInput
from regie.gateway.app import make_gateway
from regie.gateway.identify import Callers, worker_of
from regie.gateway.vault import VaultFile
from regie.store import releases, workers
from regie.store.database import Database

from .conftest import client_of
from .stage import OPERATOR, Run, Stage, release_of, step
from .vendor import Vendor

pytestmark = pytest.mark.slow

NAMES = ("put", "find", "list", "remove")
DEFINITION = Definition(
    workflow="identity.offboard_employee",
    title="Remember",
    owner="team:implementation",
    steps=tuple(step(name, f"record.{name}") for name in NAMES),
)
BLOCKS: dict[str, tuple[str, ...]] = {f"record.{name}": (f"record.{name}",) for name in NAMES}


@pytest.fixture
async def stage(database: Database, tmp_path: Path, tokens: dict[str, str]) -> AsyncIterator[Stage]:
    """A gateway without a single connection: records need none."""
    async with database.transaction() as tx:
        await releases.put(tx, release_of({}, DEFINITION, BLOCKS), by=OPERATOR)
    gateway = make_gateway(database, VaultFile.create(tmp_path / "vault"), Callers(lambda: tokens))
    async with (
        gateway.router.lifespan_context(gateway),
        client_of(gateway, tokens[worker_of("identity")]) as client,
        client_of(gateway, tokens[worker_of("support")]) as other,
        client_of(gateway, tokens["web"]) as web,
        workers.registered(database, name="test", domains=["identity"]) as worker,
    ):
        yield Stage(database, client, Vendor(), worker.id, other, web)


async def put(stage: Stage, run: Run, *new: record.NewRecord) -> record.PutRecords:
    return await stage.client.call(run.at("put"), record.PUT, record.Putting(kind="laptop", records=list(new)))


async def find(stage: Stage, run: Run, *keys: str) -> list[record.KeptRecord]:
    asked = record.RecordQuery(kind="laptop", keys=list(keys))
    return (await stage.client.call(run.at("find"), record.FIND, asked)).records


async def test_what_one_run_keeps_a_later_one_finds_lists_and_removes(stage: Stage) -> None:
    first, second = await stage.start(), await stage.start()
    told = await put(stage, first, record.NewRecord(key="LT-1", state="collected", value={"shelf": "B7"}))
    assert [each.former for each in told.records] == [None]
    [found] = await find(stage, second, "LT-1", "LT-2")
    assert found.value == {"shelf": "B7"}
    assert found.put_at <= told.at
    listed = await stage.client.call(second.at("list"), record.LIST, record.RecordPage(kind="laptop"))
    assert [each.key for each in listed.records] == ["LT-1"]
    gone = record.RecordQuery(kind="laptop", keys=["LT-1", "LT-2"])
    assert (await stage.client.call(second.at("remove"), record.REMOVE, gone)).removed == 1
    assert await find(stage, second, "LT-1") == []


async def test_a_repeat_of_a_step_hears_what_was_there_before_it(stage: Stage) -> None:
    await put(stage, await stage.start(), record.NewRecord(key="LT-1", state="ordered"))
    run = await stage.start()
    for _ in range(2):
        [told] = (await put(stage, run, record.NewRecord(key="LT-1", state="collected"))).records
        assert told.former is not None
        assert told.former.state == "ordered"


async def test_another_customer_knows_nothing_of_it(stage: Stage) -> None:
    await put(stage, await stage.start(), record.NewRecord(key="LT-1"))
    assert await find(stage, await stage.start(tenant="globex"), "LT-1") == []


async def test_another_domain_may_not_ask_for_the_run(stage: Stage) -> None:
    run = await stage.start()
    with pytest.raises(Denied):
        await stage.other_domain.call(run.at("find"), record.FIND, record.RecordQuery(kind="laptop", keys=["LT-1"]))


async def test_a_step_that_only_looks_may_not_put(stage: Stage) -> None:
    run = await stage.start()
    with pytest.raises(Denied, match="no use for"):
        await stage.client.call(run.at("find"), record.PUT, record.Putting(kind="laptop", records=[]))


async def test_a_dry_run_keeps_and_removes_nothing_and_hears_what_is_there(stage: Stage) -> None:
    run, dry = await stage.start(), await stage.start(dry=True)
    await put(stage, run, record.NewRecord(key="LT-1", state="ordered"))
    told = await put(stage, dry, record.NewRecord(key="LT-1", state="collected"), record.NewRecord(key="LT-2"))
    assert [each.former.state if each.former else None for each in told.records] == ["ordered", None]
    gone = record.RecordQuery(kind="laptop", keys=["LT-1"])
    assert (await stage.client.call(dry.at("remove"), record.REMOVE, gone)).removed == 0
    assert [each.state for each in await find(stage, run, "LT-1", "LT-2")] == ["ordered"]


async def test_what_is_too_large_or_twice_is_refused_and_nothing_is_kept(stage: Stage) -> None:
    run = await stage.start()
    small, large = record.NewRecord(key="a"), record.NewRecord(key="b", value={"text": "x" * record.LARGEST_VALUE})
    with pytest.raises(InvalidInput, match="larger than"):
        await put(stage, run, small, large)
    with pytest.raises(InvalidInput, match="same key"):
        await put(stage, run, small, small)
    assert await find(stage, run, "a", "b") == []
