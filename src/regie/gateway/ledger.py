"""What the procedure in `effects.py` writes down: each method is one transaction of a ledger row and its leaf.

The leaf is written first: it locks the run, and everybody locks the run before what belongs to it.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

from pydantic import JsonValue

from regie.core import canonical
from regie.core.audit import Actor, Event, Fact
from regie.core.capability import Record
from regie.core.effect import EffectState, Repeat
from regie.core.errors import LimitReached, OutcomeUnknown, RegieError, Unavailable
from regie.core.plan import Change, NoChange, Pending, Receipt
from regie.gateway.connections import Serving
from regie.gateway.grants import Granted
from regie.kit.connector import Seen, Write
from regie.store import audit, claims, effects
from regie.store.database import Database, Transaction

UNCERTAIN = frozenset({EffectState.INTENDED, EffectState.UNKNOWN})
"""States of a row whose effect may have happened."""

_ACTOR = Actor(type="gateway", id="gateway")
_AGAIN_S = (0.2, 0.5, 1.0, 2.0)
"""Seconds between tries to write a receipt: the effect has happened, so giving up at once would lose what we know."""


@dataclass(frozen=True, slots=True)
class Meant:
    """One effect as a step asks for it.

    Attributes:
        marker: Our mark for it, in the vendor's objects that carry one.
    """

    granted: Granted
    serving: Serving
    write: Write[Any, Any]
    want: Record
    attempt_key: str
    effect_key: str
    marker: str

    @property
    def repeat(self) -> Repeat:
        """How it may happen again when nobody knows whether it happened."""
        return self.write.repeat


class Ledger:
    """The effect ledger with its leaves.

    Args:
        pause: Waits so many seconds.
    """

    def __init__(self, database: Database, pause: Callable[[float], Awaitable[None]] = asyncio.sleep) -> None:
        self._database = database
        self._pause = pause

    async def find(self, meant: Meant) -> effects.Effect | None:
        """The row of this step of this run, if it got that far before."""
        async with self._database.reading() as tx:
            return await effects.find(tx, meant.granted.key, meant.attempt_key)

    async def elsewhere(self, meant: Meant) -> Sequence[effects.Effect]:
        """Rows of other runs that meant the same effect, newest first."""
        grant = meant.granted.grant
        async with self._database.reading() as tx:
            rows = await effects.by_effect_key(tx, grant.tenant, grant.domain, meant.effect_key)
        return [row for row in rows if row.attempt_key != meant.attempt_key]

    async def abandoned(self, meant: Meant) -> effects.Effect | None:
        """The same effect, accepted for a run that is over by now: nobody asks any more what came of it."""
        grant = meant.granted.grant
        async with self._database.reading() as tx:
            return await effects.abandoned(tx, grant.tenant, grant.domain, meant.effect_key)

    async def is_under_way_elsewhere(self, meant: Meant, change: Change) -> bool:
        """Whether another step has had the same capability accepted for the same target, and it does not show yet."""
        async with self._database.reading() as tx:
            waiting = await effects.pending(tx, meant.granted.grant.tenant, change.target)
        return any(each.capability == change.capability and each.attempt_key != meant.attempt_key for each in waiting)

    async def intend(self, meant: Meant, change: Change, *, approval: str) -> None:
        """Write down that the change is about to be made. Only after this may the vendor be called.

        An earlier try of the step that was in doubt counts as failed from here on: looking has shown that it was.

        Args:
            approval: Id of the approval that lists the change; empty when none is needed.

        Raises:
            FencedOut: The run has another owner by now, or is over.
            LimitReached: The run may make no further change.
        """
        granted = meant.granted
        detail = _detail(meant, change.target, change.digest)
        if approval:
            detail["approval"] = {"id": approval}
        async with self._writing() as tx:
            held = await claims.held(tx, granted.key, granted.fence, lock=True)
            await _require_room(tx, meant, change, own=f"ticket:{held.ticket}")
            await self._leaf(tx, meant, Event.EFFECT_INTENDED, detail)
            known = await effects.find(tx, granted.key, meant.attempt_key)
            if known is not None and known.state in UNCERTAIN:
                await self._settle(tx, meant, EffectState.FAILED)
            await effects.intend(tx, _intent(meant, change.target, change))

    async def receive(self, meant: Meant, change: Change, receipt: Receipt, seen: Seen) -> None:
        """Write down that the change is made and was read back. Tries for a while, and writes once."""
        detail = _detail(meant, change.target, change.digest)
        if receipt.request_id:
            detail["request_id"] = receipt.request_id
        if receipt.remote_id:
            detail["remote_id"] = receipt.remote_id

        async def write() -> None:
            async with self._writing() as tx:
                known = await effects.find(tx, meant.granted.key, meant.attempt_key)
                if known is not None and known.state is EffectState.RECEIVED:
                    return
                await self._leaf(tx, meant, Event.EFFECT_RECEIVED, detail)
                await self._settle(tx, meant, EffectState.RECEIVED, receipt=receipt, observed=_observed(seen, ""))

        for wait_s in _AGAIN_S:
            try:
                return await write()
            except Unavailable:
                await self._pause(wait_s)
        return await write()

    async def leave(self, meant: Meant, planned: NoChange, seen: Seen) -> None:
        """Write down that nothing was needed."""
        async with self._writing() as tx:
            await claims.held(tx, meant.granted.key, meant.granted.fence, lock=True)
            intent = _intent(meant, planned.target, None)
            await self._leaf(tx, meant, Event.EFFECT_UNCHANGED, _detail(meant, planned.target, ""))
            await effects.record_unchanged(tx, intent, observed=_observed(seen, planned.because))

    async def postpone(self, meant: Meant, pending: Pending) -> None:
        """Keep the handle of a change that takes effect later."""
        async with self._writing() as tx:
            await self._settle(tx, meant, EffectState.PENDING, receipt=pending.receipt, handle=pending.handle)

    async def fail(self, meant: Meant) -> None:
        """Write down that the change was not made, and may be tried again."""
        async with self._writing() as tx:
            await self._settle(tx, meant, EffectState.FAILED)

    async def refuse(self, meant: Meant, change: Change, error: RegieError) -> None:
        """Write down that the vendor will not make the change."""
        detail = {**_detail(meant, change.target, change.digest), "reason": type(error).__name__}
        async with self._writing() as tx:
            await self._leaf(tx, meant, Event.EFFECT_REFUSED, detail)
            await self._settle(tx, meant, EffectState.FAILED)

    async def stop(self, meant: Meant, change: Change) -> None:
        """Write down that a change was not even intended, because it is not what was approved."""
        detail = {**_detail(meant, change.target, change.digest), "reason": "world_moved"}
        async with self._writing() as tx:
            await self._leaf(tx, meant, Event.EFFECT_REFUSED, detail)

    async def limit(self, meant: Meant, change: Change) -> None:
        """Write down that a change was not even intended, because the run has made as many as it may."""
        detail = {**_detail(meant, change.target, change.digest), "reason": "limit_reached"}
        async with self._writing() as tx:
            await self._leaf(tx, meant, Event.EFFECT_REFUSED, detail)

    async def deny(self, meant: Meant, change: Change) -> None:
        """Write down that a change was asked for without the approval it needs."""
        detail = {**_detail(meant, change.target, change.digest), "reason": "not_approved"}
        async with self._writing() as tx:
            await self._leaf(tx, meant, Event.CAPABILITY_DENIED, detail)

    async def doubt(self, meant: Meant) -> None:
        """Write down that the change may have been made; the next attempt looks first."""
        async with self._writing() as tx:
            await self._settle(tx, meant, EffectState.UNKNOWN)

    async def lose(self, meant: Meant, change: Change) -> None:
        """Write down that only a person can tell whether the change was made."""
        async with self._writing() as tx:
            known = await effects.find(tx, meant.granted.key, meant.attempt_key)
            if known is None or known.state is not EffectState.UNKNOWN:
                await self._leaf(tx, meant, Event.EFFECT_LOST, _detail(meant, change.target, change.digest))
                await self._settle(tx, meant, EffectState.UNKNOWN)

    @asynccontextmanager
    async def _writing(self) -> AsyncIterator[Transaction]:
        """One transaction. A commit without an answer is no unknown effect: asking again finds out."""
        try:
            async with self._database.transaction() as tx:
                yield tx
        except OutcomeUnknown as error:
            raise Unavailable("The database did not say whether it wrote the effect ledger.") from error

    async def _settle(
        self,
        tx: Transaction,
        meant: Meant,
        state: EffectState,
        *,
        receipt: Receipt | None = None,
        handle: JsonValue = None,
        observed: JsonValue = None,
    ) -> None:
        """Settle the row; one that an earlier claim of the run left in doubt is taken up first."""
        granted = meant.granted
        known = await effects.find(tx, granted.key, meant.attempt_key)
        if known is not None and known.state in UNCERTAIN and known.fence < granted.fence:
            await effects.intend(tx, _intent(meant, known.target, known.change))
        await effects.settle(
            tx,
            granted.key,
            meant.attempt_key,
            state,
            fence=granted.fence,
            receipt=receipt,
            handle=handle,
            observed=observed,
        )

    async def _leaf(self, tx: Transaction, meant: Meant, event: Event, detail: dict[str, JsonValue]) -> None:
        await audit.append(tx, meant.granted.key, [Fact(event=event, actor=_ACTOR, detail=detail)])


async def _require_room(tx: Transaction, meant: Meant, change: Change, *, own: str) -> None:
    """Make sure that the run, which is locked, may make one more change; those to its own ticket do not count."""
    limit = meant.granted.limit
    if limit is None or change.target == own:
        return
    if await effects.count_changes(tx, meant.granted.key, besides=meant.attempt_key, not_of=own) >= limit:
        raise LimitReached(
            f"This run may make {limit} changes and has made them; {change.in_words()} was not done.",
            hint="When the rest is right, repeat the run from this step: the new run may make as many again.",
        )


def seen_in(row: effects.Effect) -> tuple[Seen, str]:
    """What was read back when a row was settled, and why nothing was needed, if nothing was."""
    kept = row.observed if isinstance(row.observed, dict) else {}
    seen, because = kept.get("seen"), kept.get("because")
    return (seen if isinstance(seen, dict) else {}), (because if isinstance(because, str) else "")


def _observed(seen: Seen, because: str) -> JsonValue:
    return {"seen": dict(seen), "because": because}


def _intent(meant: Meant, target: str, change: Change | None) -> effects.Intent:
    return effects.Intent(
        key=meant.granted.key,
        place=meant.granted.grant.place,
        attempt_key=meant.attempt_key,
        effect_key=meant.effect_key,
        capability=meant.serving.provided.capability.name,
        target=target,
        fence=meant.granted.fence,
        change=change,
    )


def _detail(meant: Meant, target: str, change_digest: str) -> dict[str, JsonValue]:
    """What every leaf about an effect says. The target only as a digest: it may name a person."""
    grant = meant.granted.grant
    detail: dict[str, JsonValue] = {
        "capability": meant.serving.provided.capability.name,
        "connection": meant.serving.connection,
        "place": grant.place,
        "attempt_key": meant.attempt_key,
        "effect_key": meant.effect_key,
        "target_sha256": canonical.digest(["target", grant.tenant, target]),
    }
    if change_digest:
        detail["change_sha256"] = change_digest
    return detail
