"""What parties outside say about checkpoints of the anchor log, and how it stands with them.

The notary writes it; the export, `regie doctor` and auditors read it.
"""

from __future__ import annotations

import math
from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from regie.store.database import Transaction
from regie.store.logs import Connection, Log


class Kind(StrEnum):
    """How a party attests."""

    WITNESS = "witness"
    TIMESTAMP = "timestamp"
    DEPOSIT = "deposit"


@dataclass(frozen=True)
class Party:
    """Somebody outside: a witness's name, an authority's host, a bucket."""

    kind: Kind
    name: str


@dataclass(frozen=True)
class Standing:
    """How it stands with a party.

    Attributes:
        anchor_size: Of the last checkpoint that it has attested; 0 before the first.
        done_ago_s: How many seconds ago that was; endless before the first.
        failures: Attempts in a row that have failed since.
    """

    anchor_size: int = 0
    done_ago_s: float = math.inf
    failures: int = 0


@dataclass(frozen=True)
class Failing:
    """A party that does not answer as it should; `is_broken` when it holds another history than ours."""

    party: Party
    since: datetime
    failures: int
    is_broken: bool
    reason: str
    done_at: datetime | None


@dataclass(frozen=True)
class Attestation:
    """What a party has said about the anchor log's checkpoint of some size."""

    party: Party
    anchor_size: int
    proof: bytes
    at: datetime


class Attesters:
    """The notary's side, inside one of its turns."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    async def standing(self, party: Party) -> Standing:
        """How it stands with one."""
        cursor = await self._connection.execute(
            """select anchor_size, failures,
                      greatest(0, coalesce(extract(epoch from clock_timestamp() - done_at), 'Infinity'))::float8
                          as ago_s
               from audit.attester where kind = %s and party = %s""",
            [party.kind, party.name],
        )
        row = await cursor.fetchone()
        return Standing() if row is None else Standing(row["anchor_size"], row["ago_s"], row["failures"])

    async def attested(self, party: Party, anchor_size: int, proof: bytes | None = None) -> None:
        """Keep what a party has said; a witness's line is kept elsewhere."""
        if proof is not None:
            await self._connection.execute(
                """insert into audit.attestation (kind, party, anchor_size, proof) values (%s, %s, %s, %s)
                   on conflict do nothing""",
                [party.kind, party.name, anchor_size, proof],
            )
        await self._connection.execute(
            """insert into audit.attester (kind, party, anchor_size, done_at) values (%s, %s, %s, clock_timestamp())
               on conflict (kind, party) do update set anchor_size = excluded.anchor_size, done_at = excluded.done_at,
                   failures = 0, failing_since = null, is_broken = false, reason = ''""",
            [party.kind, party.name, anchor_size],
        )

    async def failed(self, party: Party, reason: str, *, is_broken: bool = False) -> int:
        """Note that one has failed; how often in a row that makes."""
        cursor = await self._connection.execute(
            """insert into audit.attester as a (kind, party, failures, failing_since, is_broken, reason)
               values (%s, %s, 1, clock_timestamp(), %s, %s)
               on conflict (kind, party) do update set failures = a.failures + 1,
                   failing_since = coalesce(a.failing_since, excluded.failing_since),
                   is_broken = excluded.is_broken, reason = excluded.reason
               returning failures""",
            [party.kind, party.name, is_broken, reason],
        )
        row = await cursor.fetchone()
        return 1 if row is None else int(row["failures"])

    async def keep_only(self, parties: Collection[Party]) -> None:
        """Forget how it stood with whoever is not asked any more; what they have said stays."""
        await self._connection.execute(
            """delete from audit.attester where (kind, party) not in
                   (select * from unnest(%s::text[], %s::text[]))""",
            [[party.kind for party in parties], [party.name for party in parties]],
        )


async def failing(tx: Transaction) -> list[Failing]:
    """The parties that fail now."""
    rows = await tx.rows(
        """select kind, party, failing_since, failures, is_broken, reason, done_at from audit.attester
           where failing_since is not null order by kind, party"""
    )
    return [
        Failing(
            Party(Kind(row["kind"]), row["party"]),
            row["failing_since"],
            row["failures"],
            row["is_broken"],
            row["reason"],
            row["done_at"],
        )
        for row in rows
    ]


async def asked(tx: Transaction) -> list[Party]:
    """The parties that are asked now."""
    rows = await tx.rows("select kind, party from audit.attester order by kind, party")
    return [Party(Kind(row["kind"]), row["party"]) for row in rows]


async def covering(tx: Transaction, log: Log) -> list[Attestation]:
    """What was said about checkpoints of the anchor log that hold one of this log, oldest first.

    Of those that hold the same checkpoint of it the first of each party, since the oldest says most; of each day the
    last, since a bundle of years must not have one for every five minutes.
    """
    rows = await tx.rows(
        """with held as (
               select a.*, (select max(c.size) from audit.checkpoint c
                            where c.log_id = %(log)s and c.anchor_idx < a.anchor_size) as size
               from audit.attestation a),
           first as (
               select distinct on (kind, party, size) * from held where size is not null
               order by kind, party, size, anchor_size),
           daily as (
               select distinct on (kind, party, (at at time zone 'UTC')::date) * from first
               order by kind, party, (at at time zone 'UTC')::date, anchor_size desc)
           select kind, party, anchor_size, proof, at from daily order by anchor_size, kind desc, party""",
        {"log": log.log_id},
    )
    return [
        Attestation(Party(Kind(row["kind"]), row["party"]), row["anchor_size"], bytes(row["proof"]), row["at"])
        for row in rows
    ]
