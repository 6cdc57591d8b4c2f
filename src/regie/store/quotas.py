"""Quotas as the current release says them, and how full they are: for starts, for pages and for `regie quotas`.

Loading a release writes them; claims (`choosing.py`) keep to them.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from psycopg.rows import DictRow

from regie.core.errors import Throttled
from regie.core.tenant import Domain, Quota, StartRate
from regie.store import start_rates
from regie.store.database import Transaction
from regie.store.keys import RunKey
from regie.store.start_rates import HeldBack

MOST_COUNTED = 100_000
"""Runs of a queue that are counted for people; of more than that nobody wants the exact number."""
FULL_AGAIN_S = 15.0
"""Seconds after which a start that found the queue full may be tried again."""


@dataclass(frozen=True)
class InLine:
    """Where a run stands that is ready and that no worker has.

    Attributes:
        ahead: How many runs of its domain became ready before it, or are more urgent.
        in_hands: How many of its domain are in hands, of all tenants.
        of_tenant: How many of its own tenant.
    """

    ahead: int
    in_hands: int
    of_tenant: int
    quota: Quota

    def in_words(self) -> str:
        """For people."""
        words = f"queued behind {self.ahead} {'run' if self.ahead == 1 else 'runs'} of its domain"
        if self.quota.runs is not None:
            words += f"; quota {self.in_hands} of {self.quota.runs} in use"
        if self.quota.per_tenant is not None:
            words += f"; of its tenant {self.of_tenant} of {self.quota.per_tenant}"
        return words


@dataclass(frozen=True)
class TenantUse:
    """What one tenant has of a domain: in hands, ready, and ready without having begun."""

    tenant: str
    in_hands: int
    ready: int
    waiting: int


@dataclass(frozen=True)
class DomainUse:
    """How full a domain's quota is.

    Attributes:
        held_back: How many runs begin later, since no more begin for now.
        last_at: When the last of them does.
    """

    domain: str
    quota: Quota
    tenants: list[TenantUse]
    held_back: int = 0
    last_at: datetime | None = None

    @property
    def in_hands(self) -> int:
        """Over all tenants."""
        return sum(each.in_hands for each in self.tenants)

    @property
    def ready(self) -> int:
        """Over all tenants."""
        return sum(each.ready for each in self.tenants)

    @property
    def waiting(self) -> int:
        """Over all tenants."""
        return sum(each.waiting for each in self.tenants)


async def keep(tx: Transaction, domains: Mapping[str, Domain]) -> None:
    """Make the quotas those of a release that becomes current."""
    before = {row["domain"]: _quota(row) for row in await tx.rows("select * from regie.quota for no key update")}
    await tx.change("delete from regie.quota where domain <> all(%(domains)s::text[])", {"domains": list(domains)})
    await tx.change_each(
        """insert into regie.quota (domain, runs, per_tenant, waiting, start_runs, start_per_s)
           values (%(domain)s, %(runs)s, %(per_tenant)s, %(waiting)s, %(start_runs)s, %(start_per_s)s)
           on conflict (domain) do update
           set runs = excluded.runs, per_tenant = excluded.per_tenant, waiting = excluded.waiting,
               start_runs = excluded.start_runs, start_per_s = excluded.start_per_s""",
        [_row(name, domain.quota) for name, domain in sorted(domains.items())],
    )
    for name in sorted({*before, *domains}):
        rate = domains[name].quota.start_rate if name in domains else None
        if name in before and before[name].start_rate != rate:
            await start_rates.replan(tx, name, rate)


def _row(domain: str, quota: Quota) -> dict[str, object]:
    rate = quota.start_rate
    return {
        "domain": domain,
        "runs": quota.runs,
        "per_tenant": quota.per_tenant,
        "waiting": quota.waiting,
        "start_runs": rate and rate.runs,
        "start_per_s": rate and rate.per_s,
    }


def _quota(row: DictRow) -> Quota:
    """What a row says; a domain without one has no bounds."""
    is_rated = row["start_runs"] is not None
    return Quota(
        runs=row["runs"],
        per_tenant=row["per_tenant"],
        waiting=row["waiting"],
        start_rate=StartRate(runs=row["start_runs"], per_s=row["start_per_s"]) if is_rated else None,
    )


async def require_room(tx: Transaction, domain: str) -> None:
    """Make sure that a run just started by this transaction still fits into its domain's queue.

    Simultaneous starts may each find the last place: the bound keeps a flood out, it is no exact number.

    Raises:
        Throttled: It does not; leave the transaction, and the run was never started.
    """
    row = await tx.row(
        """select q.waiting, (select count(*) from (
                      select 1 from regie.run r
                      where r.domain = q.domain and r.owner is null and r.ready_at is not null and r.fence = 0
                      union all
                      select 1 from regie.start_slot s where s.domain = q.domain and s.at > (select clock_timestamp())
                      limit q.waiting + 1) as found) as n
           from regie.quota q where q.domain = %(domain)s and q.waiting is not null""",
        {"domain": domain},
    )
    if row is not None and row["n"] > row["waiting"]:
        raise Throttled(
            f"The domain {domain} has {row['waiting']} runs waiting to begin and takes no more for now.",
            after_s=FULL_AGAIN_S,
            hint="Try again later. `regie quotas` shows the queue; quota.waiting in domain.yaml is its bound.",
        )


async def in_line(tx: Transaction, key: RunKey) -> InLine | HeldBack | None:
    """Where a run stands in its queue, or until when it is held back; none when it waits for neither."""
    if (held_back := await start_rates.held_back(tx, key)) is not None:
        return held_back
    row = await tx.row(
        """select q.runs, q.per_tenant, q.waiting, q.start_runs, q.start_per_s,
                  (select count(*) from (
                      select from regie.run r where r.domain = m.domain and r.owner is null and r.ready_at is not null
                        and (r.prio, r.ready_at) < (m.prio, m.ready_at) limit %(most)s) as found) as ahead,
                  h.in_hands, h.of_tenant
           from regie.run m
           left join regie.quota q on q.domain = m.domain
           cross join lateral (
               select count(*) as in_hands, count(*) filter (where r.tenant = m.tenant) as of_tenant
               from regie.run r where r.domain = m.domain and r.owner is not null) h
           where m.tenant = %(tenant)s and m.domain = %(domain)s and m.id = %(run)s
             and m.owner is null and m.ready_at is not null""",
        {**key._asdict(), "most": MOST_COUNTED},
    )
    if row is None:
        return None
    return InLine(row["ahead"], row["in_hands"], row["of_tenant"], _quota(row))


async def use(tx: Transaction) -> list[DomainUse]:
    """How full every quota is, with each tenant that has something in hands or ready; domains without a quota too."""
    quotas = {row["domain"]: _quota(row) for row in await tx.rows("select * from regie.quota")}
    slots = await tx.rows(
        """select domain, count(*) as n, max(at) as last from regie.start_slot
           where at > clock_timestamp() group by domain"""
    )
    held_back = {row["domain"]: (row["n"], row["last"]) for row in slots}
    rows = await tx.rows(
        """select domain, tenant, count(*) filter (where owner is not null) as in_hands,
                  count(*) filter (where owner is null) as ready,
                  count(*) filter (where owner is null and fence = 0) as waiting
           from regie.run where owner is not null or ready_at is not null
           group by domain, tenant order by domain, tenant"""
    )
    tenants: dict[str, list[TenantUse]] = {}
    for row in rows:
        tenants.setdefault(row["domain"], []).append(
            TenantUse(row["tenant"], row["in_hands"], row["ready"], row["waiting"])
        )
    return [
        DomainUse(domain, quotas.get(domain, Quota()), tenants.get(domain, []), *held_back.get(domain, (0, None)))
        for domain in sorted({*quotas, *tenants})
    ]
