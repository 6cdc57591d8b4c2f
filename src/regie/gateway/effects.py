"""How a change in the outside world is made: grant, look, plan, approval, intent, apply, look again, receipt.

`app.py` calls `plan` and `apply` for a step whose grant is already known. Everything here may be cut off at any line:
the next attempt of the step finds the ledger as it was left and goes on by looking at the world first.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass
from typing import Any, Protocol

import structlog
from pydantic import JsonValue, ValidationError

from regie.core import canonical
from regie.core.capability import Record
from regie.core.effect import EffectState, Repeat, attempt_key, effect_key, marker, object_key
from regie.core.errors import (
    Denied,
    InvalidInput,
    LimitReached,
    NotVerified,
    OutcomeUnknown,
    RegieError,
    Retryable,
    Terminal,
    Unavailable,
    WorldMoved,
)
from regie.core.places import written_place
from regie.core.plan import Change, NoChange, Pending, Receipt
from regie.crashpoints import CrashPoint, crashpoint
from regie.gateway.approved import Approved, approval_of, decide_on
from regie.gateway.connections import Serving
from regie.gateway.grants import Granted
from regie.gateway.ledger import UNCERTAIN, Ledger, Meant, seen_in
from regie.gateway.turns import Turns
from regie.gateway_client import ApplyReply, PlanReply
from regie.kit.connector import Read, Seen, Write
from regie.policy.cedar import Decision
from regie.store.database import Database
from regie.store.effects import Effect
from regie.store.surroundings import Nearby
from regie.telemetry import metrics

_log = structlog.get_logger(__name__)

REREADS_S = (0.2, 0.4, 0.8, 1.6, 2.0)
"""Seconds between readings until a change must show: vendors' replicas usually follow within that."""
LOOK_LASTS_S = 1.0
"""Seconds after which a look is taken again before anything is done: others than we change the world too."""
ASKED_ELSEWHERE_AGAIN_S = 2.0
"""Seconds until a step looks again for a change that another one has asked for and that does not show yet."""


class TargetLocks(Protocol):
    """Keeps other gateway processes away from a target."""

    def hold(self, tenant: str, target: str) -> AbstractAsyncContextManager[bool]:
        """Wait until nobody else holds the target of a tenant, and hold it while inside; gives whether one waited."""
        ...


@dataclass(frozen=True, slots=True)
class World:
    """What was observed, and what it would take."""

    seen: Seen
    planned: NoChange | Change


