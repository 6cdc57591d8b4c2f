"""The ledger: one row per step of a run; settled is final, in doubt may be taken up by a later claim."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Any

import pytest

from regie.core.effect import EffectState, attempt_key, effect_key
from regie.core.errors import Denied, FencedOut, OutcomeUnknown, RegieError
from regie.core.plan import Change, FieldChange, Receipt
from regie.store import effects
from regie.store.database import Database
from regie.store.effects import Intent
from regie.store.keys import RunKey

pytestmark = pytest.mark.slow

Start = Callable[..., Awaitable[RunKey]]

CHANGE = Change(
    capability="identity.disable_account",
    target="user:1",
    title="Jan Janssen",
    fields=(FieldChange(field="enabled", before=True, after=False),),
)
FINAL = (EffectState.RECEIVED, EffectState.UNCHANGED)


def intent_of(key: RunKey, *, fence: int = 1, **more: Any) -> Intent:
    meant = effect_key(
        tenant=key.tenant, domain=key.domain, workflow="w", intent="ITSM-7", place="close", target="user:1"
    )
    return Intent(
        **{
            "key": key,
            "place": "close",
            "attempt_key": attempt_key(key.run, "close"),
            "effect_key": meant,
            "capability": "identity.disable_account",
            "target": "user:1",
            "fence": fence,
            "change": CHANGE,
            **more,
        }
    )


async def intend(database: Database, intent: Intent) -> bool | type[RegieError]:
    try:
        async with database.transaction() as tx:
            return await effects.intend(tx, intent)
    except RegieError as error:
        return type(error)


async def settle(database: Database, intent: Intent, state: EffectState, **more: Any) -> type[RegieError] | None:
    try:
        async with database.transaction() as tx:
            await effects.settle(tx, intent.key, intent.attempt_key, state, fence=intent.fence, **more)
    except RegieError as error:
        return type(error)
    return None


async def test_an_effect_is_kept_from_intent_to_receipt(database: Database, start: Start) -> None:
    intent = intent_of(await start())
    assert await intend(database, intent) is True
    receipt = Receipt(request_id="r-1", remote_id="x")
    assert await settle(database, intent, EffectState.RECEIVED, receipt=receipt, observed={"enabled": False}) is None
    async with database.reading() as tx:
        effect = await effects.find(tx, intent.key, intent.attempt_key)
        assert await effects.list_effects(tx, intent.key) == [effect]
    assert effect is not None
    assert (effect.change, effect.change_digest, effect.target) == (CHANGE, CHANGE.digest, "user:1")
    assert (effect.state, effect.receipt, effect.observed) == (EffectState.RECEIVED, receipt, {"enabled": False})
    assert effect.is_settled
    assert effect.settled_at is not None


@pytest.mark.parametrize("state", list(EffectState))
async def test_what_may_follow_each_state(database: Database, start: Start, state: EffectState) -> None:
    """A later claim takes up what is in doubt, nobody touches what is settled, and a zombie touches nothing."""
    intent = intent_of(await start(), fence=5)
    await intend(database, intent)
    if state is not EffectState.INTENDED:
        assert await settle(database, intent, state) is None
    earlier, later = replace(intent, fence=4), replace(intent, fence=6)
    is_final = state in FINAL
    assert await intend(database, earlier) is (Denied if is_final else FencedOut)
    assert await settle(database, earlier, EffectState.FAILED) is (Denied if is_final else FencedOut)
    same = await intend(database, intent)
    if state in (EffectState.INTENDED, EffectState.UNKNOWN):
        assert same is OutcomeUnknown
    elif state is EffectState.FAILED:
        assert same is False
    else:
        assert same is Denied
    may_take_up = state in (EffectState.INTENDED, EffectState.UNKNOWN, EffectState.FAILED)
    assert await intend(database, later) is (False if may_take_up else Denied)
    if may_take_up:
        assert await settle(database, intent, EffectState.RECEIVED) is FencedOut
        assert await settle(database, later, EffectState.RECEIVED) is None
    if state is EffectState.PENDING:
        assert await settle(database, later, EffectState.RECEIVED) is None
    assert await settle(database, later, EffectState.FAILED) is Denied


async def test_a_retry_forgets_what_the_try_before_left(database: Database, start: Start) -> None:
    intent = intent_of(await start())
    await intend(database, intent)
    await settle(database, intent, EffectState.FAILED, observed={"old": 1}, receipt=Receipt(request_id="old"))
    await intend(database, replace(intent, change=None))
    async with database.reading() as tx:
        effect = await effects.find(tx, intent.key, intent.attempt_key)
    assert effect is not None
    assert (effect.tries, effect.change, effect.receipt, effect.observed, effect.settled_at) == (2,) + (None,) * 4


async def test_what_was_never_intended_is_not_settled(database: Database, start: Start) -> None:
    assert await settle(database, intent_of(await start()), EffectState.RECEIVED) is Denied


async def test_nothing_needed_is_recorded_without_an_intent(database: Database, start: Start) -> None:
    intent = intent_of(await start(), change=None)
    async with database.transaction() as tx:
        await effects.record_unchanged(tx, intent, observed={"enabled": False})
        effect = await effects.find(tx, intent.key, intent.attempt_key)
    assert effect is not None
    assert (effect.state, effect.observed, effect.change_digest) == (EffectState.UNCHANGED, {"enabled": False}, "")
    with pytest.raises(Denied):
        async with database.transaction() as tx:
            await effects.record_unchanged(tx, replace(intent, fence=9))


async def test_a_pending_effect_keeps_its_handle(database: Database, start: Start) -> None:
    intent = intent_of(await start())
    await intend(database, intent)
    assert await settle(database, intent, EffectState.PENDING, handle={"job": 7}) is None
    assert await settle(database, replace(intent, fence=3), EffectState.PENDING) is None
    async with database.reading() as tx:
        effect = await effects.find(tx, intent.key, intent.attempt_key)
    assert effect is not None
    assert (effect.handle, effect.fence) == ({"job": 7}, 3)
