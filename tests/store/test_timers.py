"""Timers become events of their runs when they are due; whoever looks for them reads no others."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import pytest

from regie.store import inbox, timers
from regie.store.database import Database
from regie.store.keys import RunKey

pytestmark = pytest.mark.slow

Start = Callable[..., Awaitable[RunKey]]
MANY = 5_000


async def test_what_is_due_becomes_an_event_and_the_others_are_not_even_read(database: Database, start: Start) -> None:
    key = await start()
    later = {f"later:{number}": 86_400.0 for number in range(MANY)}
    async with database.transaction() as tx:
        await timers.set_(tx, [(key, 0, {"now": 0.0, **later})])
    async with database.transaction() as tx:
        # A table that was just filled is not analysed yet; with these the plan is the one of a large table.
        await tx.row("select set_config('enable_seqscan', 'off', true), set_config('enable_bitmapscan', 'off', true)")
        assert await timers.fire_due(tx, ["identity"]) == 1
        read = await tx.row("select idx_tup_fetch as n from pg_stat_xact_user_tables where relname = 'timer'")
        [arrived] = await inbox.unconsumed(tx, key)
    assert arrived.key == "timer:now:0"
    assert read is not None
    assert read["n"] < MANY / 50
