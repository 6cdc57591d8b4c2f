"""The logs as they are read: which there are, their leaves, tiles, checkpoints. Notary and `regie audit` use it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from psycopg import AsyncConnection

from regie.core import merkle
from regie.core.errors import InvalidInput
from regie.core.merkle import WIDTH, Edge, Span, TilePlace
from regie.core.signed_note import SignedNote
from regie.store.database import Transaction

Connection = AsyncConnection[dict[str, Any]]
ANCHOR = ("", "anchor")
"""How the anchor log stands among the others: it belongs to no tenant."""
HASH_BYTES = 32
LAST_COSIGNED = 20
"""Checkpoints among which the best witnessed one is chosen: about as many minutes."""


@dataclass(frozen=True)
class Log:
    """One log. `origin` is its name in checkpoints and proofs; `size` how many leaves it had at its newest one."""

    log_id: int
    tenant: str
    domain: str
    origin: str
    size: int


@dataclass(frozen=True)
class Signed:
    """A checkpoint as stored; `raw` should be a signed note, `anchor_idx` is none for the anchor log's own."""

    size: int
    root: bytes
    raw: str
    anchor_idx: int | None
    at: datetime

    @property
    def body(self) -> str:
        """The text that was signed, whether what is stored is a note or not."""
        return self.raw.partition("\n\n")[0] + "\n"

    @property
    def note(self) -> SignedNote:
        """The signed note.

        Raises:
            InvalidInput: What is stored is none.
        """
        return SignedNote.parse(self.raw)


async def list_logs(tx: Transaction) -> list[Log]:
    """Every log that there is, the anchor among them."""
    rows = await tx.rows(
        """select l.log_id, l.tenant, l.domain, l.origin,
                  coalesce((select max(size) from audit.checkpoint c where c.log_id = l.log_id), 0) as size
           from audit.log l order by l.tenant, l.domain"""
    )
    return [Log(**row) for row in rows]


async def find(tx: Transaction, tenant: str, domain: str) -> Log:
    """One log.

    Raises:
        InvalidInput: Nothing has been written about that tenant and domain.
    """
    for log in await list_logs(tx):
        if (log.tenant, log.domain) == (tenant, domain):
            return log
    raise InvalidInput(f"There is no log of tenant {tenant!r} and domain {domain!r}.", hint="See: regie audit logs")


async def checkpoints(tx: Transaction, log: Log, after: int = 0, limit: int = 1000) -> list[Signed]:
    """Checkpoints of a log above a size, smallest first."""
    rows = await tx.rows(
        """select size, root, note, anchor_idx, at from audit.checkpoint
           where log_id = %(log)s and size > %(after)s order by size limit %(limit)s""",
        {"log": log.log_id, "after": after, "limit": limit},
    )
    return [_signed(row) for row in rows]


async def newest(tx: Transaction, log: Log, *, anchored_below: int | None = None) -> Signed | None:
    """The newest checkpoint of a log, or the newest that the anchor log holds among its first leaves."""
    row = await tx.row(
        """select size, root, note, anchor_idx, at from audit.checkpoint
           where log_id = %(log)s and (%(below)s::bigint is null or anchor_idx < %(below)s)
           order by size desc limit 1""",
        {"log": log.log_id, "below": anchored_below},
    )
    return None if row is None else _signed(row)


async def at_size(tx: Transaction, log: Log, size: int) -> Signed | None:
    """The checkpoint of a log at one size."""
    row = await tx.row(
        "select size, root, note, anchor_idx, at from audit.checkpoint where log_id = %(log)s and size = %(size)s",
        {"log": log.log_id, "size": size},
    )
    return None if row is None else _signed(row)


async def cosignatures(tx: Transaction, anchor_size: int) -> dict[str, str]:
    """The lines that witnesses have put under a checkpoint of the anchor log, by witness."""
    rows = await tx.rows(
        "select witness, line from audit.cosignature where anchor_size = %(size)s", {"size": anchor_size}
    )
    return {row["witness"]: row["line"] for row in rows}


async def newest_cosigned(tx: Transaction) -> int:
    """The size of the checkpoint of the anchor log, among the last that witnesses have signed, with the most of them.

    Witnesses come and go, and now and then one is late. 0 when none has signed any.
    """
    row = await tx.row(
        """select anchor_size from (
               select anchor_size, count(*) as n from audit.cosignature
               group by anchor_size order by anchor_size desc limit %(last)s) c
           order by n desc, anchor_size desc limit 1""",
        {"last": LAST_COSIGNED},
    )
    return 0 if row is None else int(row["anchor_size"])


