"""What the procedure in `effects.py` writes down: each method is one transaction of a ledger row and its leaf.

The leaf is written first: it locks the run, and everybody locks the run before what belongs to it.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
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
from regie.policy.cedar import Decision
from regie.store import audit, claims, effects, surroundings
from regie.store.database import Database, Transaction
from regie.store.surroundings import Nearby
from regie.telemetry import metrics

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
    def settle_s(self) -> float:
        """Seconds in which another step may have made what this one is about without its being seen yet.

        0 for what no other step names: nobody else makes that.
        """
        return self.write.settle_s if self.serving.provided.capability.object_name(self.want) else 0.0

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

    async def nearby(self, meant: Meant, change: Change) -> Nearby:
        """What else there is about a change, now that nobody else of us can act on its target."""
        async with self._database.glance(meant.granted.key.tenant) as tx:
            return await surroundings.nearby(
                tx,
                meant.granted.key,
                attempt_key=meant.attempt_key,
                effect_key=meant.effect_key,
                capability=change.capability,
                target=change.target,
                since=meant.granted.asked_at,
                settle_s=meant.settle_s,
            )

    async def intend(self, meant: Meant, change: Change, *, approval: str, policy: Decision) -> None:
        """Write down that the change is about to be made. Only after this may the vendor be called.

        An earlier try of the step that was in doubt counts as failed from here on: looking has shown that it was.

        Args:
            approval: Id of the approval that lists the change; empty when none is needed.
            policy: What has allowed it.

        Raises:
            FencedOut: The run has another owner by now, or is over.
            LimitReached: The run may make no further change.
        """
        detail = {**_detail(meant, change.target, change.digest), **policy.told}
        if approval:
            detail["approval"] = {"id": approval}
        async with self._writing(meant) as page:
            page.require_held()
            await page.require_room(change)
            await page.leaf(Event.EFFECT_INTENDED, detail)
            if page.known is not None and page.known.state in UNCERTAIN:
                await page.settle(EffectState.FAILED)
            await effects.intend(page.tx, _intent(meant, change.target, change))

    async def receive(self, meant: Meant, change: Change, receipt: Receipt, seen: Seen) -> None:
        """Write down that the change is made and was read back. Tries for a while, and writes once."""
        detail = _detail(meant, change.target, change.digest)
        if receipt.request_id:
            detail["request_id"] = receipt.request_id
        if receipt.remote_id:
            detail["remote_id"] = receipt.remote_id

        async def write() -> None:
            async with self._writing(meant) as page:
                if page.known is not None and page.known.state is EffectState.RECEIVED:
                    return
                await page.leaf(Event.EFFECT_RECEIVED, detail)
                await page.settle(EffectState.RECEIVED, receipt=receipt, observed=_observed(seen, ""))

        for wait_s in _AGAIN_S:
            try:
                return await write()
            except Unavailable:
                await self._pause(wait_s)
        return await write()

    async def leave(self, meant: Meant, planned: NoChange, seen: Seen) -> None:
        """Write down that nothing was needed."""
        async with self._writing(meant) as page:
            page.require_held()
            intent = _intent(meant, planned.target, None)
            await page.leaf(Event.EFFECT_UNCHANGED, _detail(meant, planned.target, ""))
            await effects.record_unchanged(page.tx, intent, observed=_observed(seen, planned.because))

    async def postpone(self, meant: Meant, pending: Pending) -> None:
        """Keep the handle of a change that takes effect later."""
        async with self._writing(meant) as page:
            await page.settle(EffectState.PENDING, receipt=pending.receipt, handle=pending.handle)

    async def fail(self, meant: Meant) -> None:
        """Write down that the change was not made, and may be tried again."""
        async with self._writing(meant) as page:
            await page.settle(EffectState.FAILED)

    async def refuse(self, meant: Meant, change: Change, error: RegieError) -> None:
        """Write down that the vendor will not make the change."""
        detail = {**_detail(meant, change.target, change.digest), "reason": type(error).__name__}
        async with self._writing(meant) as page:
            await page.leaf(Event.EFFECT_REFUSED, detail)
            await page.settle(EffectState.FAILED)

    async def stop(self, meant: Meant, change: Change) -> None:
        """Write down that a change was not even intended, because it is not what was approved."""
        detail = {**_detail(meant, change.target, change.digest), "reason": "world_moved"}
        async with self._writing(meant) as page:
            await page.leaf(Event.EFFECT_REFUSED, detail)

    async def limit(self, meant: Meant, change: Change) -> None:
        """Write down that a change was not even intended, because the run has made as many as it may."""
        detail = {**_detail(meant, change.target, change.digest), "reason": "limit_reached"}
        async with self._writing(meant) as page:
            await page.leaf(Event.EFFECT_REFUSED, detail)

    async def deny(self, meant: Meant, change: Change, reason: str, policy: Decision | None = None) -> None:
        """Write down that a change was asked for without the approval it needs, or against the policies."""
        told = policy.told if policy is not None else {}
        detail = {**_detail(meant, change.target, change.digest), "reason": reason, **told}
        async with self._writing(meant) as page:
            await page.leaf(Event.CAPABILITY_DENIED, detail)

    async def doubt(self, meant: Meant) -> None:
        """Write down that the change may have been made; the next attempt looks first."""
        async with self._writing(meant) as page:
            await page.settle(EffectState.UNKNOWN)

    async def lose(self, meant: Meant, change: Change) -> None:
        """Write down that only a person can tell whether the change was made."""
        async with self._writing(meant) as page:
            if page.known is None or page.known.state is not EffectState.UNKNOWN:
                await page.leaf(Event.EFFECT_LOST, _detail(meant, change.target, change.digest))
                await page.settle(EffectState.UNKNOWN)

    @asynccontextmanager
    async def _writing(self, meant: Meant) -> AsyncIterator[_Page]:
        """One transaction. A commit without an answer is no unknown effect: asking again finds out."""
        try:
            with metrics.timing("ledger"):
                async with self._database.transaction(meant.granted.key.tenant) as tx:
                    run, known = await effects.lock_run(tx, meant.granted.key, meant.attempt_key)
                    yield _Page(tx, meant, run, known)
        except OutcomeUnknown as error:
            raise Unavailable("The database did not say whether it wrote the effect ledger.") from error


@dataclass(frozen=True, slots=True)
class _Page:
    """The ledger open at one effect, with its run locked.

    Attributes:
        run: The run's row, as the audit log reads it.
        known: What the ledger knew when it was opened.
    """

    tx: Transaction
    meant: Meant
    run: Mapping[str, Any]
    known: effects.Effect | None

    def require_held(self) -> None:
        """Make sure that the asking worker still holds the run.

        Raises:
            FencedOut: The run has another owner by now, or is over.
        """
        granted = self.meant.granted
        if self.run["fence"] != granted.fence or self.run["owner"] is None or self.run["ended_at"] is not None:
            raise claims.not_held(granted.key, granted.fence)

    async def require_room(self, change: Change) -> None:
        """Make sure that the run may make one more change; those to its own ticket do not count.

        Raises:
            LimitReached: It has made as many as it may.
        """
        limit, own = self.meant.granted.limit, f"ticket:{self.run['ticket']}"
        if limit is None or change.target == own:
            return
        key = self.meant.granted.key
        if await effects.count_changes(self.tx, key, besides=self.meant.attempt_key, not_of=own) >= limit:
            raise LimitReached(
                f"This run may make {limit} changes and has made them; {change.in_words()} was not done.",
                hint="When the rest is right, repeat the run from this step: the new run may make as many again.",
            )

    async def leaf(self, event: Event, detail: dict[str, JsonValue]) -> None:
        """Write the leaf."""
        fact = Fact(event=event, actor=_ACTOR, detail=detail)
        with metrics.timing("audit"):
            await audit.append_behind(self.tx, self.meant.granted.key, self.run, [fact])

    async def settle(
        self,
        state: EffectState,
        *,
        receipt: Receipt | None = None,
        handle: JsonValue = None,
        observed: JsonValue = None,
    ) -> None:
        """Settle the row; one that an earlier claim of the run left in doubt is taken up first."""
        granted, known = self.meant.granted, self.known
        if known is not None and known.state in UNCERTAIN and known.fence < granted.fence:
            await effects.intend(self.tx, _intent(self.meant, known.target, known.change))
        await effects.settle(
            self.tx,
            granted.key,
            self.meant.attempt_key,
            state,
            fence=granted.fence,
            receipt=receipt,
            handle=handle,
            observed=observed,
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
