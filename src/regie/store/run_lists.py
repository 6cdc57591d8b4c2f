"""Lists of runs, for people and for whoever looks after several: newest first, of a run, of a ticket, of triggers."""
# ruff: noqa: S608  statements are put together from constants of the store, as LiteralString proves

from collections.abc import Sequence
from typing import LiteralString

from regie.core.status import RunStatus
from regie.store.database import Transaction
from regie.store.keys import Cursor, RunKey
from regie.store.runs import BARE, RunRow, row_of
from regie.store.sight import ASKED_FOR, EVERYTHING, SEEN_PLACE, Sight

_LISTED: LiteralString = (
    """
    (%(tenant)s::text is null or tenant = %(tenant)s)
    and (%(domain)s::text is null or domain = %(domain)s)
    and (%(status)s::text is null or status = %(status)s)
    and (%(workflow)s::text is null or workflow = %(workflow)s)
    and (%(ticket)s::text is null or ticket = %(ticket)s)
    and (not %(late)s or finish_by < coalesce(ended_at, clock_timestamp()))
    and ("""
    + SEEN_PLACE
    + " or "
    + ASKED_FOR
    + """
         or exists (select from regie.approval a
                    where a.tenant = r.tenant and a.domain = r.domain and a.run = r.id
                      and exists (select from unnest(a.approvers) p where lower(p) = lower(%(person)s::text))))
    and (%(at)s::timestamptz is null or (started_at, id) < (%(at)s, %(id)s::uuid))
    order by started_at desc, id desc limit %(limit)s"""
)


async def list_runs(
    tx: Transaction,
    *,
    tenant: str | None = None,
    domain: str | None = None,
    status: RunStatus | None = None,
    workflow: str | None = None,
    ticket: str | None = None,
    is_late: bool = False,
    sight: Sight = EVERYTHING,
    limit: int = 50,
    before: Cursor | None = None,
) -> list[RunRow]:
    """Runs, newest first, from behind `before`.

    `is_late` leaves those that are or were not finished when they should have been, `sight` those that somebody sees.
    """
    rows = await tx.rows(
        BARE + _LISTED,
        {
            "tenant": tenant,
            "domain": domain,
            "status": status and status.value,
            "workflow": workflow,
            "ticket": ticket,
            "late": is_late,
            **sight.values(),
            "at": before and before.at,
            "id": before and before.id,
            "limit": limit,
        },
    )
    return [row_of(row) for row in rows]


async def children_of(tx: Transaction, key: RunKey) -> list[RunRow]:
    """The runs that a run has started, in the order in which it did."""
    rows = await tx.rows(
        BARE + "tenant = %(tenant)s and domain = %(domain)s and parent = %(run)s order by started_at, id",
        key._asdict(),
    )
    return [row_of(row) for row in rows]


async def known_triggers(tx: Transaction, tenant: str, domain: str, triggers: Sequence[str]) -> set[str]:
    """Those of these triggers that have started a run before."""
    rows = await tx.rows(
        """select trigger_key from regie.run
           where tenant = %(tenant)s and domain = %(domain)s and trigger_key = any(%(triggers)s)""",
        {"tenant": tenant, "domain": domain, "triggers": list(triggers)},
    )
    return {row["trigger_key"] for row in rows}


async def count_by_status(
    tx: Transaction, *, tenant: str | None = None, domain: str | None = None
) -> dict[RunStatus, int]:
    """How many runs stand where; a status without runs is left out."""
    rows = await tx.rows(
        """select status, count(*) as n from regie.run
           where (%(tenant)s::text is null or tenant = %(tenant)s)
             and (%(domain)s::text is null or domain = %(domain)s)
           group by status""",
        {"tenant": tenant, "domain": domain},
    )
    return {RunStatus(row["status"]): row["n"] for row in rows}


async def reruns(tx: Transaction, key: RunKey) -> list[str]:
    """The ids of the runs that repeat this one, the oldest first."""
    rows = await tx.rows(
        """select id from regie.run
           where tenant = %(tenant)s and domain = %(domain)s and rerun_of = %(run)s order by started_at, id""",
        key._asdict(),
    )
    return [str(row["id"]) for row in rows]


async def unfinished_of_ticket(tx: Transaction, tenant: str, domains: Sequence[str], ticket: str) -> list[RunRow]:
    """The runs for a ticket that are not over, oldest first, locked until the end of the transaction."""
    query: LiteralString = (
        BARE
        + """tenant = %(tenant)s and domain = any(%(domains)s) and ticket = %(ticket)s and ticket <> ''
           and ended_at is null
           order by tenant, domain, id for no key update"""
    )
    # Locked in the order of their keys, as commits lock them: a child that ends locks its parent.
    rows = await tx.rows(query, {"tenant": tenant, "domains": list(domains), "ticket": ticket})
    return sorted(map(row_of, rows), key=lambda row: (row.started_at, row.key.run))
