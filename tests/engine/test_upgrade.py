"""An upgrade while a thousand runs wait for people: none is lost, none is asked twice, each keeps its release."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import Awaitable, Callable
from typing import Any, Literal

import psycopg
import pytest

from regie.core.definition import Definition
from regie.core.errors import Unavailable
from regie.core.format import FORMAT
from regie.core.release import Release
from regie.core.status import RunStatus
from regie.store import approvals, audit, checkup, inbox, releases, run_lists, runs
from regie.store.database import Database
from regie.store.keys import RunKey
from regie.store.migrating import Migration, migrate, shipped
from regie.store.sealer import Sealer

from .stage import EVA, OLE, OPERATOR, RELEASE, PostgresStage, at_work, until

pytestmark = pytest.mark.slow

WAITING = 1000
AT_ONCE = 8
SILENT = 40
"""Those whom nobody answers on the first rung."""
LATER = Migration(
    9999,
    "9999_later.sql",
    b"alter table regie.run add column later text; create table regie.later (tenant text, domain text, id integer);"
    b"create index later_run on regie.run (tenant, domain, later); alter table regie.approval add column later text",
)
"""What an expanding migration does: further columns, tables and indexes; nothing that is read today goes away."""
WITHIN_S = 240.0


def changed(release: Release, name: str, change: Callable[[dict[str, Any]], None]) -> Release:
    """A release in which one definition is another one."""
    dumped = release.definitions[name].model_dump(mode="json")
    change(dumped)
    parts = {part: getattr(release, part) for part in Release.model_fields}
    definitions = {**release.definitions, name: Definition.model_validate(dumped)}
    return Release(**{**parts, "definitions": definitions})


def without_reminders(definition: dict[str, Any]) -> None:
    definition["steps"][0]["arguments"]["ask"][0].pop("remind")


def one_step_more(definition: dict[str, Any]) -> None:
    definition["steps"].append({**definition["steps"][-1], "id": "new", "place": "new"})


class SealerOfBefore(Sealer):
    """Seals everything under the installation's own key, as versions did that had no data keys."""

    def seal(self, plain: bytes, *, tenant: str, domain: str, table: str, pk: str) -> bytes:
        return self._own.seal(plain, f"{tenant}|{domain}|{table}|{pk}".encode())

    def at(self, dsn: str) -> Sealer:
        return SealerOfBefore(self._own, self._encryption, super().at(dsn).data_keys)


WORKFLOW = "things.approve"
FIRST = changed(RELEASE, WORKFLOW, without_reminders)
NEXT = changed(FIRST, WORKFLOW, one_step_more)
"""The upgrade: whoever gets this one has another step in the end."""


async def side_by_side(keys: list[RunKey], each: Callable[[RunKey], Awaitable[None]]) -> None:
    waiting = iter(keys)

    async def hand() -> None:
        for key in waiting:
            await each(key)

    await asyncio.gather(*(hand() for _ in range(AT_ONCE)))


async def put(database: Database, release: Release) -> None:
    async with database.transaction() as tx:
        assert await releases.put(tx, release, by=OPERATOR)


async def sealed_by_key(database: Database) -> dict[int, int]:
    """How many states are sealed under which key: 0 for a data key, else a key of the file."""
    async with database.reading() as tx:
        rows = await tx.rows("select get_byte(state, 0) as id, count(*) as n from regie.run group by 1")
    return {row["id"]: row["n"] for row in rows}


async def until_count(database: Database, **wanted: int) -> None:
    """Wait until so many runs have each status."""
    async with asyncio.timeout(WITHIN_S):
        while True:
            async with database.reading() as tx:
                found = await run_lists.count_by_status(tx)
            if all(found.get(RunStatus(status), 0) == number for status, number in wanted.items()):
                return
            await asyncio.sleep(0.05)


