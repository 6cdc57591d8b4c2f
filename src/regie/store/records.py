"""Records: what domains keep about things from run to run. The gateway puts them for steps; pages show them.

Keys are stored as digests, and sealed with the value: a key may name a person.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final, NamedTuple

from psycopg.rows import DictRow

from regie.core import canonical
from regie.core.capabilities.record import KeptRecord, NewRecord
from regie.store.database import Transaction

SEED: Final = 7_238_415_008
"""Part of the key of the lock that a shelf has."""


class Shelf(NamedTuple):
    """Where records stand: those of one kind of a tenant's domain."""

    tenant: str
    domain: str
    kind: str


@dataclass(frozen=True)
class Shown:
    """A record as a page shows it."""

    tenant: str
    id: str
    record: KeptRecord


async def put(tx: Transaction, shelf: Shelf, records: Sequence[NewRecord], *, by: str) -> list[KeptRecord | None]:
    """Keep records, each in place of what is there under its key; gives what was there before this step.

    Args:
        by: Names the step: when it puts a second time, what it put the first time does not count as former.
    """
    # Before looking: where there is no row yet nothing could be locked, and two steps would both be the first.
    lock = {"shelf": "/".join(shelf), "seed": SEED}
    await tx.row("select pg_advisory_xact_lock(hashtextextended(%(shelf)s, %(seed)s))", lock)
    found = {row["key"]: row for row in await _rows(tx, shelf, [each.key for each in records])}
    formers: list[KeptRecord | None] = []
    for each in records:
        row = found.get(_digest(each.key))
        kept = None if row is None else (row["former"] if row["put_by"] == by else _packed(tx, shelf, row))
        formers.append(None if kept is None else _unpacked(tx, shelf, each.key, kept))
        await tx.change(
            """insert into regie.record (tenant, domain, kind, key, state, due_at, value, former, put_by)
               values (%(tenant)s, %(domain)s, %(kind)s, %(key)s, %(state)s, %(due_at)s, %(value)s, %(former)s, %(by)s)
               on conflict (tenant, domain, kind, key) do update set state = excluded.state, due_at = excluded.due_at,
                   value = excluded.value, former = excluded.former, put_by = excluded.put_by,
                   put_at = clock_timestamp()""",
            {
                **shelf._asdict(),
                "key": _digest(each.key),
                "state": each.state,
                "due_at": each.due_at,
                "value": _seal(tx, shelf, each.key, each.model_dump_json()),
                "former": kept,
                "by": by,
            },
        )
    return formers


async def find(tx: Transaction, shelf: Shelf, keys: Sequence[str]) -> list[KeptRecord]:
    """The records under these keys, in the order of the keys."""
    found = {row["key"]: row for row in await _rows(tx, shelf, keys)}
    digests = dict.fromkeys(map(_digest, keys))
    return [_kept(tx, shelf, found[digest]) for digest in digests if digest in found]


async def list_records(
    tx: Transaction, shelf: Shelf, *, state: str, after: str, most: int
) -> tuple[list[KeptRecord], str]:
    """A page, in an order of its own, and where the next one begins: empty after the last one."""
    rows = await tx.rows(
        """select * from regie.record
           where tenant = %(tenant)s and domain = %(domain)s and kind = %(kind)s and key > %(after)s
             and (%(state)s = '' or state = %(state)s)
           order by key limit %(most)s""",
        {**shelf._asdict(), "state": state, "after": after, "most": most + 1},
    )
    kept = [_kept(tx, shelf, row) for row in rows[:most]]
    return kept, str(rows[most - 1]["key"]) if len(rows) > most else ""


async def remove(tx: Transaction, shelf: Shelf, keys: Sequence[str]) -> int:
    """Forget what is under these keys."""
    return await tx.change(
        """delete from regie.record
           where tenant = %(tenant)s and domain = %(domain)s and kind = %(kind)s and key = any(%(keys)s)""",
        {**shelf._asdict(), "keys": [_digest(key) for key in keys]},
    )


async def count(tx: Transaction, domain: str, kind: str, tenants: Sequence[str]) -> dict[str, int]:
    """How many records of a kind these tenants have in each state."""
    rows = await tx.rows(
        """select state, count(*) as number from regie.record
           where domain = %(domain)s and kind = %(kind)s and tenant = any(%(tenants)s) group by state""",
        {"domain": domain, "kind": kind, "tenants": list(tenants)},
    )
    return {str(row["state"]): int(row["number"]) for row in rows}


