"""How a domain does: what stands where now, and how what ended lately went. Pages, API and metrics ask.

Dry runs are left out everywhere: they are plans. Runs are found by the indexes of migration 0009, so that the time
taken grows with what ended within the window and with what is unfinished, not with all that has ever run.
"""
# ruff: noqa: S608  statements are put together from the constants of this module, as LiteralString proves

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final, LiteralString, NamedTuple

from psycopg.rows import DictRow

from regie.store.database import Transaction
from regie.store.sight import ASKED_FOR, EVERYTHING, SEEN_PLACE, Sight

SAMPLE: Final = 500
"""So many of the runs that ended last, of each tenant in each domain, are looked at for the times of their steps."""
AT_RISK: Final = 0.75
"""Part of the promised time after which an unfinished run is at risk of being late."""

_SEEN: LiteralString = (
    """
    not r.dry and (%(tenant)s::text is null or r.tenant = %(tenant)s)
    and ("""
    + SEEN_PLACE
    + " or "
    + ASKED_FOR
    + """
         or (r.tenant, r.domain, r.id) in (
             select a.tenant, a.domain, a.run from regie.approval a
             where %(person)s::text is not null
               and exists (select from unnest(a.approvers) p where lower(p) = lower(%(person)s::text))))"""
)
_LATELY: LiteralString = "r.ended_at >= now() - make_interval(secs => %(window_s)s::float8) and " + _SEEN
_PROMISED: LiteralString = """
    left join unnest(%(releases)s::text[], %(workflows)s::text[], %(finish_s)s::float8[])
        as p (release, workflow, finish_s)
    on (p.release, p.workflow) = (r.release, r.workflow)"""


class Promise(NamedTuple):
    """The time within which runs of a workflow, as a release has it, are to end."""

    release: str
    workflow: str
    finish_s: float


@dataclass(frozen=True, kw_only=True)
class Asked:
    """About which runs.

    Attributes:
        window_s: How far back.
        tenant: Of this one only.
        sight: Those that somebody sees.
    """

    window_s: float
    tenant: str | None = None
    sight: Sight = EVERYTHING

    def values(self, promises: Sequence[Promise] = ()) -> dict[str, object]:
        """For a statement."""
        return {
            "window_s": self.window_s,
            "tenant": self.tenant,
            **self.sight.values(),
            "releases": [promise.release for promise in promises],
            "workflows": [promise.workflow for promise in promises],
            "finish_s": [promise.finish_s for promise in promises],
        }


class Spread(NamedTuple):
    """Half of all took at most `p50_s` seconds, 95 of 100 at most `p95_s`."""

    p50_s: float
    p95_s: float


@dataclass(frozen=True, kw_only=True)
class Ended:
    """The runs of a domain that ended within the window.

    Attributes:
        by_outcome: How many, by status; a status without runs is left out.
        took: From start to end.
        on_time, late: Of those with a promised time.
    """

    domain: str
    by_outcome: Mapping[str, int]
    took: Spread
    on_time: int
    late: int


@dataclass(frozen=True, kw_only=True)
class Standing:
    """The unfinished runs of a tenant in a domain.

    Attributes:
        queued: Ready, and no worker has them.
        waiting: For people, time or events.
        oldest_wait_s: Of what is queued: how long the oldest has been ready.
        on_time, at_risk, late: Of those with a promised time.
    """

    tenant: str
    domain: str
    queued: int = 0
    running: int = 0
    waiting: int = 0
    oldest_wait_s: float = 0.0
    on_time: int = 0
    at_risk: int = 0
    late: int = 0


@dataclass(frozen=True, kw_only=True)
class StepTimes:
    """The attempts of steps in the runs of a domain that ended last: how many, waiting for a worker, work on them."""

    domain: str
    attempts: int
    queued: Spread
    ran: Spread


class Part(NamedTuple):
    """What ended in one part of the window; the first part is the oldest."""

    number: int
    ended: int
    failed: int


async def in_use(tx: Transaction, asked: Asked) -> list[tuple[str, str]]:
    """Releases and workflows of the runs asked about, to look their promises up."""
    rows = await tx.rows(
        "select distinct release, workflow from regie.run r where " + _LATELY + " union "
        "select distinct release, workflow from regie.run r where r.ended_at is null and " + _SEEN,
        asked.values(),
    )
    return [(row["release"], row["workflow"]) for row in rows]