async def test_an_upgrade_with_a_thousand_approvals_waiting_loses_none(
    database: Database, database_url: str, sealer: Sealer
) -> None:
    await put(database, FIRST)
    people = PostgresStage(database)

    async def decide(key: RunKey, by: str = EVA, decision: Literal["approved", "refused"] = "approved") -> None:
        async with people.database.transaction() as tx:
            await approvals.decide(tx, key, approvals.approval_id(key, "approval"), person=by, decision=decision)

    before = SealerOfBefore(sealer._own, sealer._encryption)
    async with Database(database_url, before) as older, Database(database_url, sealer) as newer:
        old, new = PostgresStage(older), PostgresStage(newer)
        async with at_work(old.worker(name="old", slots=64)) as stop_old:
            keys = list(await asyncio.gather(*(old.start("approve") for _ in range(WAITING))))
            await until_count(database, waiting=WAITING)
            # Forward, back, and forward again, while everybody waits.
            for release in (NEXT, FIRST, NEXT):
                await put(database, release)
            first, rest = keys[:100], keys[100:]
            deciding = asyncio.create_task(side_by_side(first, decide))
            assert await migrate(database_url, [*shipped(), LATER]) == [LATER.name]
            await deciding
            await until_count(database, waiting=WAITING - 100, done=100)
            assert await sealed_by_key(database) == {1: WAITING}
            stop_old.set()
        silent, refused, approved = rest[:SILENT], rest[SILENT : SILENT * 2], rest[SILENT * 2 :]
        async with at_work(new.worker(name="new", slots=64)):
            async with await psycopg.AsyncConnection.connect(database_url, autocommit=True) as clock:
                await clock.execute(
                    """update regie.timer set due_at = clock_timestamp()
                       where run::text = any(%s) and timer like 'rung:%%'""",
                    [[key.run for key in silent]],
                )
            await side_by_side(approved, decide)
            await side_by_side(refused, lambda key: decide(key, EVA, "refused"))
            await _until_escalated(new, silent)
            await side_by_side(silent, lambda key: decide(key, OLE))
            await until_count(database, waiting=0, running=0)
            last = await new.start("approve")
            await new.until(last, lambda state: state.status is RunStatus.WAITING)
        ended = {key: await new.engine.state(key) for key in keys}
        assert await sealed_by_key(database) == {1: 100, 0: WAITING - 100 + 1}
        async with newer.reading() as tx:
            for key in keys:
                assert await audit.verify(tx, key) == []
                row = await runs.get(tx, key)
                assert row is not None
                assert row.release == FIRST.digest
                assert len(await approvals.of_run(tx, key)) == 1
            row = await runs.get(tx, last)
            assert row is not None
            assert row.release == NEXT.digest
    assert len(ended) == WAITING
    assert Counter(state.status for state in ended.values()) == {
        RunStatus.DONE: WAITING - SILENT,
        RunStatus.REFUSED: SILENT,
    }
    outputs = [state.steps["approval"].output for state in ended.values()]
    said = Counter(str(output["decision"]) for output in outputs if isinstance(output, dict))
    assert said == {"approved": WAITING - SILENT, "refused": SILENT}
    assert all("new" not in state.steps for state in ended.values())
    done = old.script.calls + new.script.calls
    assert max(done.values()) == 1, "some step was done twice"


async def rows_of(database: Database, keys: list[RunKey]) -> list[dict[str, Any]]:
    """What is stored of each run that a worker might spoil."""
    async with database.reading() as tx:
        return await tx.rows(
            """select id::text, state, seq, format, owner, set_aside, status from regie.run
               where id = any(%(ids)s::uuid[]) order by id""",
            {"ids": [key.run for key in keys]},
        )


async def mark(database: Database, keys: list[RunKey], written: int) -> None:
    """Say that runs were written in another format."""
    async with database.transaction() as tx:
        await tx.change(
            "update regie.run set format = %(format)s where id = any(%(ids)s::uuid[])",
            {"format": written, "ids": [key.run for key in keys]},
        )


