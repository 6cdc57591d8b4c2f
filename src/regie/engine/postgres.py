"""The default engine: PostgreSQL is the queue and the memory. Starting and delivering; `working.py` moves the runs."""

from __future__ import annotations

import uuid

from regie.core.interpreter import begin
from regie.core.run import EVENT, Event, RunState
from regie.engine.accepting import accept
from regie.engine.port import Started, StartRequest
from regie.store import inbox, releases, runs
from regie.store.database import Database, Transaction
from regie.store.keys import RunKey
from regie.telemetry import traces


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

    async def state(self, key: RunKey) -> RunState:
        """Where a run stands. See `port.Engine`."""
        async with self.database.reading() as tx:
            return RunState.model_validate_json(await runs.state_of(tx, key))
