"""Definitions with a structure drawn at random come to the same on every engine, disturbed or not.

The generator is that of the interpreter's properties. Both engines play each definition with the same fate; the one
over a database once more with workers that are killed and a database that fails, and says nothing of it, when it is
told to commit.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import random
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field
from typing import Literal

import psycopg
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from pydantic import JsonValue

from regie.core.definition import Definition
from regie.core.errors import OutcomeUnknown, RegieError, Unavailable
from regie.core.release import Release
from regie.core.run import Event, RunState, StepStatus
from regie.core.tenant import Domain, Tenant
from regie.engine.inline import InlineEngine
from regie.engine.port import StartRequest, Task
from regie.engine.postgres import PostgresEngine
from regie.engine.working import WorkerLoop
from regie.store import approvals, releases
from regie.store.database import Database, Transaction
from regie.store.keys import RunKey
from regie.store.sealer import Sealer
from tests.core.test_interpreter_properties import DEFINITIONS, Fate, has_end_within, is_settled_by_order
from tests.core.trial import CATALOGUE

from .stage import OPERATOR

pytestmark = pytest.mark.slow

NUMBER = 200
"""Definitions that are compared."""
DRAWN = 240
"""So many that enough of them can be compared."""
WITHIN_S = 240.0
LOOK_S = 0.05
KILL_EVERY_S = 0.7
ODDS = {"ok": 80, "away": 7, "lost": 6, "untold": 7}
"""Of what becomes of a transaction of a worker, in a hundred."""
WORKERS = 2


class Enough(Exception):
    """As many were drawn as are needed."""


def definitions(number: int) -> list[Definition]:
    """The first so many that differ and whose outcome does not depend on the order of events; always the same ones."""
    found: dict[str, Definition] = {}

    @settings(
        max_examples=number * 5,
        derandomize=True,
        database=None,
        deadline=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(DEFINITIONS)
    def collect(drawn: Definition) -> None:
        if len(found) == number:
            raise Enough
        if not any(has_end_within(step) for step in drawn.steps):
            name = f"things.try_{len(found)}"
            found.setdefault(drawn.model_dump_json(), drawn.model_copy(update={"workflow": name}))

    with contextlib.suppress(Enough):
        collect()
    return list(found.values())


def release(drawn: list[Definition]) -> Release:
    return Release(
        definitions={each.workflow: each for each in drawn},
        domains={"things": Domain(domain="things", title="Things", owner="team:test", classification="internal")},
        tenants={"acme": Tenant(tenant="acme", title="Acme", domains=("things",), connections={})},
        blocks={name: tuple(need.name for need in CATALOGUE[name].needs) for name in ("thing.look", "thing.write")},
    )


def fate_of(workflow: str) -> Fate:
    return Fate(int(workflow.rpartition("_")[2]))


class Fated:
    """Gives every attempt the answer that was chosen before the run began."""

    def __init__(self) -> None:
        self.calls: Counter[tuple[str, str, int]] = Counter()

    async def perform(self, task: Task) -> Event:
        self.calls[task.key.run, task.work.place, task.work.attempt] += 1
        return fate_of(task.facts.workflow).answer(task.work)


def wants(workflow: str) -> StartRequest:
    return StartRequest(tenant="acme", workflow=workflow, trigger_key=workflow, started_by=OPERATOR)


Said = dict[str, tuple[Literal["approved", "refused"], str]]


def decisions(workflow: str, state: RunState) -> Said:
    """What people would say now: decision and who, by place."""
    return {
        place: (decided.decision, decided.by)
        for place, step in state.steps.items()
        if step.status is StepStatus.WAITING and (decided := fate_of(workflow).decision(place, step))
    }


# --- in memory --------------------------------------------------------------------------------------------------------


async def played_inline(loaded: Release) -> dict[str, RunState]:
    ended = {}
    for workflow in loaded.definitions:
        engine = InlineEngine(loaded, CATALOGUE, Fated())
        key = (await engine.start(wants(workflow))).key
        await engine.settle()
        while not (state := await engine.state(key)).status.is_final:
            said = decisions(workflow, state)
            for place, step in state.steps.items():
                if (place in said) and (decided := fate_of(workflow).decision(place, step)):
                    await engine.deliver(key, f"decision:{place}", decided)
            assert said or await engine.turn_clock(), f"it never ends: {workflow} {state}"
            await engine.settle()
        ended[workflow] = state
    return ended


# --- over a database --------------------------------------------------------------------------------------------------


class FickleDatabase(Database):
    """One that fails now and then, and of some commits does not say whether they happened."""

    chance = random.Random(20261122)  # noqa: S311  repeatable
    counts: Counter[str] = Counter()
    is_open = False

    async def open(self) -> None:
        await super().open()
        self.is_open = True

    def transaction(self) -> AbstractAsyncContextManager[Transaction]:
        return self._fickle(super().transaction())

    @asynccontextmanager
    async def _fickle(self, whole: AbstractAsyncContextManager[Transaction]) -> AsyncIterator[Transaction]:
        what = self.chance.choices(tuple(ODDS), tuple(ODDS.values()))[0] if self.is_open else "ok"
        self.counts[what] += 1
        if what == "away":
            raise Unavailable("Not now.")
        async with whole as tx:
            yield tx
            if what == "lost":
                raise OutcomeUnknown("Rolled back, and nobody was told.")
        if what == "untold":
            raise OutcomeUnknown("Committed, and nobody was told.")


@dataclass
class Crew:
    """Workers that come back when they die, as a supervisor would have it."""

    database: Database
    performer: Fated = field(default_factory=Fated)
    lives: int = 0
    tasks: list[asyncio.Task[None]] = field(default_factory=list)

    async def keep(self, stop: asyncio.Event) -> None:
        while not stop.is_set():
            loop = WorkerLoop(
                self.database, CATALOGUE, self.performer, ["things"], name=f"worker-{self.lives}", slots=64
            )
            self.lives += 1
            task = asyncio.create_task(loop.run(stop))
            self.tasks.append(task)
            # Whatever ends a worker ends one life of it; what becomes of its runs is what is examined.
            with contextlib.suppress(RegieError, asyncio.CancelledError):
                await task
            self.tasks.remove(task)

    async def kill_again_and_again(self, chance: random.Random) -> None:
        while True:
            await asyncio.sleep(KILL_EVERY_S)
            if self.tasks:
                chance.choice(self.tasks).cancel()


async def played_on_postgres(loaded: Release, dsn: str, sealer: Sealer, *, is_disturbed: bool) -> dict[str, RunState]:
    kind = FickleDatabase if is_disturbed else Database
    async with Database(dsn, sealer) as calm, kind(dsn, sealer) as database:
        async with calm.transaction() as tx:
            await releases.put(tx, loaded, by=OPERATOR)
        engine = PostgresEngine(calm)
        crew, stop = Crew(database), asyncio.Event()
        duties = [asyncio.create_task(crew.keep(stop)) for _ in range(WORKERS)]
        killing = asyncio.create_task(crew.kill_again_and_again(FickleDatabase.chance)) if is_disturbed else None
        try:
            keys = {workflow: (await engine.start(wants(workflow))).key for workflow in loaded.definitions}
            ended: dict[str, RunState] = {}
            async with asyncio.timeout(WITHIN_S), await psycopg.AsyncConnection.connect(dsn, autocommit=True) as clock:
                while len(ended) < len(keys):
                    for workflow in keys.keys() - ended.keys():
                        state = await engine.state(keys[workflow])
                        if state.status.is_final:
                            ended[workflow] = state
                            continue
                        said = decisions(workflow, state)
                        await _say(calm, keys[workflow], said)
                        await _hurry(clock, keys[workflow], said)
                    await asyncio.sleep(LOOK_S)
            if killing is not None:
                assert crew.lives > WORKERS
        finally:
            if killing is not None:
                killing.cancel()
            stop.set()
            await asyncio.gather(*duties)
        return ended


async def _say(database: Database, key: RunKey, said: Said) -> None:
    for place, (decision, by) in said.items():
        with contextlib.suppress(RegieError):
            async with database.transaction() as tx:
                await approvals.decide(tx, key, approvals.approval_id(key, place), person=by, decision=decision)


async def _hurry(clock: psycopg.AsyncConnection[tuple[JsonValue, ...]], key: RunKey, said: Said) -> None:
    """Let every timer of a run be due, but for reminders and for those that a person is faster than."""
    await clock.execute(
        """update regie.timer set due_at = clock_timestamp()
           where (tenant, domain, run) = (%s, %s, %s) and due_at > clock_timestamp() and timer not like 'remind:%%'
             and not (timer like 'rung:%%' and regexp_replace(timer, '^rung:(.*):[^:]*$', '\\1') = any(%s))""",
        [key.tenant, key.domain, key.run, list(said)],
    )


def outcome(state: RunState) -> JsonValue:
    """What came of a run, without its own id, which some definitions speak of."""
    told = state.model_dump_json(include={"status", "failure", "steps"})
    found: JsonValue = json.loads(told.replace(state.facts.id, "this run"))
    return found


# --- the same ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Drawn:
    """What is compared: a release, and what its workflows came to in memory."""

    loaded: Release
    ended: dict[str, RunState]


@pytest.fixture(scope="module")
def drawn() -> Drawn:
    """Without those in which the order of events decides how far a limited loop gets before a failure stops it."""
    whole = release(definitions(DRAWN))
    ended = asyncio.run(played_inline(whole))
    kept = [each for each in whole.definitions.values() if not is_settled_by_order(each, ended[each.workflow])][:NUMBER]
    return Drawn(release(kept), {each.workflow: ended[each.workflow] for each in kept})


@pytest.mark.parametrize("is_disturbed", [False, True], ids=["undisturbed", "with crashes"])
async def test_generated_definitions_come_to_the_same_on_both_engines(
    drawn: Drawn,
    database_url: str,
    sealer: Sealer,
    record_property: Callable[[str, object], None],
    *,
    is_disturbed: bool,
) -> None:
    FickleDatabase.counts.clear()
    postgres = await played_on_postgres(drawn.loaded, database_url, sealer, is_disturbed=is_disturbed)
    assert len(drawn.ended) == NUMBER
    assert {workflow: outcome(state) for workflow, state in postgres.items()} == {
        workflow: outcome(state) for workflow, state in drawn.ended.items()
    }
    transactions = dict(FickleDatabase.counts)
    record_property("definitions", NUMBER)
    record_property("transactions", transactions)
    print(f"{NUMBER} definitions came to the same; transactions of the workers: {transactions or 'undisturbed'}")  # noqa: T201  the figure is asked for
