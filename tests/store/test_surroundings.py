"""What a gateway asks before it acts: who holds the run, and what the ledger knows of the effect and its target."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import replace
from datetime import datetime, timedelta

import pytest

from regie.core.effect import EffectState, attempt_key
from regie.core.errors import FencedOut
from regie.core.status import RunStatus
from regie.store import commits, surroundings
from regie.store.claims import Claimed
from regie.store.commits import StepCommit
from regie.store.database import Database
from regie.store.effects import Intent
from regie.store.keys import RunKey
from regie.store.surroundings import CLOCK_MAY_STEP_S, Nearby

from .test_effects import intend, intent_of, settle

pytestmark = pytest.mark.slow

Start = Callable[..., Awaitable[RunKey]]
Claim = Callable[..., Awaitable[Claimed]]


async def clock(database: Database) -> datetime:
    """The database's, well after everything that was written so far."""
    async with database.reading() as tx:
        row = await tx.row("select clock_timestamp() as at")
    assert row is not None
    now: datetime = row["at"]
    return now + timedelta(seconds=CLOCK_MAY_STEP_S)


async def nearby(database: Database, intent: Intent, since: datetime, *, settle_s: float = 0.0) -> Nearby:
    async with database.glance() as tx:
        return await surroundings.nearby(
            tx,
            intent.key,
            attempt_key=intent.attempt_key,
            effect_key=intent.effect_key,
            capability=intent.capability,
            target=intent.target,
            since=since,
            settle_s=settle_s,
        )


async def test_the_steps_that_are_named_are_found_with_the_run(database: Database, start: Start, claim: Claim) -> None:
    key = await start(ticket="ITSM-7")
    held = await claim()
    intent = intent_of(key, fence=held.claim.fence)
    await intend(database, intent)
    async with database.glance() as tx:
        alone = await surroundings.asked(tx, key, held.claim.fence, [attempt_key(key.run, "elsewhere")])
        found = await surroundings.asked(tx, key, held.claim.fence, [intent.attempt_key])
        with pytest.raises(FencedOut):
            await surroundings.asked(tx, key, held.claim.fence + 1, [intent.attempt_key])
    assert alone.effects == {}
    assert (alone.held.ticket, alone.held.workflow) == ("ITSM-7", "identity.offboard_employee")
    assert list(found.effects) == [intent.attempt_key]
    assert found.effects[intent.attempt_key].change == intent.change
    assert found.at > alone.at


async def test_nothing_is_nearby_where_nothing_was_done(database: Database, start: Start) -> None:
    near = await nearby(database, intent_of(await start()), await clock(database))
    assert near == Nearby(own=None, alike=[], is_under_way=False, abandoned=None, is_touched=False)


async def test_a_step_itself_does_not_touch_its_target(database: Database, start: Start) -> None:
    intent = intent_of(await start())
    await intend(database, intent)
    near = await nearby(database, intent, await clock(database))
    assert near.own is not None
    assert near.own.state is EffectState.INTENDED
    assert (near.alike, near.is_touched) == ([], False)


@pytest.mark.parametrize("domain", ["identity", "hr"])
@pytest.mark.parametrize("state", list(EffectState))
async def test_a_change_of_ours_touches_a_target_until_it_is_older_than_the_look(
    database: Database, start: Start, state: EffectState, domain: str
) -> None:
    before = await clock(database)
    other = replace(intent_of(await start(domain=domain)), effect_key="0" * 64)
    await intend(database, other)
    if state is not EffectState.INTENDED:
        await settle(database, other, state)
    mine = intent_of(await start())
    elsewhere = replace(mine, target="user:2")

    assert (await nearby(database, mine, before)).is_touched
    assert (await nearby(database, mine, await clock(database))).is_touched is (state is EffectState.INTENDED)
    assert not (await nearby(database, elsewhere, before)).is_touched


async def test_two_runs_for_one_ticket_share_the_meaning(database: Database, start: Start) -> None:
    first, second, third = intent_of(await start()), intent_of(await start()), intent_of(await start())
    stranger = intent_of(await start(tenant="umbrella"))
    for intent in (first, second, third, replace(stranger, effect_key=first.effect_key)):
        await intend(database, intent)
    near = await nearby(database, third, await clock(database))
    assert [effect.key for effect in near.alike] == [second.key, first.key]
    assert near.own is not None
    assert near.own.key == third.key


async def test_what_was_accepted_is_asked_about_by_its_run_until_that_is_over(
    database: Database, start: Start, claim: Claim
) -> None:
    key = await start()
    held = await claim()
    accepted = intent_of(key, fence=held.claim.fence)
    await intend(database, accepted)
    await settle(database, accepted, EffectState.PENDING, handle={"job": 1})
    mine = intent_of(await start())
    near = await nearby(database, mine, await clock(database))
    assert (near.is_under_way, near.abandoned) == (True, None)
    assert not (
        await nearby(database, replace(mine, capability="identity.revoke_sessions"), await clock(database))
    ).is_under_way

    async with database.transaction() as tx:
        await commits.commit(tx, held.claim, StepCommit(state_json="{}", status=RunStatus.DONE))
    near = await nearby(database, mine, await clock(database))
    assert not near.is_under_way
    assert near.abandoned is not None
    assert near.abandoned.handle == {"job": 1}


@pytest.mark.parametrize("domain", ["identity", "hr"])
@pytest.mark.parametrize("state", list(EffectState))
async def test_what_another_step_has_just_made_is_under_way_for_as_long_as_it_need_not_show(
    database: Database, start: Start, state: EffectState, domain: str
) -> None:
    other = replace(intent_of(await start(domain=domain)), effect_key="0" * 64)
    await intend(database, other)
    if state is not EffectState.INTENDED:
        await settle(database, other, state)
    mine, long_after = intent_of(await start()), await clock(database)
    is_accepted = state is EffectState.PENDING
    may_be_made = state in {EffectState.INTENDED, EffectState.RECEIVED, EffectState.UNKNOWN}

    settling = await nearby(database, mine, long_after, settle_s=60.0)
    assert settling.is_under_way is (may_be_made or is_accepted)
    assert settling.is_touched is (state is EffectState.INTENDED)
    assert (await nearby(database, mine, long_after)).is_under_way is is_accepted
    assert (await nearby(database, mine, long_after, settle_s=0.000_001)).is_under_way is is_accepted
    for stranger in (replace(mine, capability="identity.revoke_sessions"), replace(mine, target="user:2"), other):
        assert not (await nearby(database, stranger, long_after, settle_s=60.0)).is_under_way
