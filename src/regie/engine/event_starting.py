"""Starts the runs that events start, over a database: each event once, whoever gets to it first."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import structlog

from regie.core.errors import InvalidInput
from regie.core.event_starts import EventBegun, begun_by
from regie.core.outside_event import OutsideEvent
from regie.engine.port import Started, StartRequest
from regie.store import event_starts, releases
from regie.store.database import Transaction
from regie.store.event_starts import Unstarted

log = structlog.get_logger(__name__)


class Starting(Protocol):
    """Whoever can accept a run within a transaction; see `postgres.PostgresEngine`."""

    async def start_in(self, tx: Transaction, request: StartRequest) -> Started:
        """Accept a run in the caller's transaction."""
        ...


async def start_for_oldest(tx: Transaction, engine: Starting, domains: Sequence[str]) -> bool:
    """Start the runs of the oldest event of these domains that nobody has done so for, under the current release.

    Returns:
        Whether there was one, so that it pays to look for another.
    """
    found, is_any = await event_starts.take_oldest(tx, domains)
    if found is None:
        return is_any
    release = await releases.current(tx)
    event = found.event
    # The tenant may have been taken out of the workspace since the event was told.
    if event.tenant not in release.tenants or event.domain not in release.tenants[event.tenant].domains:
        log.warning(
            "event:starts_nothing", event_id=event.id, domain=event.domain, reason="the tenant lacks the domain"
        )
        return True
    for begun in begun_by(release, event, found.cause):
        try:
            await engine.start_in(tx, request_of(begun, event, found))
        except InvalidInput as error:
            log.warning("event:starts_nothing", event_id=event.id, workflow=begun.workflow, reason=error.message)
    return True


def request_of(begun: EventBegun, event: OutsideEvent, found: Unstarted) -> StartRequest:
    """The request for one run that an event starts."""
    return StartRequest(
        tenant=event.tenant,
        workflow=begun.workflow,
        trigger_key=begun.trigger_key,
        started_by=found.by,
        given=begun.given,
        corr=found.corr,
        cause=begun.cause,
        unfit=begun.unfit,
    )
