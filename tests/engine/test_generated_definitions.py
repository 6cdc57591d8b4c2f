"""Definitions with a structure drawn at random come to the same on every engine, disturbed or not.

The generator is that of the interpreter's properties. Both engines play each definition with the same fate; the one
over a database once more with workers that are killed and a database that fails, and says nothing of it, when it is
told to commit. The children that they start and the events that they wait for are real: a run is compared with its
children, and with a program that tells of the one event that all of its steps wait for, or never does.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import random
import time
import zlib
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field

import psycopg
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from pydantic import JsonValue

from regie.core.definition import Definition
from regie.core.errors import OutcomeUnknown, RegieError, Unavailable
from regie.core.interpreter import has_begun
from regie.core.outside_event import OutsideEvent
from regie.core.places import written_place
from regie.core.reading import read_definition
from regie.core.release import Release
from regie.core.run import RunFacts, RunState
from regie.core.run_events import Decided, Event
from regie.core.status import StepStatus
from regie.core.tenant import Domain, Tenant
from regie.engine.inline import InlineEngine
from regie.engine.port import Engine, StartRequest, Task
from regie.engine.postgres import PostgresEngine
from regie.engine.working import WorkerLoop
from regie.store import approvals, releases
from regie.store.database import Database, Transaction
from regie.store.keys import RunKey
from regie.store.sealer import Sealer
from tests.core.test_interpreter_properties import DEFINITIONS, LADDERS, Fate, has_end_within, is_settled_by_order
from tests.core.trial import CATALOGUE

from .stage import OPERATOR

pytestmark = pytest.mark.slow

NUMBER = 200
"""Definitions that are compared."""
DRAWN = 240
"""So many that enough of them can be compared."""
WITHIN_S = 120.0
LOOK_S = 0.05
KILL_EVERY_S = 0.7
ODDS = {"ok": 80, "away": 7, "lost": 6, "untold": 7}
"""Of what becomes of a transaction of a worker, in a hundred."""
WORKERS = 2
COMPARED = {"status", "failure", "steps"}


CHILD = read_definition(
    """
workflow: things.child
title: Child
owner: team:test
input: { value: { type: text, default: nothing } }
steps:
  - id: first
    uses: thing.write
    with: { value: "${{ input.value }}" }
    undo: { uses: thing.write, with: { value: back } }
  - id: asked
    uses: people.approve
    with: { question: "Well?", ask: [ { who: "role:r0", within: 4h } ] }
  - wait: { event: contract.sign, where: { who: "${{ run.id }}" }, within: 1h }
  - if: steps.asked.decision == 'approved'
    uses: thing.write
    with: { value: "${{ steps.first.value }}" }
""",
    "child.yaml",
)[0]
"""What every `run` of the generator starts."""


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
        definitions={each.workflow: each for each in (*drawn, CHILD)},
        domains={"things": Domain(domain="things", title="Things", owner="team:test", classification="internal")},
        tenants={"acme": Tenant(tenant="acme", title="Acme", domains=("things",), connections={})},
        blocks={name: tuple(need.name for need in CATALOGUE[name].needs) for name in ("thing.look", "thing.write")},
    )


def fate_of(facts: RunFacts) -> Fate:
    """A run's fate comes with its workflow, that of a child with the step that started it."""
    if facts.parent is None:
        return Fate(int(facts.workflow.rpartition("_")[2]))
    return Fate(zlib.crc32("/".join(facts.parent.lineage).encode()))


class Fated:
    """Gives every attempt the answer that was chosen before the run began."""

    def __init__(self) -> None:
        self.calls: Counter[tuple[str, str, int]] = Counter()

    async def perform(self, task: Task) -> Event:
        self.calls[task.key.run, task.work.place, task.work.attempt] += 1
        return fate_of(task.facts).answer(task.work)


def wants(workflow: str) -> StartRequest:
    return StartRequest(tenant="acme", workflow=workflow, trigger_key=workflow, started_by=OPERATOR)


# --- what people, programs and time do --------------------------------------------------------------------------------


def decisions(state: RunState) -> dict[str, Decided]:
    """What people would say now, by place."""
    fate = fate_of(state.facts)
    return {
        place: decided
        for place, step in state.steps.items()
        if step.status is StepStatus.WAITING and (decided := fate.decision(place, step))
    }


def event_comes(facts: RunFacts) -> bool:
    """Whether a program ever tells of what the run's steps wait for."""
    return fate_of(facts).pick(("comes", "comes", "never"), "event") == "comes"


