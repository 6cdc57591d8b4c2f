"""A ticket was closed or deleted by people: what runs for it is cancelled. `inbound.py` calls it, once that is genuine.

Who closed it is told by the ticket system. That is good enough to end something, and it is written down as told; it is
never good enough to say yes to anything.
"""

from __future__ import annotations

from collections.abc import Sequence

from pydantic import BaseModel, ConfigDict, JsonValue

from regie.core.audit import Actor
from regie.core.cancelling import is_too_late
from regie.core.errors import Unavailable
from regie.core.run_events import Cancelled
from regie.store import effects, run_lists, runs
from regie.store.database import Transaction
from regie.store.runs import RunRow
from regie.web.seeing import state_of

LONGEST_NAME = 200


class Closed(BaseModel):
    """A ticket that was closed, as its system tells it.

    Attributes:
        status: The status it has now; empty when it was deleted.
        by: Name or address of whoever closed it; `by_id` is the system's own id of them.
    """

    model_config = ConfigDict(frozen=True, extra="ignore")

    ticket: str
    event: str = ""
    status: str = ""
    by: str = ""
    by_id: str = ""


async def cancel_for(
    tx: Transaction, place: tuple[str, str], domains: Sequence[str], delivery: str, closed: Closed
) -> list[str]:
    """Cancel what is under way for a ticket; give the ids of these runs. The same delivery again changes nothing.

    A ticket that a run of ours has closed meanwhile was closed by that run, not by people. Another system of the tenant
    may have a ticket of the same key: what that one has started stays, and what was closed there does not count.

    Args:
        place: The tenant, and its connection that the delivery came in by.
        domains: Those that may use the connection.
    """
    (tenant, connection), cancelled = place, list[str]()
    for row in await run_lists.unfinished_of_ticket(tx, tenant, domains, closed.ticket):
        if await _announced_by(tx, row) not in {"", connection}:
            continue
        if closed.status and await effects.was_closed_since(tx, tenant, domains, closed.ticket, row.started_at):
            continue
        if await _is_too_late(tx, row):
            continue
        who = " ".join(closed.by.split())[:LONGEST_NAME] or "somebody"
        how = f"The ticket was closed: {closed.status}." if closed.status else "The ticket was deleted."
        told: dict[str, JsonValue] = {"delivery": delivery, "event": closed.event, "person": closed.by_id}
        event = Cancelled(by=f"{who} (as {connection} tells)", reason=how)
        by = Actor(type="ticket_system", id=connection)
        await runs.cancel(tx, row.key, by, event, told={"told": told})
        cancelled.append(row.key.run)
    return cancelled


async def _is_too_late(tx: Transaction, row: RunRow) -> bool:
    try:
        return is_too_late(await state_of(tx, row.key))
    except Unavailable:
        # Whoever mends the run must not have it go on for a ticket that is closed: it is told all the same.
        return False


async def _announced_by(tx: Transaction, row: RunRow) -> str:
    """The connection that a run's ticket came in by; empty where somebody has named the ticket, and no connection."""
    first = await runs.get(tx, row.key._replace(run=row.first_run)) if row.first_run else row
    by = row.started_by if first is None else first.started_by
    return by.id if by.type == "ticket_system" else ""
