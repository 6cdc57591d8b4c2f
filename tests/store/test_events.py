"""Events from outside: kept once, sealed, found by who waits for them whoever comes first, forgotten in time."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable

import pytest
from pydantic import JsonValue

from regie.core.audit import Actor, Event
from regie.core.errors import InvalidInput
from regie.core.outside_event import OutsideEvent
from regie.core.run_commands import AwaitEvent
from regie.core.status import RunStatus
from regie.store import claims, commits, event_starts, events, inbox, runs
from regie.store.claims import Claimed
from regie.store.commits import StepCommit
from regie.store.database import Database
from regie.store.keys import RunKey
from regie.store.workers import Worker
from tests.leaves import read_outside

pytestmark = pytest.mark.slow

Start = Callable[..., Awaitable[RunKey]]
Claim = Callable[..., Awaitable[Claimed]]
PROGRAM = Actor(type="operator", id="hr-system")


def happened(event_id: str, *, tenant: str = "acme", name: str = "contract.sign", **data: JsonValue) -> OutsideEvent:
    return OutsideEvent(tenant=tenant, domain="identity", id=event_id, name=name, data=data)


async def tell(database: Database, *told: OutsideEvent, is_routed: bool = True) -> None:
    async with database.transaction() as tx:
        for event in told:
            await events.publish(tx, event, PROGRAM)
    while is_routed:
        async with database.transaction() as tx:
            is_routed = await events.route(tx, ["identity"])


async def waits(database: Database, held: Claimed, *awaits: AwaitEvent) -> None:
    async with database.transaction() as tx:
        step = StepCommit(
            state_json="{}", status=RunStatus.WAITING, awaits=awaits, park_seen=held.inbox_n, heard=held.inbox_n
        )
        await commits.commit(tx, held.claim, step)


async def heard(database: Database, key: RunKey) -> list[str]:
    async with database.reading() as tx:
        return [event.key for event in await inbox.unconsumed(tx, key)]


def await_at(place: str, **where: JsonValue) -> AwaitEvent:
    return AwaitEvent(place=place, event="contract.sign", where=where)


async def test_an_event_is_told_once_and_leaves_a_leaf_each_time(database: Database, loaded: str) -> None:
    await tell(database, happened("one", who="Ann"), happened("one", who="Ann"))
    with pytest.raises(InvalidInput):
        await tell(database, happened("one", who="Bo"))
    with pytest.raises(InvalidInput):
        await tell(database, happened("one", name="contract.close", who="Ann"))
    await tell(database, happened("one", tenant="umbrella", who="Bo"))
    async with database.reading() as tx:
        leaves = await read_outside(tx, "acme", "identity", limit=10)
    told = [leaf for leaf in leaves if leaf.event.noun == "event"]
    assert {leaf.event for leaf in told} == {Event.EVENT_RECEIVED, Event.EVENT_REPEATED}
    assert "Ann" not in str([leaf.fields for leaf in told])


async def test_an_event_reaches_only_its_own_tenant(database: Database, start: Start, claim: Claim) -> None:
    keys = [await start(tenant=tenant) for tenant in ("acme", "umbrella")]
    for _ in keys:
        await waits(database, await claim(), await_at("it", who="Ann"))
    await tell(database, happened("one", who="Ann"), happened("two", name="contract.close", who="Ann"))
    assert [await heard(database, key) for key in keys] == [["event:it"], []]


async def test_what_came_after_the_start_is_found_and_what_came_before_is_not(
    database: Database, start: Start, claim: Claim
) -> None:
    await tell(database, happened("before", who="Ann"))
    key = await start()
    await tell(database, happened("first", who="Ann", n=1), happened("second", who="Ann", n=2), happened("other", n=3))
    await waits(database, await claim(), await_at("it", who="Ann"), await_at("none", who="Bo"))
    assert await heard(database, key) == ["event:it"]
    held = await claim()
    assert '"n":1' in held.inbox[0].payload_json


async def test_a_run_that_is_being_changed_is_left_for_the_next_time(
    database: Database, start: Start, claim: Claim
) -> None:
    key, other = await start(), await start()
    for _ in range(2):
        await waits(database, await claim(), await_at("it"))
    async with database.transaction() as tx:
        await runs.state_of(tx, key, lock=True)
        await tell(database, happened("one"))
        assert await heard(database, other) == ["event:it"]
        assert await heard(database, key) == []
    await tell(database)
    assert await heard(database, key) == ["event:it"]
    assert await heard(database, other) == ["event:it"]


async def test_of_two_events_the_first_meets_the_step_whoever_brings_them(
    database: Database, start: Start, claim: Claim
) -> None:
    key = await start()
    await waits(database, await claim(), await_at("it", who="Ann"))
    await tell(database, happened("one", who="Ann", n=1), happened("two", who="Ann", n=2), is_routed=False)

    async def route() -> None:
        async with database.transaction() as tx:
            await events.route(tx, ["identity"])

    async with database.transaction() as first:
        async with database.transaction() as changing:
            await runs.state_of(changing, key, lock=True)
            assert not await events.route(first, ["identity"])
        # The first event is still in hands, but the run is free again.
        second = asyncio.create_task(route())
        await asyncio.sleep(0.1)
    await second
    await tell(database)
    async with database.reading() as tx:
        [arrived] = await inbox.unconsumed(tx, key)
    assert '"n":1' in arrived.payload_json


async def test_who_waits_no_longer_hears_nothing(database: Database, start: Start, claim: Claim) -> None:
    key = await start()
    await waits(database, await claim(), await_at("a"), await_at("b"), AwaitEvent(place="c", event="contract.close"))
    async with database.transaction() as tx:
        await events.forget(tx, [(key, ["a"])])
    await tell(database, happened("one"))
    assert await heard(database, key) == ["event:b"]
    held = await claim()
    async with database.transaction() as tx:
        await commits.commit(tx, held.claim, StepCommit(state_json="{}", status=RunStatus.DONE))
    await tell(database, happened("two", name="contract.close"))
    assert await heard(database, key) == ["event:b"]


async def test_what_is_old_is_deleted_with_its_marks(database: Database, loaded: str) -> None:
    await tell(database, happened("old", who="Ann"), happened("new", who="Ann"))
    async with database.transaction() as tx:
        old = {"kept": events.KEPT}
        await tx.change(
            "update regie.event set arrived_at = arrived_at - %(kept)s - interval '1s' where id = 'old'", old
        )
        assert await events.clear_old(tx, ["identity"]) == 0, "nobody has looked at what it starts"
        while (await event_starts.take_oldest(tx, ["identity"]))[1]:
            pass
        assert await events.clear_old(tx, ["finance"]) == 0
        assert await events.clear_old(tx, ["identity"]) == 1
        assert {row["event"] for row in await tx.rows("select event from regie.event_mark")} == {"new"}


async def test_neither_who_waits_nor_who_tells_misses_the_other(
    database: Database, start: Start, worker: Worker
) -> None:
    """Each wait begins while its event is told; one that is missed would be waited for until the deadline."""
    rounds, lanes = 60, 4
    chance = random.Random(11)  # noqa: S311  varies the order of two racers

    async def begin(held: Claimed, number: int) -> None:
        await asyncio.sleep(chance.random() / 500)
        await waits(database, held, await_at("it", number=number))

    async def tell_late(number: int) -> None:
        await asyncio.sleep(chance.random() / 500)
        await tell(database, happened(f"{number}", number=number))

    for at in range(rounds):
        keys = [await start() for _ in range(lanes)]
        async with database.transaction() as tx:
            claimed = (await claims.take(tx, worker.id, ["identity"], lanes)).runs
        numbers = {held.claim.key: at * lanes + lane for lane, held in enumerate(claimed)}
        assert sorted(numbers) == sorted(keys)
        races = [(begin(held, numbers[held.claim.key]), tell_late(numbers[held.claim.key])) for held in claimed]
        await asyncio.gather(*(racer for race in races for racer in race))
        await tell(database)
        assert [await heard(database, key) for key in keys] == [["event:it"]] * lanes, f"missed in round {at}"
        async with database.transaction() as tx:
            for held in (await claims.take(tx, worker.id, ["identity"], lanes)).runs:
                await commits.commit(tx, held.claim, StepCommit(state_json="{}", status=RunStatus.DONE))


async def test_an_event_that_somebody_has_altered_reaches_nobody_and_stops_nothing(
    database: Database, start: Start, claim: Claim
) -> None:
    key, late = await start(), await start()
    await waits(database, await claim(), await_at("it", n=1))
    await tell(database, happened("bad", n=1), is_routed=False)
    async with database.transaction() as tx:
        await tx.change("update regie.event set data = %(data)s", {"data": b"x"})
    await tell(database, happened("good", n=2))
    assert await heard(database, key) == []
    await waits(database, await claim(), await_at("it", n=1), await_at("other", n=2))
    assert await heard(database, late) == ["event:other"]
    async with database.reading() as tx:
        leaves = await read_outside(tx, "acme", "identity", limit=10)
    assert [leaf.event for leaf in leaves].count(Event.EVENT_SET_ASIDE) == 1
