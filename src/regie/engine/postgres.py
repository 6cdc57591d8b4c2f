"""The default engine: PostgreSQL is the queue and the memory. Starting and delivering; `working.py` moves the runs."""

from __future__ import annotations

import uuid

import structlog

from regie.core.audit import Actor
from regie.core.errors import OutcomeUnknown, Unavailable
from regie.core.interpreter import begin
from regie.core.outside_event import OutsideEvent
from regie.core.run import EVENT, Event, RunState
from regie.engine.accepting import accept, require_place
from regie.engine.port import Started, StartRequest
from regie.store import events, inbox, releases, runs
from regie.store.database import Database, Transaction
from regie.store.keys import RunKey
from regie.telemetry import traces

MOST_ROUTED = 20
"""Events that one request brings to those who wait; what is behind them is brought by workers."""

log = structlog.get_logger(__name__)


class PostgresEngine:
    """Accepts runs and events for a database. Any process may hold one; it owns nothing."""

    def __init__(self, database: Database) -> None:
        self.database = database

    async def start(self, request: StartRequest) -> Started:
        """Accept a run. See `port.Engine`."""
        async with self.database.transaction() as tx:
            return await self.start_in(tx, request)

    async def start_in(self, tx: Transaction, request: StartRequest) -> Started:
        """Accept a run in the caller's transaction, so that trigger and run are written together or not at all.

        Raises:
            InvalidInput: No such workflow or tenant, or the tenant does not have the domain.
        """
        release = await releases.current(tx)
        facts = accept(request, release, str(uuid.uuid4()))
        state = begin(facts)
        started = await runs.start(
            tx,
            runs.NewRun(
                key=RunKey(facts.tenant, facts.domain, facts.id),
                workflow=facts.workflow,
                release=release.digest,
                definition_digest=release.definition(facts.workflow).digest,
                trigger_key=request.trigger_key,
                started_by=request.started_by,
                state_json=state.model_dump_json(),
                ticket=request.ticket,
                corr=request.corr or facts.id,
                requester=state.requester,
                dry=request.dry,
                trace=traces.current(),
            ),
        )
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
        """Bring what has arrived in a domain to those who wait for it; what does not work now is left to workers."""
        try:
            for _ in range(MOST_ROUTED):
                async with self.database.transaction() as tx:
                    if not await events.route(tx, [domain]):
                        return
        except (Unavailable, OutcomeUnknown) as error:
            log.warning("event:waits", domain=domain, reason=str(error))

    async def state(self, key: RunKey) -> RunState:
        """Where a run stands. See `port.Engine`."""
        async with self.database.reading() as tx:
            return RunState.model_validate_json(await runs.state_of(tx, key))
