"""Blocks about records: what a domain keeps about things from run to run."""

from __future__ import annotations

from regie.core.block import Context, block
from regie.core.capabilities import record


@block("record.put", needs=(record.PUT,))
async def put(ctx: Context, kind: str, records: list[record.NewRecord]) -> record.PutRecords:
    """Keep what is known about things, each in place of what is kept under its key.

    `former` of each is what was kept before this step. `state` and `due_at` are stored in clear, everything else
    sealed. A dry run keeps nothing.

    Example:
        uses: record.put
        with:
          kind: laptop
          records:
            - { key: LT-0042, state: collected, value: { shelf: B7 } }
    """
    return await ctx.call(record.PUT, record.Putting(kind=kind, records=records))


@block("record.find", needs=(record.FIND,))
async def find(ctx: Context, kind: str, keys: list[str]) -> record.FoundRecords:
    """Look up what is kept under some keys. What there is nothing about is left out.

    Example:
        uses: record.find
        with: { kind: laptop, keys: [LT-0042] }
    """
    return await ctx.call(record.FIND, record.RecordQuery(kind=kind, keys=keys))


@block("record.list", needs=(record.LIST,))
async def list_records(ctx: Context, kind: str, state: str = "", cursor: str = "") -> record.ListedRecords:
    """List what is kept of a kind, 200 at a time. `cursor` is where the next page begins, empty after the last one.

    Example:
        uses: record.list
        with: { kind: laptop, state: collected }
    """
    return await ctx.call(record.LIST, record.RecordPage(kind=kind, state=state, cursor=cursor))


@block("record.remove", needs=(record.REMOVE,))
async def remove(ctx: Context, kind: str, keys: list[str]) -> record.RemovedRecords:
    """Forget what is kept under some keys.

    Example:
        uses: record.remove
        with: { kind: laptop, keys: [LT-0042] }
    """
    return await ctx.call(record.REMOVE, record.RecordQuery(kind=kind, keys=keys))