def event_now(state: RunState, loaded: Release) -> OutsideEvent | None:
    """The event that a program tells of by now: of some runs before any step waits for it."""
    facts = state.facts
    is_early = fate_of(facts).pick(("early", "late"), "when") == "early"
    if not event_comes(facts) or not (is_early or any(awaits_event(state, place, loaded) for place in state.steps)):
        return None
    return OutsideEvent(tenant="acme", domain="things", id=facts.id, name="contract.sign", data={"who": facts.id})


def awaits_event(state: RunState, place: str, loaded: Release) -> bool:
    written = loaded.definition(state.facts.workflow).by_place.get(written_place(place))
    return written is not None and written.awaits_event and state.steps[place].status is StepStatus.WAITING


def comes_first(facts: RunFacts, timer: str, loaded: Release) -> bool:
    """Whether a person or a program is faster than a timer, or it only reminds; its name says so, so never too late."""
    purpose, _, rest = timer.partition(":")
    place, _, number = rest.rpartition(":")
    fate = fate_of(facts)
    match purpose:
        case "rung":
            word, _, at = fate.pick(LADDERS, place).partition(":")
            return word != "never" and int(number) >= int(at)
        case "wait":
            written = loaded.definition(facts.workflow).by_place[written_place(place)]
            return written.awaits_event and event_comes(facts)
        case _:
            return purpose == "remind"


async def family(engine: Engine, key: RunKey, known: dict[RunKey, RunState]) -> list[RunState]:
    """A run, and all below it that has begun. What is over is not asked for again."""
    state = known.get(key) or await engine.state(key)
    if state.status.is_final:
        known[key] = state
    below = [step.child.run for step in state.steps.values() if step.child is not None]
    return [state, *[one for run in below for one in await family(engine, key._replace(run=run), known)]]


def key_of(state: RunState) -> RunKey:
    return RunKey(state.facts.tenant, state.facts.domain, state.facts.id)


# --- in memory --------------------------------------------------------------------------------------------------------


async def played_inline(loaded: Release) -> dict[str, list[RunState]]:
    return {
        workflow: await one_inline(workflow, loaded) for workflow in loaded.definitions if workflow != CHILD.workflow
    }


async def one_inline(workflow: str, loaded: Release) -> list[RunState]:
    engine = InlineEngine(loaded, CATALOGUE, Fated())
    key = (await engine.start(wants(workflow))).key
    while True:
        runs = await family(engine, key, {})
        if all(state.status.is_final for state in runs):
            return runs
        is_moved = False
        for state in runs:
            for place, decided in decisions(state).items():
                is_moved |= await engine.deliver(key_of(state), f"decision:{place}", decided)
            if (event := event_now(state, loaded)) is not None:
                is_moved |= await engine.publish(event, OPERATOR)
        is_begun = all(has_begun(state) for state in runs)
        assert is_moved or not is_begun or await engine.turn_clock(), f"it never ends: {workflow} {runs}"
        await engine.settle()


# --- over a database --------------------------------------------------------------------------------------------------


class FickleDatabase(Database):
    """One that fails now and then, and of some commits does not say whether they happened."""

    chance = random.Random(20261122)  # noqa: S311  repeatable
    counts: Counter[str] = Counter()
    is_open = False

    async def open(self) -> None:
        await super().open()
        self.is_open = True

    def transaction(self, tenant: str = "") -> AbstractAsyncContextManager[Transaction]:
        return self._fickle(super().transaction(tenant))

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


async def played_on_postgres(
    loaded: Release, dsn: str, sealer: Sealer, *, is_disturbed: bool
) -> dict[str, list[RunState]]:
    kind = FickleDatabase if is_disturbed else Database
    async with Database(dsn, sealer) as calm, kind(dsn, sealer) as database:
        async with calm.transaction() as tx:
            await releases.put(tx, loaded, by=OPERATOR)
        engine = PostgresEngine(calm)
        crew, stop = Crew(database), asyncio.Event()
        duties = [asyncio.create_task(crew.keep(stop)) for _ in range(WORKERS)]
        killing = asyncio.create_task(crew.kill_again_and_again(FickleDatabase.chance)) if is_disturbed else None
        try:
            names = [workflow for workflow in loaded.definitions if workflow != CHILD.workflow]
            keys = {workflow: (await engine.start(wants(workflow))).key for workflow in names}
            async with await psycopg.AsyncConnection.connect(dsn, autocommit=True) as clock:
                ended = await Others(loaded, engine, clock).see_through(keys)
            if killing is not None:
                assert crew.lives > WORKERS
        finally:
            if killing is not None:
                killing.cancel()
            stop.set()
            await asyncio.gather(*duties)
        return ended