async def test_an_older_worker_leaves_what_a_newer_one_has_written_to_it(postgres: PostgresStage) -> None:
    database = postgres.database
    newer = [await postgres.start("five") for _ in range(5)]
    older = [await postgres.start("five") for _ in range(3)]
    await mark(database, older, FORMAT - 1)
    before = await rows_of(database, newer)
    assert {row["format"] for row in before} == {FORMAT}
    async with at_work(postgres.worker(name="older", reads=FORMAT - 1)):
        for key in older:
            assert (await postgres.until(key, lambda state: state.status.is_final)).status is RunStatus.DONE
        await postgres.a_moment()
        assert await rows_of(database, newer) == before
        async with database.reading() as tx:
            [waits] = await checkup.too_new_runs(tx)
        assert waits == ("things", 5, FORMAT, FORMAT - 1)
        # Both at once: the newer one takes what the older one leaves.
        async with at_work(postgres.worker(name="newer")):
            for key in newer:
                assert (await postgres.until(key, lambda state: state.status.is_final)).status is RunStatus.DONE
            async with database.reading() as tx:
                assert await checkup.too_new_runs(tx) == []
    assert set(postgres.script.calls.values()) == {1}


async def test_a_state_with_fields_that_this_version_does_not_know_is_neither_failed_nor_written(
    postgres: PostgresStage,
) -> None:
    database = postgres.database
    key = await postgres.start("five")
    async with database.transaction() as tx:
        state = json.loads(await runs.state_of(tx, key))
        sealed = runs.sealed_state(tx, key, json.dumps({**state, "invented_later": {"by": "a newer version"}}))
        await tx.change(
            "update regie.run set state = %(state)s, format = %(format)s where id = %(run)s",
            {"state": sealed, "format": FORMAT + 1, "run": key.run},
        )
    before = await rows_of(database, [key])
    async with at_work(postgres.worker()):
        other = await postgres.start("five")
        await postgres.until(other, lambda state: state.status.is_final)
        await postgres.a_moment()
    assert await rows_of(database, [key]) == before
    with pytest.raises(Unavailable, match="was written by a newer version of Regie"):
        await postgres.engine.state(key)
    async with database.reading() as tx:
        assert [leaf.event for leaf in await audit.read(tx, key)] == ["trigger:accepted", "run:started"]


async def test_a_worker_that_is_told_what_it_does_not_know_lets_go_of_the_run_and_loses_nothing(
    postgres: PostgresStage,
) -> None:
    database = postgres.database
    async with at_work(postgres.worker(name="older")):
        key = await postgres.start("hold")
        assert await postgres.script.held.get() == key.run
        async with database.transaction() as tx:
            await inbox.deliver(tx, key, "later:1", '{"kind": "invented_later"}')
        await mark(database, [key], FORMAT + 1)
        postgres.script.let_go(key.run)

        async def is_let_go() -> bool:
            [row] = await rows_of(database, [key])
            return row["owner"] is None and row["seq"] > 0

        await until(is_let_go)
        await postgres.a_moment()
        [row] = await rows_of(database, [key])
        assert (row["set_aside"], row["format"]) == (None, FORMAT + 1)
        assert row["status"] in ("running", "waiting")
    # As a newer version would: it knows the event, and has nothing to do for it.
    async with database.transaction() as tx:
        await tx.change("delete from regie.inbox where run = %(run)s and key = 'later:1'", {"run": key.run})
    await mark(database, [key], FORMAT)
    async with at_work(postgres.worker(name="newer")):
        assert (await postgres.until(key, lambda state: state.status.is_final)).status is RunStatus.DONE
    async with database.reading() as tx:
        assert await audit.verify(tx, key) == []


async def test_a_release_that_a_newer_version_has_loaded_starts_nothing_here_and_says_so(
    postgres: PostgresStage,
) -> None:
    waiting = await postgres.start("five")
    async with postgres.database.transaction() as tx:
        await tx.change("update regie.release set format = format + 1", {})
        tx.releases.clear()
    with pytest.raises(Unavailable, match=r"The release .* was written by a newer version"):
        await postgres.start("five")
    assert not (await postgres.engine.state(waiting)).status.is_final


async def _until_escalated(stage: PostgresStage, keys: list[RunKey]) -> None:
    for key in keys:
        await stage.until(
            key, lambda state: (asked := state.steps["approval"].approval) is not None and asked.rung == 1
        )