class Effects:
    """Makes changes, one at a time for each target.

    Args:
        locks: Shared among gateway processes.
        rereads_s: Seconds between readings until a change must show.
        pause: Waits so many seconds.
    """

    def __init__(
        self,
        database: Database,
        locks: TargetLocks,
        *,
        rereads_s: tuple[float, ...] = REREADS_S,
        pause: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._database = database
        self._ledger = Ledger(database, pause)
        self._locks = locks
        self._turns = Turns()
        self._rereads_s = rereads_s
        self._pause = pause

    async def call(self, serving: Serving, want: dict[str, JsonValue]) -> Record:
        """Read through a connection.

        Raises:
            Denied: The capability changes something.
            InvalidInput: It does not take what is asked.
            Retryable: The vendor does not answer now; try again.
            Terminal: The vendor refuses, or the connector broke.
        """
        read = serving.connector.implementation(serving.provided.capability.name)
        if not isinstance(read, Read):
            raise Denied(f"{serving.provided.capability.name} changes the outside world; it is planned and applied.")
        wanted = _wanted(serving, want)
        with self._speaking(serving):
            found: Record = await read.read(wanted)
        return found

    async def plan(self, granted: Granted, serving: Serving, want: dict[str, JsonValue]) -> PlanReply:
        """What would change, and the state that would follow. Writes nothing anywhere."""
        meant = _meant(granted, serving, want)
        world = await self._look(meant)
        return PlanReply(planned=world.planned, foreseen=_output(meant, _foreseen(meant, world)))

    async def apply(self, granted: Granted, serving: Serving, want: dict[str, JsonValue]) -> ApplyReply:
        """Make the change that the world needs to be as wanted, at most once, or find that it needs none.

        Raises:
            Denied: An approval that covers the step is missing, or the step has made another change before.
            WorldMoved: The change is not what was approved.
            LimitReached: The run has made as many changes as it may.
            Retryable: Nothing happened, or the next attempt finds out; try again.
            OutcomeUnknown: It may have happened and must not be repeated: a person decides.
            NotVerified: It was made, but reading back does not show it.
            Terminal: The vendor will not make it.
        """
        return await self._go_on(_meant(granted, serving, want), granted.effect)

    @asynccontextmanager
    async def turn(self, caller: str, run: str, place: str) -> AsyncIterator[None]:
        """Keep others from asking for the same step meanwhile: what the ledger knows of it is read inside."""
        async with self._turns.take((caller, attempt_key(run, place))):
            yield

    async def _go_on(self, meant: Meant, row: Effect | None) -> ApplyReply:
        """Go on from where the ledger says that the step stands."""
        if row is not None and row.effect_key != meant.effect_key:
            place = meant.granted.grant.place
            raise Denied(f"Step {place} has asked for another change before; a step makes one.")
        if row is not None and row.state in {EffectState.RECEIVED, EffectState.UNCHANGED}:
            return _replay(meant, row)
        if row is not None and row.state is EffectState.PENDING:
            return await self._resume(meant, row)
        return await self._bring_about(meant, row)

    async def _bring_about(self, meant: Meant, row: Effect | None) -> ApplyReply:
        """Look, plan, and change what differs, under the lock of the target."""
        world = await self._look(meant, patiently=row is not None and row.state in UNCERTAIN)
        if isinstance(world.planned, NoChange):
            return await self._nothing_needed(meant, row, world, world.planned)
        looked_s = time.monotonic()
        async with self._turn_at(meant, world.planned.target) as has_waited:
            with metrics.timing("lock"):
                near = await self._ledger.nearby(meant, world.planned)
            if _differ(row, near.own):
                # Another gateway has been at this very step meanwhile.
                raise Unavailable(f"Step {meant.granted.grant.place} is under way in another gateway.")
            if has_waited or near.is_touched or time.monotonic() - looked_s > LOOK_LASTS_S:
                # Whoever had the turn before may have changed what we saw.
                world = await self._look(meant)
            if isinstance(world.planned, NoChange):
                return await self._nothing_needed(meant, row, world, world.planned)
            return await self._change(meant, near, world, world.planned)

    @asynccontextmanager
    async def _turn_at(self, meant: Meant, target: str) -> AsyncIterator[bool]:
        """Keep everybody else of us from a target; gives whether somebody had it before."""
        tenant = meant.granted.grant.tenant
        async with AsyncExitStack() as stack:
            with metrics.timing("lock"):
                is_second = await stack.enter_async_context(self._turns.take((tenant, target)))
                has_waited = await stack.enter_async_context(self._locks.hold(tenant, target))
            yield is_second or has_waited

    async def _change(self, meant: Meant, near: Nearby, world: World, change: Change) -> ApplyReply:
        """Make a change, unless something that we have done before stands against it."""
        if meant.repeat is Repeat.ONCE:
            if near.own is not None and near.own.state in UNCERTAIN:
                raise await self._lost(meant, change)
            if _was_done_elsewhere(near):
                return await self._done_before(meant, world, change)
        if near.is_under_way:
            # Nothing is written: whatever it comes to, the next attempt looks from the top.
            return ApplyReply(state="pending", planned=change, again_after_s=ASKED_ELSEWHERE_AGAIN_S)
        approved = await self._approval(meant, change)
        decision = await self._decide(meant, change, approved)
        earlier = near.abandoned
        if earlier is not None and earlier.change is not None and earlier.change.digest == change.digest:
            return await self._take_over(meant, earlier, change, (approved, decision))
        crashpoint(CrashPoint.BEFORE_INTENT)
        await self._intend(meant, change, (approved, decision))
        crashpoint(CrashPoint.AFTER_INTENT)
        return await self._make(meant, change)

    async def _intend(self, meant: Meant, change: Change, allowed: tuple[Approved, Decision]) -> None:
        """Write the intent; what goes beyond the run's limit is written down before it is raised."""
        approved, decision = allowed
        try:
            await self._ledger.intend(meant, change, approval=approved.id, policy=decision)
        except LimitReached:
            await self._ledger.limit(meant, change)
            raise

    async def _take_over(
        self, meant: Meant, earlier: Effect, change: Change, allowed: tuple[Approved, Decision]
    ) -> ApplyReply:
        """Go on asking about what an earlier run for the same request has had accepted; nothing is sent twice."""
        await self._intend(meant, change, allowed)
        kept = Pending(handle=earlier.handle, again_after_s=0.0, receipt=earlier.receipt or Receipt())
        await self._ledger.postpone(meant, kept)
        return await self._resume(meant, earlier)

    async def _make(self, meant: Meant, change: Change) -> ApplyReply:
        """Call the vendor, and settle whatever comes of it."""
        try:
            with self._speaking(meant.serving, broken=OutcomeUnknown):
                answer = await meant.write.apply(meant.want, change, meant.marker)
        except Retryable:
            await self._ledger.fail(meant)
            raise
        except OutcomeUnknown as error:
            return await self._reconcile(meant, change, error.after_s)
        except RegieError as error:
            await self._ledger.refuse(meant, change, error)
            raise
        crashpoint(CrashPoint.AFTER_EFFECT)
        if isinstance(answer, Pending):
            return await self._postpone(meant, change, answer)
        return await self._verify(meant, change, answer)

    async def _reconcile(self, meant: Meant, change: Change, after_s: float | None) -> ApplyReply:
        """The vendor gave no answer, or asks for time: look whether it happened."""
        try:
            world = await self._look(meant, patiently=True)
        except RegieError as error:
            _log.warning("effect:not_found_out", capability=change.capability, kind=type(error).__name__)
            world = None
        if world is not None and isinstance(world.planned, NoChange):
            return await self._receive(meant, change, Receipt(), world.seen)
        if meant.repeat is Repeat.ONCE:
            raise await self._lost(meant, change)
        await self._ledger.doubt(meant)
        raise Unavailable(
            f"{change.capability} got no answer and does not show; the next attempt looks again first.", after_s=after_s
        )

    async def _verify(self, meant: Meant, change: Change, receipt: Receipt) -> ApplyReply:
        """Read back until the change shows, for a few seconds."""
        unread: Retryable | None = None
        for wait_s in (*self._rereads_s, None):
            try:
                with self._speaking(meant.serving):
                    seen = await meant.write.confirm(meant.want, receipt, meant.marker)
                    planned = meant.write.plan(meant.want, seen)
            except Retryable as error:
                unread = error
            except RegieError as error:
                await self._ledger.lose(meant, change)
                raise NotVerified(f"{change.capability} was made and cannot be read back: {error.message}") from error
            else:
                unread = None
                if isinstance(planned, NoChange):
                    return await self._receive(meant, change, receipt, seen)
            if wait_s is not None:
                await self._pause(wait_s)
        if unread is not None and meant.repeat is not Repeat.ONCE:
            # The row stays as intended: the next attempt looks first.
            raise unread
        await self._ledger.lose(meant, change)
        raise NotVerified(f"{change.capability} was made, but reading back does not show it.")

    async def _resume(self, meant: Meant, row: Effect) -> ApplyReply:
        """Ask about a change that the vendor accepted earlier."""
        change = row.change
        if change is None:
            raise Terminal(f"The ledger holds {row.capability} as pending without its change.")
        try:
            with self._speaking(meant.serving, broken=OutcomeUnknown):
                answer = await meant.write.resume(meant.want, row.handle)
        except OutcomeUnknown as error:
            raise Unavailable(
                f"{change.capability} is still under way; asking about it got no answer.", after_s=error.after_s
            ) from error
        except Terminal as error:
            await self._ledger.refuse(meant, change, error)
            raise
        if isinstance(answer, Pending):
            return await self._postpone(meant, change, answer)
        return await self._verify(meant, change, answer)

    async def _postpone(self, meant: Meant, change: Change, pending: Pending) -> ApplyReply:
        await self._ledger.postpone(meant, pending)
        return ApplyReply(
            state="pending",
            planned=change,
            receipt=pending.receipt,
            handle=pending.handle,
            again_after_s=pending.again_after_s,
        )

    async def _receive(self, meant: Meant, change: Change, receipt: Receipt, seen: Seen) -> ApplyReply:
        crashpoint(CrashPoint.BEFORE_RECEIPT)
        await self._ledger.receive(meant, change, receipt, seen)
        crashpoint(CrashPoint.AFTER_RECEIPT)
        return ApplyReply(state="received", planned=change, output=_output(meant, seen), receipt=receipt)

    async def _nothing_needed(self, meant: Meant, row: Effect | None, world: World, planned: NoChange) -> ApplyReply:
        """The world is as wanted: by our own earlier try that was cut off, or without us."""
        if row is not None and row.state in UNCERTAIN and row.change is not None:
            return await self._receive(meant, row.change, row.receipt or Receipt(), world.seen)
        await self._ledger.leave(meant, planned, world.seen)
        return ApplyReply(state="unchanged", planned=planned, output=_output(meant, world.seen))

    async def _done_before(self, meant: Meant, world: World, change: Change) -> ApplyReply:
        planned = NoChange(
            capability=change.capability, target=change.target, because="it was done before for the same request"
        )
        after = World(_foreseen(meant, world), planned)
        return await self._nothing_needed(meant, None, after, planned)

    async def _approval(self, meant: Meant, change: Change) -> Approved:
        """The approval that lists the change; what is not listed is written down before it is raised."""
        try:
            with metrics.timing("approval"):
                return await approval_of(self._database, meant.granted, change)
        except WorldMoved:
            await self._ledger.stop(meant, change)
            raise
        except Denied:
            await self._ledger.deny(meant, change, "not_approved")
            raise

    async def _decide(self, meant: Meant, change: Change, approved: Approved) -> Decision:
        """Ask the policies about this very change; a no is written down before it is raised."""
        with metrics.timing("approval"):
            decision = decide_on(meant.granted, meant.serving, change, approved)
        if not decision.is_allowed:
            await self._ledger.deny(meant, change, decision.reason, decision)
            raise decision.denied(f"No policy allows step {meant.granted.grant.place} to do this: {change.in_words()}.")
        return decision

    async def _lost(self, meant: Meant, change: Change) -> OutcomeUnknown:
        """Write down that a person must find out; the error to raise."""
        await self._ledger.lose(meant, change)
        return OutcomeUnknown(
            f"{change.capability} was sent and no answer came. It cannot be looked up and must not be repeated.",
            hint="Find out in the outside system whether it happened.",
        )

    async def _look(self, meant: Meant, *, patiently: bool = False) -> World:
        """Observe and plan. Patiently, when something of ours may be there that does not show at once."""
        write = meant.write
        with self._speaking(meant.serving):
            if patiently:
                seen = await write.observe_patiently(meant.want, meant.marker, self._pause)
            else:
                seen = await write.observe(meant.want, meant.marker)
            return World(seen, write.plan(meant.want, seen))

    @contextmanager
    def _speaking(self, serving: Serving, broken: type[RegieError] = Terminal) -> Iterator[None]:
        """Speak with a vendor.

        Args:
            broken: What a fault in the connector's own code amounts to.
        """
        try:
            yield
        except RegieError:
            raise
        except Exception as error:  # noqa: BLE001  a connector's author may have missed anything
            # Neither the log nor the answer gets the error's text: it may hold whatever the vendor or we sent.
            where = innermost(error)
            _log.error("connector:broke", connection=serving.connection, kind=type(error).__name__, where=where)
            raise broken(
                f"The connector of {serving.connection} broke: {type(error).__name__} at {where}.",
                hint="This is a fault in its code.",
            ) from None


def _meant(granted: Granted, serving: Serving, want: dict[str, JsonValue]) -> Meant:
    """Name the effect that a step asks for.

    The same asked for again at the same written place for the same request is the same effect, whichever run asks;
    a loop's item is known by what it asks for, since its index may be another in the next run.
    """
    write = serving.connector.implementation(serving.provided.capability.name)
    if not isinstance(write, Write):
        raise Denied(f"{serving.provided.capability.name} only reads; it is called.")
    grant = granted.grant
    wanted = _wanted(serving, want)
    key = effect_key(
        tenant=grant.tenant,
        domain=grant.domain,
        workflow=grant.workflow,
        intent=grant.intent,
        place=written_place(grant.place),
        target=canonical.digest([serving.provided.capability.name, wanted.model_dump(mode="json")]),
    )
    return Meant(
        granted=granted,
        serving=serving,
        write=write,
        want=wanted,
        attempt_key=attempt_key(grant.run, grant.place),
        effect_key=key,
        marker=marker(_object_key(granted, serving, wanted) or key),
    )


def _object_key(granted: Granted, serving: Serving, wanted: Record) -> str:
    """Names the object that the request names for good; empty when it names none."""
    capability, grant = serving.provided.capability, granted.grant
    name = capability.object_name(wanted)
    if not name:
        return ""
    return object_key(tenant=grant.tenant, domain=grant.domain, capability=capability.name, name=name)


def _differ(before: Effect | None, now: Effect | None) -> bool:
    """Whether a row of the ledger has been written since."""
    told = [None if row is None else (row.state, row.tries, row.fence) for row in (before, now)]
    return told[0] != told[1]


def _was_done_elsewhere(near: Nearby) -> bool:
    """Whether another run did it for the same request; a run that may have done it stops this one.

    Raises:
        OutcomeUnknown: Another run may have done it.
    """
    if any(row.state is EffectState.RECEIVED for row in near.alike):
        return True
    doubtful = next((row for row in near.alike if row.state in {*UNCERTAIN, EffectState.PENDING}), None)
    if doubtful is not None:
        raise OutcomeUnknown(
            f"Run {doubtful.key.run} may have done {doubtful.capability} for the same request.",
            hint="Settle that first: it must not happen twice.",
        )
    return False


def _wanted(serving: Serving, want: dict[str, JsonValue]) -> Record:
    capability = serving.provided.capability
    try:
        return capability.wants.model_validate(want)
    except ValidationError as error:
        places = sorted({".".join(map(str, fault["loc"])) for fault in error.errors(include_input=False)})
    raise InvalidInput(f"{capability.name} was asked with something it does not take: look at {', '.join(places)}.")


def _foreseen(meant: Meant, world: World) -> Seen:
    return meant.write.foreseen(world.planned, world.seen) if isinstance(world.planned, Change) else world.seen


def _output(meant: Meant, seen: Seen) -> dict[str, JsonValue]:
    """The capability's answer, as JSON; only the fields its record declares."""
    given: dict[str, JsonValue] = meant.write.gives(meant.want, seen).model_dump(mode="json")
    return given


def _replay(meant: Meant, row: Effect) -> ApplyReply:
    """Answer a settled effect again, as it was when it was settled."""
    seen, because = seen_in(row)
    planned: NoChange | Change | None = row.change if row.state is EffectState.RECEIVED else None
    return ApplyReply(
        state="received" if row.state is EffectState.RECEIVED else "unchanged",
        planned=planned or NoChange(capability=row.capability, target=row.target, because=because),
        output=_output(meant, seen),
        receipt=row.receipt or Receipt(),
    )


def innermost(error: BaseException) -> str:
    """File and line where an error came from: as much of it as may be written down."""
    trace: Any = error.__traceback__
    while trace.tb_next is not None:
        trace = trace.tb_next
    return f"{trace.tb_frame.f_code.co_filename.rpartition('/')[2]}:{trace.tb_lineno}"