@dataclass
class Others:
    """People and programs, and time, which passes as fast as nobody is in a hurry."""

    loaded: Release
    engine: PostgresEngine
    clock: psycopg.AsyncConnection[tuple[str, str]]
    told: set[str] = field(default_factory=set)
    known: dict[RunKey, RunState] = field(default_factory=dict)

    async def see_through(self, keys: dict[str, RunKey]) -> dict[str, list[RunState]]:
        """Do what is to be done until every run is over, and all below it."""
        ended: dict[str, list[RunState]] = {}
        until_s = time.monotonic() + WITHIN_S
        while len(ended) < len(keys):
            alive: dict[str, RunState] = {}
            for workflow in keys.keys() - ended.keys():
                runs = await family(self.engine, keys[workflow], self.known)
                under_way = {state.facts.id: state for state in runs if not state.status.is_final}
                alive |= under_way
                if not under_way:
                    ended[workflow] = runs
            assert time.monotonic() < until_s, f"not over after {WITHIN_S:g} s: {list(alive.values())}"
            for state in alive.values():
                await self.say(state)
            await self.hurry(alive)
            await asyncio.sleep(LOOK_S)
        return ended

    async def say(self, state: RunState) -> None:
        key = key_of(state)
        for place, decided in decisions(state).items():
            said = approvals.approval_id(key, place)
            with contextlib.suppress(RegieError):
                async with self.engine.database.transaction() as tx:
                    await approvals.decide(tx, key, said, person=decided.by, decision=decided.decision)
        event = event_now(state, self.loaded) if key.run not in self.told else None
        if event is not None:
            self.told.add(key.run)
            await self.engine.publish(event, OPERATOR)

    async def hurry(self, alive: dict[str, RunState]) -> None:
        """Let every timer be due for which nobody has to wait."""
        found = await self.clock.execute(
            "select run::text, timer from regie.timer where run = any(%s::uuid[]) and due_at > clock_timestamp()",
            [list(alive)],
        )
        due = [
            (run, timer)
            for run, timer in await found.fetchall()
            if not comes_first(alive[run].facts, timer, self.loaded)
        ]
        await self.clock.execute(
            """update regie.timer t set due_at = clock_timestamp()
               from unnest(%s::uuid[], %s::text[]) as d (run, timer) where (t.run, t.timer) = (d.run, d.timer)""",
            [[run for run, _ in due], [timer for _, timer in due]],
        )


def outcome(runs: list[RunState]) -> JsonValue:
    """What came of a run and of all below it, without the ids of runs, of which some definitions speak."""
    names = {state.facts.id: "/".join(state.facts.parent.lineage if state.facts.parent else ()) for state in runs}
    told = {names[state.facts.id]: state.model_dump(mode="json", include=COMPARED) for state in runs}
    text = json.dumps(told)
    for run, name in names.items():
        text = text.replace(run, f"run {name}")
    found: JsonValue = json.loads(text)
    return found


# --- the same ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Drawn:
    """What is compared: a release, and what its workflows came to in memory."""

    loaded: Release
    ended: dict[str, list[RunState]]


@pytest.fixture(scope="module")
def drawn() -> Drawn:
    """Without those in which the order of events decides how far a limited loop gets before a failure stops it."""
    whole = release(definitions(DRAWN))
    ended = asyncio.run(played_inline(whole))
    kept = [
        whole.definitions[workflow]
        for workflow, [first, *_] in ended.items()
        if not is_settled_by_order(whole.definitions[workflow], first)
    ][:NUMBER]
    return Drawn(release(kept), {each.workflow: ended[each.workflow] for each in kept})


@pytest.mark.parametrize(
    "is_disturbed", [False, pytest.param(True, marks=pytest.mark.crashing)], ids=["undisturbed", "with crashes"]
)
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
    assert {workflow: outcome(runs) for workflow, runs in postgres.items()} == {
        workflow: outcome(runs) for workflow, runs in drawn.ended.items()
    }
    transactions = dict(FickleDatabase.counts)
    record_property("definitions", NUMBER)
    record_property("transactions", transactions)
    print(f"{NUMBER} definitions came to the same; transactions of the workers: {transactions or 'undisturbed'}")  # noqa: T201  the figure is asked for
