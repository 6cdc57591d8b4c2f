"""The default engine: PostgreSQL is the queue and the memory. Starting and delivering; `working.py` moves the runs."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from dataclasses import replace

import structlog

from regie.core import stopping
from regie.core.audit import Actor
from regie.core.errors import InvalidInput, OutcomeUnknown, Unavailable
from regie.core.interpreter import begin
from regie.core.outside_event import OutsideEvent
from regie.core.repeating import kept_digest
from regie.core.run import RunState
from regie.core.run_events import EVENT, Event
from regie.engine.accepting import accept, accept_rerun, require_place
from regie.engine.event_starting import start_for_oldest
from regie.engine.port import Hands, RerunRequest, Started, StartRequest
from regie.store import claims, events, inbox, quotas, releases, runs
from regie.store.database import Database, Transaction
from regie.store.keys import RunKey
from regie.store.runs import NewRun
from regie.telemetry import traces

MOST_ROUTED = 20
"""Events that one request brings to those who wait; what is behind them is brought by workers."""

log = structlog.get_logger(__name__)


class PostgresEngine:
    """Accepts runs and events for a database. Any process may hold one; it owns nothing.

    Args:
        database: Where the runs are.
        hands: A worker in the same process: a run that it has room for is its own from the start.
    """

    def __init__(self, database: Database, hands: Hands | None = None) -> None:
        self.database = database
        self.hands = hands

    async def start(self, request: StartRequest) -> Started:
        """Accept a run. See `port.Engine`."""
        async with self.database.transaction() as tx:
            new, current = await self._asked(tx, request)
            if self.hands is not None:
                new = replace(new, worker=self.hands.room_for(new.key.domain))
            # Whether a start rate lets it begin now is found out behind the start.
            is_last = not request.is_bounded and new.key.domain not in current.rated
            started = await self._put(tx, new, request, is_last=is_last)
        if self.hands is not None and started.held_at is not None:
            self.hands.adopt(claims.from_start(new, started.held_at), current.release)
        return Started(started.key, started.is_new)

    async def start_in(self, tx: Transaction, request: StartRequest) -> Started:
        """Accept a run in the caller's transaction, so that trigger and run are written together or not at all.

        Raises:
            InvalidInput: No such workflow or tenant, or the tenant does not have the domain.
            Throttled: The domain's queue is full, and the request is bounded by that; leave the transaction.
        """
        new, _ = await self._asked(tx, request)
        started = await self._put(tx, new, request, is_last=False)
        return Started(started.key, started.is_new)

    async def _asked(self, tx: Transaction, request: StartRequest) -> tuple[NewRun, releases.Current]:
        """The run that is asked for, and what it is pinned to."""
        current = await releases.current_at(tx)
        state = begin(accept(request, current.release, str(uuid.uuid4())))
        return _new_run(state, current, request, corr=request.corr or state.facts.id), current

    async def _put(self, tx: Transaction, new: NewRun, request: StartRequest, *, is_last: bool) -> runs.Started:
        started = await runs.start(tx, new, is_last=is_last)
        if request.is_bounded and started.is_new:
            await quotas.require_room(tx, new.key.domain)
        return started

    async def rerun(self, request: RerunRequest) -> Started:
        """Accept a run that repeats another in part. See `port.Engine`."""
        async with self.database.transaction() as tx:
            return await self.rerun_in(tx, request)

    async def rerun_in(self, tx: Transaction, request: RerunRequest) -> Started:
        """The same in the caller's transaction.

        Raises:
            InvalidInput: There is no such run, it is not over, or it cannot be repeated from there.
        """
        row = await runs.get(tx, request.key)
        if row is None:
            raise InvalidInput(f"There is no run {request.key.run}.")
        if row.emptied_at is not None:
            raise InvalidInput(
                "What this run was given and what its steps gave is no longer kept, so it cannot be repeated.",
                hint="Start a new run.",
            )
        before = RunState.model_validate_json(await runs.state_of(tx, row.key))
        was = await releases.get(tx, row.release)
        current = await releases.current_at(tx)
        pinned = current if request.is_current else replace(current, release=was, digest=row.release)
        state = accept_rerun(request, before, was, pinned.release, str(uuid.uuid4()))
        repeats = runs.Repeated(
            run=row.key.run,
            first_run=row.first_run or row.key.run,
            from_step=request.from_step,
            kept=sum(step.kept for step in state.steps.values()),
            kept_sha256=kept_digest(state),
        )
        started = await runs.start(tx, _new_run(state, pinned, request, corr=row.corr, repeats=repeats))
        return Started(started.key, started.is_new)

    async def deliver(self, key: RunKey, inbox_key: str, event: Event) -> bool:
        """Put an event in the inbox. See `port.Engine`."""
        async with self.database.transaction() as tx:
            return await inbox.deliver(tx, key, inbox_key, EVENT.dump_json(event).decode())

    async def publish(self, event: OutsideEvent, by: Actor) -> bool:
        """Take an event from outside. See `port.Engine`.

        When only the bringing fails, workers of the domain do it within about a second.
        """
        async with self.database.transaction() as tx:
            is_new = await self.publish_in(tx, event, by)
        await self.route(event.domain)
        return is_new

    async def publish_in(self, tx: Transaction, event: OutsideEvent, by: Actor) -> bool:
        """Take an event in the caller's transaction; `route` brings it to those who wait, when that is committed.

        Raises:
            InvalidInput: Its id is another event's, or there is no such tenant, or the tenant lacks the domain.
        """
        require_place(await releases.current(tx), event.tenant, event.domain)
        return await events.publish(tx, event, by)

    async def route(self, domain: str) -> None:
        """Bring what has arrived in a domain to those who wait for it, and start what it starts.

        What does not work now is left to workers.
        """
        try:
            for _ in range(MOST_ROUTED):
                if not await self.route_one([domain]):
                    return
        except (Unavailable, OutcomeUnknown) as error:
            log.warning("event:waits", domain=domain, reason=str(error))

    async def route_one(self, domains: Sequence[str]) -> bool:
        """Bring one event to those who wait for it, and start the runs of one; false when there was none of either."""
        async with self.database.transaction() as tx:
            is_routed = await events.route(tx, domains)
        async with self.database.transaction() as tx:
            return await start_for_oldest(tx, self, domains) or is_routed

    async def state(self, key: RunKey) -> RunState:
        """Where a run stands. See `port.Engine`."""
        async with self.database.reading() as tx:
            return RunState.model_validate_json(await runs.state_of(tx, key))


def _new_run(
    state: RunState,
    pinned: releases.Current,
    request: StartRequest | RerunRequest,
    *,
    corr: str,
    repeats: runs.Repeated | None = None,
) -> NewRun:
    """What is written down of a new run, pinned to a release."""
    facts = state.facts
    definition = pinned.release.definition(facts.workflow)
    return NewRun(
        key=RunKey(facts.tenant, facts.domain, facts.id),
        workflow=facts.workflow,
        release=pinned.digest,
        definition_digest=definition.digest,
        trigger_key=request.trigger_key,
        started_by=request.started_by,
        state_json=state.model_dump_json(),
        ticket=facts.ticket,
        corr=corr,
        requester=state.requester,
        dry=facts.dry,
        finish_within_s=definition.sla_finish_s,
        timers={timer.timer: timer.after_s for timer in stopping.timers(definition, facts)},
        repeats=repeats,
        trace=traces.current(),
        now=pinned.now,
        told=request.told,
    )
