"""The rule that every run which is not over has something that will move it, and what becomes of one that has not.

The rule stands here and nowhere else: whatever can wake a run is a line of `WAKERS`. `regie doctor` reads what breaks
it; workers sweep, and heal what they can.
"""

from dataclasses import dataclass
from datetime import datetime
from typing import LiteralString, NamedTuple

from psycopg.rows import DictRow

from regie.core.audit import Actor, Event, Fact
from regie.store import audit
from regie.store.database import Transaction
from regie.store.keys import READY, RunKey

WAKERS: tuple[LiteralString, ...] = (
    "r.owner is not null",
    "r.ready_at is not null",
    # A fault has thrown it out of a worker's hands, and it is tried again.
    "r.again_at is not null",
    # Somebody holds it up, and is named in it.
    "r.status = 'paused'",
    "exists (select from regie.timer t where (t.tenant, t.domain, t.run) = (r.tenant, r.domain, r.id))",
    """exists (select from regie.approval a where (a.tenant, a.domain, a.run) = (r.tenant, r.domain, r.id)
               and a.status = 'open' and cardinality(a.approvers) > 0)""",
    # A child tells its parent when it ends. What waits for an event has a timer: nothing is waited for without end.
    """exists (select from regie.run c where (c.tenant, c.domain, c.parent) = (r.tenant, r.domain, r.id)
               and c.ended_at is null and not c.detached)""",
)
"""What will move the run `r`: any of these is enough."""
_ASLEEP: LiteralString = "r.ended_at is null and not (" + " or ".join(WAKERS) + ")"
# A timer or an answer makes it ready, and then it is set aside again: until somebody has mended it, nothing moves it.
_SET_ASIDE: LiteralString = "r.ended_at is null and r.set_aside is not null and r.owner is null and r.ready_at is null"
_FIND: LiteralString = "select tenant, domain, id, workflow, ticket, changed_at, set_aside from regie.run r where "
_FIND_FREE: LiteralString = """
    select tenant, domain, id, seq, woken_seq from regie.run r
    where domain = any(%(domains)s) and set_aside is null and """
_OLDEST: LiteralString = " order by changed_at limit %(most)s"
_LOCKED: LiteralString = " for no key update skip locked"
STUCK = "Stuck"
"""Why a run is set aside that fell asleep again right after it was woken."""
MOST = 50
"""Runs that one look names or heals."""
_ENGINE = Actor(type="engine", id="engine")


@dataclass(frozen=True)
class Sleeper:
    """A run that is not over and that nothing will wake.

    Attributes:
        set_aside: Class name of the error for which nobody goes on with it; empty when nobody knows why it sleeps.
    """

    key: RunKey
    workflow: str
    ticket: str
    since: datetime
    set_aside: str


class Swept(NamedTuple):
    """What a sweep has done."""

    woken: list[RunKey]
    set_aside: list[RunKey]


async def asleep(tx: Transaction) -> list[Sleeper]:
    """Every run that breaks the rule or is set aside, the one that sleeps longest first."""
    rows = await tx.rows(_FIND + "((" + _ASLEEP + ") or (" + _SET_ASIDE + "))" + _OLDEST, {"most": MOST})
    return [
        Sleeper(_key(row), row["workflow"], row["ticket"], row["changed_at"], row["set_aside"] or "") for row in rows
    ]


async def unfinished_domains(tx: Transaction) -> list[str]:
    """The domains that have a run which is not over."""
    rows = await tx.rows("select distinct domain from regie.run where ended_at is null order by domain")
    return [row["domain"] for row in rows]


async def sweep(tx: Transaction, domains: list[str]) -> Swept:
    """Make runs of these domains ready that nothing would wake; whoever takes one finds out what is to be done.

    A run that has not moved since it was last woken like this is set aside instead, for a person to look at: once is
    harmless, again and again would hide it. What was set aside stays so.
    """
    swept = Swept([], [])
    for row in await tx.rows(_FIND_FREE + _ASLEEP + _OLDEST + _LOCKED, {"domains": domains, "most": MOST}):
        is_stuck = row["woken_seq"] == row["seq"]
        await (_put_aside(tx, row) if is_stuck else _wake(tx, row))
        (swept.set_aside if is_stuck else swept.woken).append(_key(row))
    return swept


async def _wake(tx: Transaction, row: DictRow) -> None:
    await tx.row(
        """update regie.run set ready_at = clock_timestamp(), woken_seq = seq
           where tenant = %(tenant)s and domain = %(domain)s and id = %(id)s
           returning pg_notify(%(channel)s, domain)""",
        {**row, "channel": READY},
    )
    await audit.append(tx, _key(row), [Fact(event=Event.RUN_WOKEN, actor=_ENGINE)])


async def _put_aside(tx: Transaction, row: DictRow) -> None:
    await tx.change(
        """update regie.run set set_aside = %(kind)s
           where tenant = %(tenant)s and domain = %(domain)s and id = %(id)s""",
        {**row, "kind": STUCK},
    )
    fact = Fact(event=Event.RUN_SET_ASIDE, actor=_ENGINE, detail={"failure": STUCK})
    await audit.append(tx, _key(row), [fact])


def _key(row: DictRow) -> RunKey:
    return RunKey(row["tenant"], row["domain"], str(row["id"]))