async def ended(tx: Transaction, asked: Asked, promises: Sequence[Promise]) -> list[Ended]:
    """What ended within the window, by domain."""
    query: LiteralString = (
        """
        select r.domain, percentile_cont(array[0.5, 0.95]) within group (
                   order by extract(epoch from r.ended_at - r.started_at)::float8) as took,
               count(*) filter (where r.ended_at <= r.started_at + make_interval(secs => p.finish_s)) as on_time,
               count(*) filter (where r.ended_at > r.started_at + make_interval(secs => p.finish_s)) as late,
               count(*) filter (where r.status = 'done') as done,
               count(*) filter (where r.status = 'refused') as refused,
               count(*) filter (where r.status = 'failed') as failed,
               count(*) filter (where r.status = 'cancelled') as cancelled
        from regie.run r"""
        + _PROMISED
        + " where "
        + _LATELY
        + " group by r.domain order by r.domain"
    )
    return [
        Ended(
            domain=row["domain"],
            by_outcome={
                outcome: row[outcome] for outcome in ("done", "refused", "failed", "cancelled") if row[outcome]
            },
            took=Spread(*row["took"]),
            on_time=row["on_time"],
            late=row["late"],
        )
        for row in await tx.rows(query, asked.values(promises))
    ]


async def standing(tx: Transaction, asked: Asked, promises: Sequence[Promise]) -> list[Standing]:
    """What is unfinished, by tenant and domain."""
    query: LiteralString = (
        """
        select r.tenant, r.domain,
               count(*) filter (where owner is null and ready_at is not null) as queued,
               count(*) filter (where owner is not null) as running,
               count(*) filter (where owner is null and ready_at is null) as waiting,
               greatest(0, coalesce(max(extract(epoch from now() - ready_at)) filter (where owner is null), 0))::float8
                   as oldest_wait_s,
               count(*) filter (where age_s <= p.finish_s * %(at_risk)s::float8) as on_time,
               count(*) filter (where age_s > p.finish_s * %(at_risk)s::float8 and age_s <= p.finish_s) as at_risk,
               count(*) filter (where age_s > p.finish_s) as late
        from regie.run r
        cross join lateral (select extract(epoch from now() - r.started_at)::float8 as age_s) as age"""
        + _PROMISED
        + " where r.ended_at is null and "
        + _SEEN
        + " group by r.tenant, r.domain order by r.tenant, r.domain"
    )
    return [Standing(**row) for row in await tx.rows(query, {**asked.values(promises), "at_risk": AT_RISK})]


async def step_times(tx: Transaction, asked: Asked) -> list[StepTimes]:
    """How long attempts of steps queued and ran, by domain, from a sample of what ended within the window."""
    query: LiteralString = (
        """
        with place as (select distinct r.tenant, r.domain from regie.run r where """
        + _LATELY
        + """)
        select s.domain, count(*) as attempts,
               percentile_cont(array[0.5, 0.95]) within group (
                   order by extract(epoch from s.started_at - s.queued_at)::float8) as queued,
               percentile_cont(array[0.5, 0.95]) within group (
                   order by extract(epoch from s.ended_at - s.started_at)::float8) as ran
        from place
        cross join lateral (
            select r.id from regie.run r
            where (r.tenant, r.domain) = (place.tenant, place.domain) and """
        + _LATELY
        + """ order by r.ended_at desc limit %(sample)s) as chosen
        join regie.step s on (s.tenant, s.domain, s.run) = (place.tenant, place.domain, chosen.id)
        where s.queued_at is not null and s.started_at is not null and s.ended_at is not null
        group by s.domain order by s.domain"""
    )
    return [
        StepTimes(
            domain=row["domain"], attempts=row["attempts"], queued=Spread(*row["queued"]), ran=Spread(*row["ran"])
        )
        for row in await tx.rows(query, {**asked.values(), "sample": SAMPLE})
    ]


async def by_time(tx: Transaction, asked: Asked, parts: int) -> dict[str, list[Part]]:
    """How many runs of each domain ended in each part of the window; a part without any is left out."""
    query: LiteralString = (
        """
        select r.domain, count(*) as ended, count(*) filter (where r.status = 'failed') as failed,
               least(%(parts)s - 1, floor(%(parts)s * (1 - extract(epoch from now() - r.ended_at)::float8
                   / %(window_s)s::float8)))::int as number
        from regie.run r where """
        + _LATELY
        + " group by r.domain, number order by r.domain, number"
    )
    found: dict[str, list[Part]] = {}
    for row in await tx.rows(query, {**asked.values(), "parts": parts}):
        found.setdefault(row["domain"], []).append(_part(row))
    return found


async def moment(tx: Transaction) -> datetime:
    """The moment that everything else in this transaction is about."""
    [row] = await tx.rows("select now() as at")
    at: datetime = row["at"]
    return at


def _part(row: DictRow) -> Part:
    return Part(row["number"], row["ended"], row["failed"])
