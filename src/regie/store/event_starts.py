"""Events not yet looked at for what they start: taken one at a time, in the transaction that starts the runs.

Part of `events.py` in all but its reader: the engine asks here, since only it knows how to start a run.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from regie.core.audit import Actor
from regie.core.outside_event import OutsideEvent
from regie.core.run import Cause
from regie.store import events
from regie.store.database import Transaction


class Unstarted(NamedTuple):
    """An event whose runs are to be started.

    Attributes:
        by: Who told it, or who started the run that published it.
        corr: Correlation id of that run; empty for one from outside.
    """

    event: OutsideEvent
    by: Actor
    cause: Cause
    corr: str


async def take_oldest(tx: Transaction, domains: Sequence[str]) -> tuple[Unstarted | None, bool]:
    """The oldest event of these domains that nobody has started runs for, and whether there was one at all.

    It is marked as looked at, so start its runs in this same transaction. One that nobody can read is set aside.
    """
    row = await tx.row(
        """update regie.event e set started_at = clock_timestamp()
           from (select tenant, domain, id from regie.event
                 where domain = any(%(domains)s) and started_at is null
                 order by arrived_at limit 1 for no key update skip locked) o
           where (e.tenant, e.domain, e.id) = (o.tenant, o.domain, o.id)
           returning e.tenant, e.domain, e.id, e.name, e.data, e.cause, e.corr, e.published_by""",
        {"domains": list(domains)},
    )
    if row is None:
        return None, False
    data, cause = events.data_of(tx, row), events.cause_of(tx, row)
    if data is None or cause is None:
        await events.set_aside(tx, row)
        return None, True
    event = OutsideEvent(tenant=row["tenant"], domain=row["domain"], id=row["id"], name=row["name"], data=data)
    return Unstarted(event, Actor.model_validate(row["published_by"]), cause, row["corr"]), True