async def due_by_part(
    tx: Transaction, domain: str, kind: str, tenants: Sequence[str], edges: Sequence[datetime]
) -> dict[tuple[int, str], int]:
    """How many are due in each part of time, by part and state.

    Args:
        edges: Where parts meet, rising. Part 0 is what comes before the first, the last one what comes after the last.
    """
    rows = await tx.rows(
        """select width_bucket(due_at, %(edges)s::timestamptz[]) as part, state, count(*) as number from regie.record
           where domain = %(domain)s and kind = %(kind)s and tenant = any(%(tenants)s) and due_at is not null
           group by part, state""",
        {"domain": domain, "kind": kind, "tenants": list(tenants), "edges": list(edges)},
    )
    return {(int(row["part"]), str(row["state"])): int(row["number"]) for row in rows}


async def show(
    tx: Transaction,
    domain: str,
    kind: str,
    tenants: Sequence[str],
    *,
    state: str = "",
    since: datetime | None = None,
    until: datetime | None = None,
    after: tuple[datetime | None, str, str] | None = None,
    most: int,
) -> list[Shown]:
    """Records of a kind, what is due first and what has no such time last.

    Args:
        since, until: Due from then on, and before then.
        after: Due time, tenant and id of the last one of the page before.
    """
    rows = await tx.rows(
        """select * from regie.record
           where domain = %(domain)s and kind = %(kind)s and tenant = any(%(tenants)s)
             and (%(state)s = '' or state = %(state)s)
             and (%(since)s::timestamptz is null or due_at >= %(since)s)
             and (%(until)s::timestamptz is null or due_at < %(until)s)
             and (not %(goes_on)s or (coalesce(due_at, 'infinity'), tenant, key)
                  > (coalesce(%(due)s::timestamptz, 'infinity'), %(tenant)s, %(key)s))
           order by coalesce(due_at, 'infinity'), tenant, key limit %(most)s""",
        {
            "domain": domain,
            "kind": kind,
            "tenants": list(tenants),
            "state": state,
            "since": since,
            "until": until,
            "goes_on": after is not None,
            "due": after[0] if after else None,
            "tenant": after[1] if after else "",
            "key": after[2] if after else "",
            "most": most,
        },
    )
    return [Shown(row["tenant"], row["key"], _kept(tx, Shelf(row["tenant"], domain, kind), row)) for row in rows]


async def _rows(tx: Transaction, shelf: Shelf, keys: Iterable[str]) -> list[DictRow]:
    return await tx.rows(
        """select * from regie.record
           where tenant = %(tenant)s and domain = %(domain)s and kind = %(kind)s and key = any(%(keys)s)""",
        {**shelf._asdict(), "keys": [_digest(key) for key in keys]},
    )


def _kept(tx: Transaction, shelf: Shelf, row: DictRow) -> KeptRecord:
    new = NewRecord.model_validate_json(_open(tx, shelf, row["key"], row["value"]))
    return KeptRecord(**new.model_dump(), first_at=row["first_at"], put_at=row["put_at"])


def _packed(tx: Transaction, shelf: Shelf, row: DictRow) -> bytes:
    kept = _kept(tx, shelf, row)
    return _seal(tx, shelf, kept.key, kept.model_dump_json())


def _unpacked(tx: Transaction, shelf: Shelf, key: str, sealed: bytes) -> KeptRecord:
    return KeptRecord.model_validate_json(_open(tx, shelf, _digest(key), sealed))


def _seal(tx: Transaction, shelf: Shelf, key: str, text: str) -> bytes:
    return tx.sealer.seal(text.encode(), **_address(shelf, _digest(key)))


def _open(tx: Transaction, shelf: Shelf, digest: str, sealed: bytes) -> bytes:
    return tx.sealer.open(sealed, **_address(shelf, digest))


def _address(shelf: Shelf, digest: str) -> dict[str, str]:
    return {"tenant": shelf.tenant, "domain": shelf.domain, "table": "record", "pk": f"{shelf.kind}/{digest}"}


def _digest(key: str) -> str:
    return canonical.digest(["record", key])
