"""The logs of the audit as auditors and witnesses read them: checkpoints, tiles, entries (c2sp.org/tlog-tiles).

Each log has an address; below it lies what the specification names. The list says which log is whose.
"""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Path
from fastapi.responses import PlainTextResponse, Response

from regie.core.errors import NotFound, Terminal
from regie.core.merkle import WIDTH, Span, TilePlace, tile_number, tile_width
from regie.store import logs
from regie.store.database import Transaction
from regie.store.logs import Log
from regie.web.answers import Answer
from regie.web.means import Asking, Having

router = APIRouter()

LONGEST_ENTRY = 0xFFFF
"""Bytes of an entry that a bundle of entries can hold; its length is written in two."""
HIGHEST_LEVEL = 7
"""No tree of ours has more levels of tiles: it would hold 2^64 entries."""
FOR_EVER = {"Cache-Control": "public, max-age=31536000, immutable"}
AS_IT_IS_NOW = {"Cache-Control": "no-cache"}

Number = Annotated[int, Path(ge=0, le=2**31 - 1, description="Of the log, as the list of logs says.")]
Level = Annotated[int, Path(ge=0, le=HIGHEST_LEVEL)]


class LogLine(Answer):
    """One log.

    Attributes:
        address: What lies below it is as c2sp.org/tlog-tiles says.
        tenant, domain: Whose it is; both empty for facts about the deployment. The anchor log holds the others.
        origin: Its name in its checkpoints.
        size: Entries under its newest checkpoint.
    """

    address: str
    tenant: str
    domain: str
    origin: str
    size: int


class Logs(Answer):
    """Every log."""

    items: list[LogLine]


@router.get("/v1/logs")
async def list_logs(means: Having, caller: Asking) -> Logs:
    """Every log of the audit, by tenant and domain."""
    caller.require_operator()
    async with means.database.reading() as tx:
        return Logs(
            items=[
                LogLine(
                    address=f"/v1/logs/{log.log_id}",
                    tenant=log.tenant,
                    domain=log.domain,
                    origin=log.origin,
                    size=log.size,
                )
                for log in await logs.list_logs(tx)
            ]
        )


@router.get("/v1/logs/{number}/checkpoint", response_class=PlainTextResponse)
async def checkpoint(number: Number, means: Having, caller: Asking) -> Response:
    """The newest checkpoint, signed. Keep it: what comes later must continue it."""
    caller.require_operator()
    async with means.database.reading() as tx:
        newest = await logs.newest(tx, await _log(tx, number))
    if newest is None:
        raise NotFound("Nothing of this log has been signed yet.")
    return PlainTextResponse(newest.raw, headers=AS_IT_IS_NOW)


@router.get("/v1/logs/{number}/tile/entries/{path:path}", response_class=Response)
async def entries(number: Number, path: str, means: Having, caller: Asking) -> Response:
    """The entries of a tile of level 0, each behind its length in two bytes."""
    caller.require_operator()
    async with means.database.reading() as tx:
        log = await _log(tx, number)
        place, width = _tile(log, 0, path)
        first = place.n * WIDTH
        found = [leaf for _, leaf in await logs.leaves(tx, log, Span(first, first + width))]
    if len(found) < width or any(len(leaf) > LONGEST_ENTRY for leaf in found):
        raise Terminal("Entries of this tile are missing or too long.", hint="Try: regie audit verify")
    data = b"".join(len(leaf).to_bytes(2, "big") + leaf for leaf in found)
    return Response(data, media_type="application/octet-stream", headers=FOR_EVER)


@router.get("/v1/logs/{number}/tile/{level}/{path:path}", response_class=Response)
async def tile(number: Number, level: Level, path: str, means: Having, caller: Asking) -> Response:
    """The hashes of a tile in a row, 32 bytes each."""
    caller.require_operator()
    async with means.database.reading() as tx:
        log = await _log(tx, number)
        place, width = _tile(log, level, path)
        size = (place.n * WIDTH + width) << 8 * level
        [data] = await logs.tiles_of_tree(tx.connection, log.log_id, size, [place])
    return Response(data, media_type="application/octet-stream", headers=FOR_EVER)


async def _log(tx: Transaction, number: int) -> Log:
    for log in await logs.list_logs(tx):
        if log.log_id == number:
            return log
    raise NotFound(f"There is no log {number}.", hint="GET /v1/logs lists them.")


def _tile(log: Log, level: int, path: str) -> tuple[TilePlace, int]:
    """A tile that lies under the newest checkpoint, at least as far as asked for."""
    found = tile_number(path)
    if found is not None and found[1] <= tile_width(TilePlace(level, found[0]), log.size):
        return TilePlace(level, found[0]), found[1]
    raise NotFound(f"The log has no such tile, or not yet: it holds {log.size} entries.")
