"""Polls: where each stands for each tenant. A worker holds the row under a fence while it asks.

What a worker has started for an item stays started; the cursor moves only when all items of an answer have. A worker
that is cut off in between leaves the cursor where it was, and the next one finds the same items started.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import NamedTuple

from psycopg.rows import DictRow

from regie.core.errors import Failure, FencedOut
from regie.store.database import Transaction
from regie.store.schedules import StartKey, columns_of, key_of
from regie.store.sealer import SealBroken


class Claim(NamedTuple):
    """A worker's handle on a poll."""

    key: StartKey
    fence: int


@dataclass(frozen=True)
class Claimed:
    """A poll as handed to a worker.

    Attributes:
        cursor: Where the last one ended; empty at first, and where the block gives none. None when what is stored
            cannot be opened any more.
        failures: How many tries in a row have failed before this one.
    """

    claim: Claim
    cursor: str | None
    failures: int


@dataclass(frozen=True)
class PollRow:
    """A poll as it stands.

    Attributes:
        polled_at: When an answer came last.
        failures: How many tries in a row have failed.
        failure: Why the last of them did.
    """

    key: StartKey
    next_at: datetime
    polled_at: datetime | None
    failures: int
    failing_since: datetime | None
    failure: Failure | None


async def keep(tx: Transaction, domains: Sequence[str], known: Sequence[str], keys: Sequence[StartKey]) -> None:
    """Have exactly these polls in some domains. One that is there already keeps its cursor.

    Args:
        known: All domains there are; what belongs to none of them goes.
    """
    columns = {**columns_of(keys), "domains": list(domains), "known": list(known)}
    await tx.change(
        """delete from regie.poll s
           where (s.domain = any(%(domains)s) or s.domain <> all(%(known)s)) and not exists (
               select from unnest(%(tenants)s::text[], %(its)s::text[], %(workflows)s::text[], %(starts)s::text[])
                   as p (tenant, domain, workflow, start)
               where (p.tenant, p.domain, p.workflow, p.start) = (s.tenant, s.domain, s.workflow, s.start))""",
        columns,
    )
    await tx.change(
        """insert into regie.poll (tenant, domain, workflow, start)
           select * from unnest(%(tenants)s::text[], %(its)s::text[], %(workflows)s::text[], %(starts)s::text[])
           on conflict do nothing""",
        columns,
    )


async def claim(tx: Transaction, domains: Sequence[str], *, release: str, hold_s: float, most: int) -> list[Claimed]:
    """Take polls of these domains that are due and that nobody asks for.

    Args:
        release: Digest of the release in which the gateway looks up what they may ask.
        hold_s: Seconds after which a worker that has said nothing counts as gone.
    """
    rows = await tx.rows(
        """with chosen as materialized (
               select tenant, domain, workflow, start from regie.poll
               where domain = any(%(domains)s) and next_at <= (select clock_timestamp())
                 and (held_until is null or held_until <= clock_timestamp())
               order by next_at limit %(most)s for update skip locked)
           update regie.poll p set fence = p.fence + 1, release = %(release)s,
                  held_until = clock_timestamp() + make_interval(secs => %(hold)s)
           from chosen c
           where (p.tenant, p.domain, p.workflow, p.start) = (c.tenant, c.domain, c.workflow, c.start)
           returning p.*""",
        {"domains": list(domains), "release": release, "hold": hold_s, "most": most},
    )
    return [Claimed(Claim(key_of(row), row["fence"]), _cursor(tx, row), row["failures"]) for row in rows]


async def held(tx: Transaction, key: StartKey, fence: int) -> str:
    """Digest of the release under which a worker holds a poll.

    Raises:
        FencedOut: It does not hold it.
    """
    row = await tx.row(
        """select release from regie.poll
           where (tenant, domain, workflow, start) = (%(tenant)s, %(domain)s, %(workflow)s, %(start)s)
             and fence = %(fence)s and held_until > clock_timestamp()""",
        {**key._asdict(), "fence": fence},
    )
    if row is None or row["release"] is None:
        raise _fenced_out(key)
    return str(row["release"])


async def answered(tx: Transaction, claim: Claim, *, cursor: str | None, again_s: float) -> None:
    """An answer has been dealt with: keep the cursor and let go.

    Args:
        cursor: None leaves it as it is.

    Raises:
        FencedOut: Somebody else asks by now.
    """
    sealed = None if cursor is None else tx.sealer.seal(cursor.encode(), **_address(claim.key))
    row = await tx.row(
        """update regie.poll set cursor = coalesce(%(cursor)s, cursor), held_until = null, failures = 0,
                  failing_since = null, failure = null, polled_at = clock_timestamp(),
                  next_at = clock_timestamp() + make_interval(secs => %(again)s)
           where (tenant, domain, workflow, start) = (%(tenant)s, %(domain)s, %(workflow)s, %(start)s)
             and fence = %(fence)s returning fence""",
        {**claim.key._asdict(), "fence": claim.fence, "cursor": sealed, "again": again_s},
    )
    if row is None:
        raise _fenced_out(claim.key)


async def failed(tx: Transaction, claim: Claim, failure: Failure, *, again_s: float) -> None:
    """No answer came, or it could not be dealt with: remember why and let go.

    Raises:
        FencedOut: Somebody else asks by now.
    """
    sealed = tx.sealer.seal(failure.model_dump_json().encode(), **_address(claim.key, "failure"))
    row = await tx.row(
        """update regie.poll set held_until = null, failures = failures + 1, failure = %(failure)s,
                  failing_since = coalesce(failing_since, clock_timestamp()),
                  next_at = clock_timestamp() + make_interval(secs => %(again)s)
           where (tenant, domain, workflow, start) = (%(tenant)s, %(domain)s, %(workflow)s, %(start)s)
             and fence = %(fence)s returning fence""",
        {**claim.key._asdict(), "fence": claim.fence, "failure": sealed, "again": again_s},
    )
    if row is None:
        raise _fenced_out(claim.key)


async def list_polls(tx: Transaction) -> list[PollRow]:
    """All of them, the next one first."""
    rows = await tx.rows("select * from regie.poll order by next_at, tenant, domain, workflow, start")
    return [
        PollRow(
            key=key_of(row),
            next_at=row["next_at"],
            polled_at=row["polled_at"],
            failures=row["failures"],
            failing_since=row["failing_since"],
            failure=_failure(tx, row),
        )
        for row in rows
    ]


def _cursor(tx: Transaction, row: DictRow) -> str | None:
    if row["cursor"] is None:
        return ""
    try:
        return tx.sealer.open(row["cursor"], **_address(key_of(row))).decode()
    except SealBroken:
        return None


def _failure(tx: Transaction, row: DictRow) -> Failure | None:
    if row["failure"] is None:
        return None
    try:
        return Failure.model_validate_json(tx.sealer.open(row["failure"], **_address(key_of(row), "failure")))
    except SealBroken as error:
        return Failure.of(error)


def _address(key: StartKey, column: str = "cursor") -> dict[str, str]:
    place = f"{key.workflow}/{key.start}"
    return {"tenant": key.tenant, "domain": key.domain, "table": f"poll.{column}", "pk": place}


def _fenced_out(key: StartKey) -> FencedOut:
    return FencedOut(f"The poll of {key.workflow} for {key.tenant} is not held by this worker any more.")
