"""Inputs and outputs of runs that ended long ago are taken away; what the run did, and its audit log, stay."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable

import pytest

from regie.core.audit import Event
from regie.core.errors import InvalidInput
from regie.core.status import RunStatus
from regie.engine.port import RerunRequest
from regie.store import audit, runs, steps
from regie.store.database import Database
from regie.store.sealer import Sealer
from regie.worker import emptying
from regie.worker.emptying import Emptier
from tests.leaves import read_outside

from .stage import OPERATOR, RELEASE, PostgresStage, at_work, load

pytestmark = pytest.mark.slow

CANARY = "canary-51d0c2"
KEPT_DAYS = RELEASE.domains["things"].values_kept_s // 86_400


@pytest.fixture
async def stage(database: Database, url_of: Callable[[str], str], sealer: Sealer) -> AsyncIterator[PostgresStage]:
    """Workers have the login of their domain's workers."""
    await load(database)
    async with Database(url_of("worker-things"), sealer) as working:
        yield PostgresStage(database, working=working)


async def aged(stage: PostgresStage, days: float) -> None:
    """Let time go by for all runs that are over."""
    async with stage.database.transaction() as tx:
        await tx.change("update regie.run set ended_at = ended_at - make_interval(days => %(days)s)", {"days": days})


async def test_old_values_are_taken_away_and_everything_else_stays(stage: PostgresStage) -> None:
    async with at_work(stage.worker()):
        old = await stage.start("five", word=CANARY)
        await stage.until(old, lambda state: state.status is RunStatus.DONE)
        await aged(stage, KEPT_DAYS + 1)
        young = await stage.start("five", word=CANARY)
        await stage.until(young, lambda state: state.status is RunStatus.DONE)
        parked = await stage.start("approve")
        await stage.until(parked, lambda state: state.status is RunStatus.WAITING)
    before = await stage.engine.state(old)
    assert stage.working is not None
    two = [Emptier(stage.working, ["things"]) for _ in range(2)]
    assert sum(await asyncio.gather(*(each.look(asyncio.Event()) for each in two))) == 1
    assert await two[0].look(asyncio.Event()) == 0
    after = await stage.engine.state(old)
    async with stage.database.reading() as tx:
        row, kept = await runs.get(tx, old), await runs.get(tx, young)
        assert row is not None
        assert kept is not None
        assert (row.emptied_at is None, kept.emptied_at) == (False, None)
        assert await audit.verify(tx, old) == []
        told = await read_outside(tx, old.tenant, old.domain)
        for step in await steps.list_steps(tx, old):
            assert step.output_json is None
        inbox = await tx.rows("select payload from regie.inbox where run = %(run)s", {"run": old.run})
    assert CANARY in before.model_dump_json()
    assert CANARY not in after.model_dump_json()
    assert after.steps.keys() == before.steps.keys()
    assert {place: step.status for place, step in after.steps.items()} == {
        place: step.status for place, step in before.steps.items()
    }
    assert all(bytes(each["payload"]) == b"" for each in inbox)
    [leaf] = [leaf for leaf in told if leaf.event is Event.RUN_EMPTIED]
    assert leaf.fields["closed_run"] == old.run
    assert CANARY in (await stage.engine.state(young)).model_dump_json()
    again = RerunRequest(key=old, from_step="last", trigger_key="again", started_by=OPERATOR)
    with pytest.raises(InvalidInput, match="no longer kept"):
        await stage.engine.rerun(again)


async def test_more_than_fit_into_a_transaction_and_one_that_cannot_be_opened(
    stage: PostgresStage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(emptying, "AT_ONCE", 2)
    async with at_work(stage.worker()):
        keys = [await stage.start("five", word=CANARY) for _ in range(5)]
        for key in keys:
            await stage.until(key, lambda state: state.status is RunStatus.DONE)
    async with stage.database.transaction() as tx:
        await tx.change("update regie.run set state = '\\x00'::bytea where id = %(run)s", {"run": keys[0].run})
    await aged(stage, KEPT_DAYS + 1)
    assert stage.working is not None
    assert await Emptier(stage.working, ["things"]).look(asyncio.Event()) == 5
    for key in keys[1:]:
        assert CANARY not in (await stage.engine.state(key)).model_dump_json()
