"""Which ready runs a worker gets: within the quotas, fair between tenants, fair between the worker's domains.

`claims.take` asks. Claims of one domain take turns, so what one of them counts is what the next one finds: two workers
together never have more in hands than a quota allows.
"""

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Final, LiteralString, NamedTuple

from psycopg.rows import DictRow

from regie.core.format import FORMAT
from regie.store.database import Sent, Transaction

NONE: Mapping[str, int] = MappingProxyType({})
TURNS: Final = 72_385
"""First half of the two-part advisory lock of each domain's claims; the second is the hash of its name."""
TURN_WITHIN: Final = "3s"
"""A worker that hangs in its turn is cut off by the database after this long, so that the others can go on."""

_TAKE_TURNS: LiteralString = """
    select set_config('idle_in_transaction_session_timeout', %(within)s, true),
           pg_advisory_xact_lock(%(turns)s, hashtext(d.domain)) from unnest(%(domains)s::text[]) as d (domain)"""

_CHOOSE: LiteralString = """
    with recursive in_hands as materialized (
        select domain, tenant, count(*) as n from regie.run
        where domain = any(%(domains)s) and owner is not null group by domain, tenant),
    -- How many more each domain may have: of this worker's slots, and of its quota.
    room as materialized (
        select d.domain, d.held, q.per_tenant, least(
                   %(limit)s, d.most - d.held,
                   q.runs - (select coalesce(sum(h.n), 0) from in_hands h where h.domain = d.domain)) as free
        from unnest(%(domains)s::text[], %(held)s::integer[], %(most)s::integer[]) as d (domain, held, most)
        left join regie.quota q using (domain)
        where exists (select from regie.worker where id = %(worker)s)),
    -- The tenants with something ready, found by one look into the index each, however much each of them has.
    queue (domain, tenant) as (
        select o.domain, (select r.tenant from regie.run r
                          where r.domain = o.domain and r.owner is null and r.ready_at is not null
                          order by r.tenant limit 1)
        from room o where o.free > 0
        union all
        select q.domain, (select r.tenant from regie.run r
                          where r.domain = q.domain and r.tenant > q.tenant
                            and r.owner is null and r.ready_at is not null
                          order by r.tenant limit 1)
        from queue q where q.tenant is not null),
    -- How many of each tenant are looked at. Of many tenants few each: whatever is left over, the next claim gets.
    looked as materialized (
        select q.domain, q.tenant, coalesce(h.n, 0) as had,
               least(o.free, o.per_tenant - coalesce(h.n, 0),
                     greatest(1, 2 * %(limit)s / count(*) over (partition by q.domain))) as most
        from queue q join room o using (domain) left join in_hands h using (domain, tenant)
        where q.tenant is not null and (o.per_tenant is null or coalesce(h.n, 0) < o.per_tenant)),
    head as materialized (
        select l.had, c.* from looked l cross join lateral (
            select r.tenant, r.domain, r.id, r.prio, r.ready_at from regie.run r
            where r.domain = l.domain and r.tenant = l.tenant and r.owner is null and r.ready_at is not null
              -- What a newer version has written is left to its workers.
              and r.format <= %(reads)s
            order by r.prio, r.ready_at limit l.most for no key update skip locked) c),
    -- The more a tenant has in hands already, the later its next one comes; the same then for domains.
    lined as (
        select h.*, h.had + row_number() over (partition by h.domain, h.tenant order by h.prio, h.ready_at) as share
        from head h),
    placed as (
        select l.*, row_number() over (partition by l.domain order by l.prio, l.share, l.ready_at) as nth from lined l),
    chosen as materialized (
        select p.tenant, p.domain, p.id, p.ready_at as ready_since from placed p join room o using (domain)
        where p.nth <= o.free order by o.held + p.nth, p.prio, p.ready_at limit %(limit)s)
    update regie.run r set owner = %(worker)s, fence = r.fence + 1, ready_at = null, set_aside = null, again_at = null,
        -- From here on it is written by this worker.
        format = greatest(r.format, %(reads)s)
    -- By its id alone, for which there is an index that needs no statistics to be chosen.
    from chosen c where r.id = c.id and (r.tenant, r.domain) is not distinct from (c.tenant, c.domain)
    returning r.*, c.ready_since,
              extract(epoch from clock_timestamp() - c.ready_since)::float8 as waited_s,
              extract(epoch from clock_timestamp() - r.started_at)::float8 as age_s"""


class Looked(NamedTuple):
    """What a look for work found.

    Attributes:
        rows: The runs handed to the worker, with `ready_since`.
        is_left_behind: Runs of these domains are ready and nobody has them.
        due_s: Seconds until the next timer of these domains is due, 0 when one is; None without any.
    """

    rows: list[DictRow]
    is_left_behind: bool
    due_s: float | None


_OUTLOOK: LiteralString = """
    select exists (select from regie.run
                   where domain = any(%(domains)s) and owner is null and ready_at is not null) as is_left_behind,
           (select extract(epoch from min(next.due_at) - clock_timestamp())::float8
            from unnest(%(domains)s::text[]) as d (domain)
            cross join lateral (
                select t.due_at from regie.timer t where t.domain = d.domain order by t.due_at limit 1) next
           ) as due_s"""


async def choose(
    tx: Transaction,
    worker: str,
    domains: Sequence[str],
    limit: int,
    *,
    held: Mapping[str, int] = NONE,
    most: Mapping[str, int] = NONE,
    reads: int = FORMAT,
) -> Looked:
    """Hand up to `limit` ready runs to a worker: a transaction of its own, in one round trip.

    Within a domain the most urgent go first (`prio`), among those the tenant that has least in hands, then the oldest.
    Among domains the one goes first of which the worker has least.

    Args:
        held: How many runs of each domain the worker has already.
        most: How many of each domain it may have; no bound for one that is not named.
        reads: Up to which format the worker reads runs.

    Raises:
        OutcomeUnknown: Some may have been handed to it and nobody knows which; `claims.strays` finds them.
    """
    # Always in the same order, or two workers could wait for each other.
    ordered = sorted(domains)
    chosen: Sent | None = None
    async with tx.together(is_last=True):
        if limit > 0:
            await tx.send(_TAKE_TURNS, {"within": TURN_WITHIN, "turns": TURNS, "domains": ordered})
            chosen = await tx.send(
                _CHOOSE,
                {
                    "worker": worker,
                    "domains": ordered,
                    "held": [held.get(domain, 0) for domain in ordered],
                    "most": [most.get(domain) for domain in ordered],
                    "limit": limit,
                    "reads": reads,
                },
            )
        outlook = await tx.send(_OUTLOOK, {"domains": ordered})
    [seen] = await outlook.rows()
    due_s = None if seen["due_s"] is None else max(0.0, seen["due_s"])
    return Looked([] if chosen is None else await chosen.rows(), seen["is_left_behind"], due_s)