async def signing_keys(tx: Transaction) -> list[tuple[bytes, int]]:
    """The notary's public keys, oldest first, and from which size of the anchor log each one signs."""
    rows = await tx.rows("select public, from_size from audit.signing_key order by from_size")
    return [(bytes(row["public"]), row["from_size"]) for row in rows]


async def span_of(tx: Transaction, log: Log, since: datetime | None, until: datetime | None) -> Span:
    """The leaves of a log that were written in a time, and whatever lies between them."""
    row = await tx.row(
        """select min(idx) as first, max(idx) as last from audit.leaf where log_id = %(log)s and idx < %(size)s
           and (%(since)s::timestamptz is null or at >= %(since)s)
           and (%(until)s::timestamptz is null or at < %(until)s)""",
        {"log": log.log_id, "size": log.size, "since": since, "until": until},
    )
    return Span(0, 0) if row is None or row["first"] is None else Span(row["first"], row["last"] + 1)


async def leaves(tx: Transaction, log: Log, span: Span) -> list[tuple[int, bytes]]:
    """Leaves of a log with their places, as stored: one that is missing is not among them."""
    rows = await tx.rows(
        """select idx, leaf from audit.leaf where log_id = %(log)s and idx >= %(first)s and idx < %(end)s
           order by idx""",
        {"log": log.log_id, **span._asdict()},
    )
    return [(row["idx"], bytes(row["leaf"])) for row in rows]


async def waiting(tx: Transaction) -> tuple[int, float]:
    """How many leaves the notary has not taken in, and for how many seconds the oldest has waited."""
    row = await tx.row(
        """select count(*) as n, coalesce(extract(epoch from clock_timestamp() - min(at)), 0)::float8 as oldest_s
           from audit.intake"""
    )
    return (0, 0.0) if row is None else (row["n"], max(0.0, row["oldest_s"]))


async def tiles_of_tree(connection: Connection, log_id: int, size: int, places: Sequence[TilePlace]) -> list[bytes]:
    """Tiles of a tree of some size, each as its hashes in a row, unfinished ones as far as they go."""
    found = []
    for place in places:
        width = merkle.tile_width(place, size)
        if width == WIDTH:
            found.append(b"".join(await _tiles(connection, log_id, place.level, place.n, 1)))
        elif place.level == 0:
            found.append(b"".join(await _leaf_hashes(connection, log_id, place.n * WIDTH, width)))
        else:
            below = await _tiles(connection, log_id, place.level - 1, place.n * WIDTH, width)
            found.append(b"".join(merkle.root_of(hashes_in(tile)) for tile in below))
    return found


async def edge_of(connection: Connection, log_id: int, size: int) -> Edge:
    """What a tree needs to grow on, from its tiles and its last leaves."""
    tiles = await tiles_of_tree(connection, log_id, size, merkle.unfinished(size))
    return Edge(size, [hashes_in(tile) for tile in tiles])


async def proof(connection: Connection, log_id: int, size: int, spans: Sequence[Span]) -> list[bytes]:
    """The hashes of parts of a tree of some size."""
    places = sorted({place for span in spans for place in merkle.tiles_of(span)})
    tiles = await tiles_of_tree(connection, log_id, size, places)
    found = {place: hashes_in(tile) for place, tile in zip(places, tiles, strict=True)}
    return [merkle.span_hash(span, found.__getitem__) for span in spans]


def hashes_in(tile: bytes) -> list[bytes]:
    """A tile's hashes."""
    return [tile[at : at + HASH_BYTES] for at in range(0, len(tile), HASH_BYTES)]


async def _tiles(connection: Connection, log_id: int, level: int, first: int, count: int) -> list[bytes]:
    cursor = await connection.execute(
        "select data from audit.tile where log_id = %s and level = %s and n >= %s and n < %s order by n",
        [log_id, level, first, first + count],
    )
    return [bytes(row["data"]) for row in await cursor.fetchall()]


async def _leaf_hashes(connection: Connection, log_id: int, first: int, count: int) -> list[bytes]:
    cursor = await connection.execute(
        "select leaf_hash from audit.leaf where log_id = %s and idx >= %s and idx < %s order by idx",
        [log_id, first, first + count],
    )
    return [bytes(row["leaf_hash"]) for row in await cursor.fetchall()]


def _signed(row: dict[str, Any]) -> Signed:
    return Signed(row["size"], bytes(row["root"]), row["note"], row["anchor_idx"], row["at"])
