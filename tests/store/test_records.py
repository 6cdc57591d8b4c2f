"""Records: kept by kind and key, each with what was there before the step that put it."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta

import psycopg
import pytest

from regie.core.capabilities.record import KeptRecord, NewRecord
from regie.store import records
from regie.store.database import Database
from regie.store.records import Shelf

pytestmark = pytest.mark.slow

SHELF = Shelf("acme", "certificates", "endpoint")
DUE = datetime(2027, 1, 1, tzinfo=UTC)


async def put(database: Database, *new: NewRecord, by: str = "step", shelf: Shelf = SHELF) -> list[KeptRecord | None]:
    async with database.transaction() as tx:
        return await records.put(tx, shelf, new, by=by)


async def find(database: Database, *keys: str, shelf: Shelf = SHELF) -> list[KeptRecord]:
    async with database.reading() as tx:
        return await records.find(tx, shelf, keys)


async def test_what_is_put_is_found_in_the_order_asked_for(database: Database) -> None:
    new = [NewRecord(key=f"straße-{each}", state="due", due_at=DUE, value={"owner": "Zoë", "n": each}) for each in "ba"]
    assert await put(database, *new) == [None, None]
    found = await find(database, "straße-a", "nothing", "straße-b")
    assert [each.key for each in found] == ["straße-a", "straße-b"]
    assert found[0].value == {"owner": "Zoë", "n": "a"}
    assert found[0].due_at == DUE
    assert found[0].first_at <= found[0].put_at


async def test_a_step_hears_what_was_there_before_it_however_often_it_is_repeated(database: Database) -> None:
    await put(database, NewRecord(key="a", state="due"), by="yesterday")
    for _ in range(3):
        [former] = await put(database, NewRecord(key="a", state="healthy"), by="today")
        assert former is not None
        assert former.state == "due"
    [former] = await put(database, NewRecord(key="a", state="expired"), by="tomorrow")
    assert former is not None
    assert former.state == "healthy"
    [now] = await find(database, "a")
    assert (now.state, now.first_at) == ("expired", former.first_at)


async def test_the_first_one_stays_the_first_when_its_step_is_repeated(database: Database) -> None:
    assert await put(database, NewRecord(key="a")) == [None]
    assert await put(database, NewRecord(key="a")) == [None]


async def test_of_two_steps_that_put_the_same_new_one_at_once_the_second_hears_of_the_first(database: Database) -> None:
    async with database.transaction() as tx:
        assert await records.put(tx, SHELF, [NewRecord(key="a", state="due")], by="first") == [None]
        putting = asyncio.create_task(put(database, NewRecord(key="a", state="expired"), by="second"))
        await asyncio.sleep(0.1)
        assert not putting.done()
    [former] = await putting
    assert former is not None
    assert former.state == "due"


@pytest.mark.parametrize("field", ["tenant", "domain", "kind"])
async def test_other_shelves_know_nothing_of_it(database: Database, field: str) -> None:
    other = SHELF._replace(**{field: "other"})
    await put(database, NewRecord(key="a", state="due"))
    assert await find(database, "a", shelf=other) == []
    assert await put(database, NewRecord(key="a", state="healthy"), shelf=other) == [None]
    async with database.transaction() as tx:
        assert await records.remove(tx, other, ["a"]) == 1
    assert [each.state for each in await find(database, "a")] == ["due"]


async def test_a_list_is_read_in_pages_each_record_once(database: Database) -> None:
    await put(database, *(NewRecord(key=f"{each}", state="due" if each % 2 else "healthy") for each in range(25)))
    for state, number in (("", 25), ("due", 12), ("gone", 0)):
        cursor, keys = "", list[str]()
        while True:
            async with database.reading() as tx:
                page, cursor = await records.list_records(tx, SHELF, state=state, after=cursor, most=10)
            keys += [each.key for each in page]
            if not cursor:
                break
        assert len(keys) == len(set(keys)) == number


async def test_what_is_due_is_counted_by_part_of_time(database: Database) -> None:
    async with database.reading() as tx:
        now = await tx.clock()
    days = (-1, 1, 2, 9, 40)
    await put(
        database, *(NewRecord(key=f"{day}", state="due", due_at=now + timedelta(days=day, hours=1)) for day in days)
    )
    await put(database, NewRecord(key="never"))
    edges = [now, now + timedelta(weeks=1), now + timedelta(weeks=2)]
    async with database.reading() as tx:
        found = await records.due_by_part(tx, "certificates", "endpoint", ["acme"], edges)
        assert await records.count(tx, "certificates", "endpoint", ["acme"]) == {"due": 5, "": 1}
        assert await records.count(tx, "certificates", "endpoint", []) == {}
    assert found == {(0, "due"): 1, (1, "due"): 2, (2, "due"): 1, (3, "due"): 1}


async def test_whoever_reads_the_table_learns_neither_key_nor_value(database: Database, database_url: str) -> None:
    await put(database, NewRecord(key="canary-key", state="due", value={"owner": "canary-value"}), by="first")
    await put(database, NewRecord(key="canary-key", state="due", value={"owner": "canary-other"}), by="second")
    async with await psycopg.AsyncConnection.connect(database_url) as connection:
        cursor = await connection.execute(
            "select r::text, encode(value, 'escape'), encode(former, 'escape') from regie.record r"
        )
        rows = str(await cursor.fetchall())
    assert "due" in rows
    assert "canary" not in rows
