"""One person has one commitment in a log, however often they are named; erasing takes them out of runs as well."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from regie.core.audit import Actor, Event, Fact
from regie.store import audit, erasing, runs, subjects
from regie.store.database import Database
from regie.store.keys import RunKey
from tests.leaves import read_outside

pytestmark = pytest.mark.slow

Start = Callable[..., Awaitable[RunKey]]
JAN = "jan.janssen@example.com"
OPERATOR = Actor(type="operator", id="operator")


def denied(person: str) -> Fact:
    return Fact(event=Event.REQUEST_DENIED, actor=Actor(type="person", id=person), detail={})


async def test_many_at_once_give_somebody_one_commitment(database: Database, loaded: str) -> None:
    async def tell(person: str) -> None:
        async with database.transaction() as tx:
            await audit.append_outside(tx, "acme", "identity", [denied(person)])

    await asyncio.gather(*(tell(person) for person in (JAN, JAN.upper(), JAN) * 3))
    async with database.transaction() as tx:
        await audit.append_outside(tx, "umbrella", "identity", [denied(JAN)])
        leaves = await read_outside(tx, "acme", "identity")
        others = await read_outside(tx, "umbrella", "identity")
    named = {str(leaf.raw) for leaf in leaves if JAN.encode() in leaf.raw.lower()}
    assert named == set()
    told = [leaf for leaf in leaves if leaf.event is Event.REQUEST_DENIED]
    assert len(told) == 9
    assert len({subject for leaf in told for subject in leaf.names}) == 1
    assert len(told[0].names) == 1
    for leaf in told:
        actor = leaf.fields["actor"]
        assert isinstance(actor, dict)
        assert str(actor["id"]).casefold() == JAN
    assert told[0].names.keys().isdisjoint(others[0].names), "another log names them otherwise"


async def test_a_key_file_is_not_enough_once_somebody_is_erased(database: Database, start: Start) -> None:
    over, going_on = await start(), await start()
    async with database.transaction() as tx:
        await tx.change(
            """update regie.run set status = 'done', ended_at = clock_timestamp(), ready_at = null, owner = null,
               requester = %(jan)s where id = %(run)s""",
            {"jan": JAN, "run": over.run},
        )
    async with database.transaction() as tx:
        [erased] = await erasing.erase(tx, JAN, OPERATOR)
    async with database.reading() as tx:
        ended, running = await runs.get(tx, over), await runs.get(tx, going_on)
        assert ended is not None
        assert running is not None
        assert (ended.requester, ended.started_by.id) == (erased.subject, erased.subject)
        assert running.started_by.id == JAN, "it needs to know who asked"
        leaves = await audit.read(tx, over)
        shown = await subjects.disclosed(tx, over.tenant, over.domain, [leaf.raw for leaf in leaves])
    assert [(each.subject, each.salt, each.value) for each in shown] == [(erased.subject, "", "")]
    assert [leaf.fields["actor"] for leaf in leaves] == [{"type": "person", "id": "erased"}] * len(leaves)
    async with database.transaction() as tx:
        assert await erasing.erase(tx, JAN, OPERATOR) == []
        await tx.change(
            """update regie.run set status = 'done', ended_at = clock_timestamp(), ready_at = null, owner = null
               where id = %(run)s""",
            {"run": going_on.run},
        )
        assert len(await erasing.erase(tx, JAN, OPERATOR)) == 1
        running = await runs.get(tx, going_on)
    assert running is not None
    assert running.started_by.id.startswith("person:")
