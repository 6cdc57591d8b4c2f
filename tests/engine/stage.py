"""A small world for engines: workflows whose steps say what becomes of them, and two engines behind one face."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import math
from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from typing import Literal, NamedTuple, Protocol

from pydantic import JsonValue

from regie.blocks import load_catalogue
from regie.core.audit import Actor
from regie.core.block import Block, Catalogue, Context, Retry, block
from regie.core.capability import Capability, Effect, Record
from regie.core.effect import EffectNote
from regie.core.errors import Failure, LimitReached, Refused, Unavailable
from regie.core.format import FORMAT
from regie.core.outside_event import OutsideEvent
from regie.core.plan import Change, FieldChange, PlannedStep
from regie.core.reading import read_definition
from regie.core.release import Release
from regie.core.run import RunState
from regie.core.run_commands import CloseApproval, FindApprovers, MakePlan, OpenApproval, Perform, StartChild
from regie.core.run_events import (
    ApproversFound,
    Cancelled,
    Decided,
    Event,
    Failed,
    Paused,
    PlanMade,
    Postponed,
    Resumed,
    Succeeded,
)
from regie.core.tenant import Domain, Setting, Tenant
from regie.engine.inline import InlineEngine
from regie.engine.port import Engine, StartRequest, Task
from regie.engine.postgres import PostgresEngine
from regie.engine.working import WorkerLoop
from regie.store import approvals, releases, run_lists, runs
from regie.store.database import Database
from regie.store.inbox import CANCEL, PAUSE, RESUME
from regie.store.keys import RunKey

EVA, OLE = "eva@example.com", "ole@example.com"
OPERATOR = Actor(type="operator", id="cli")
PATIENCE_S = 20.0
"""How long a test waits for what should come in a moment."""


A_MOMENT_S = 0.4
"""How long a test waits for what should not come."""


class Answer(Record):
    """What the one block of these tests gives."""

    value: JsonValue = None


ACT = Capability("thing.act", Effect.WRITE, Answer, Answer, "Act on a thing.")


@block("thing.act", needs=(ACT,), retry=Retry(attempts=3, first_s=0.02, most_s=0.05), timeout_s=5.0)
async def act(ctx: Context, do: str = "ok", value: JsonValue = None) -> Answer:
    """Do what the step says; `Script` is what really does it.

    Example:
        uses: thing.act
    """
    return Answer(value=value)


@block("thing.hurry", retry=Retry(attempts=2, first_s=0.02, most_s=0.05), timeout_s=0.1)
async def hurry(ctx: Context, do: str = "ok") -> Answer:
    """Do it within a tenth of a second.

    Example:
        uses: thing.hurry
    """
    return Answer()


@block("thing.think", retry=Retry(attempts=3, first_s=0.02, most_s=0.05), timeout_s=5.0)
async def think(ctx: Context, do: str = "ok", value: JsonValue = None) -> Answer:
    """Do it without reaching anything outside.

    Example:
        uses: thing.think
    """
    return Answer(value=value)


OWN: tuple[Block, ...] = (act, hurry, think)
CATALOGUE: Catalogue = {**load_catalogue(), **{own.name: own for own in OWN}}

FILES = {
    "five": """
        - id: first
          uses: thing.act
          with: { value: "${{ input.word }}" }
        - uses: thing.act
        - do:
            - uses: thing.act
            - uses: thing.act
        - id: last
          uses: thing.act
          with: { value: "${{ steps.first.value }} again" }
        """,
    "flaky": "- { id: it, uses: thing.act, with: { do: 'fail twice' } }",
    "never": "- { id: it, uses: thing.act, with: { do: 'fail always' } }",
    "refused": """
        - id: it
          uses: thing.act
          with: { do: refuse }
        - uses: thing.act
        """,
    "rescued": """
        - id: it
          uses: thing.act
          with: { do: refuse }
          on-error:
            - id: comfort
              uses: thing.act
              with: { value: "${{ error.kind }}" }
        - uses: thing.act
        """,
    "later": "- { id: it, uses: thing.act, with: { do: later } }",
    "many": """
        - parallel:
            - id: all
              for-each: number in settings.numbers
              at-most: 20
              uses: thing.act
              with: { value: "${{ number }}" }
            - uses: thing.act
        - id: count
          uses: thing.act
          with: { value: "${{ steps.all['items'] | length }}" }
        """,
    "approve": f"""
        - id: approval
          uses: people.approve
          with:
            question: May it be?
            covers: [done]
            ask:
              - {{ who: "user:{EVA}", within: "${{{{ settings.first_within }}}}", remind: 1s }}
              - {{ who: "user:{OLE}", within: "${{{{ settings.last_within }}}}" }}
        - id: done
          if: steps.approval.decision == 'approved'
          uses: thing.act
        - id: said_no
          if: steps.approval.decision != 'approved'
          uses: thing.act
          with: {{ value: "${{{{ steps.approval.decision }}}}" }}
        """,
    "both": f"""
        - parallel:
            - id: approval
              uses: people.approve
              with:
                question: May it be?
                ask: [ {{ who: "user:{EVA}", within: 1h }} ]
            - id: it
              uses: thing.act
              with: {{ do: hold }}
        - uses: thing.act
        """,
    "three": f"""
        - parallel:
            - id: approval
              uses: people.approve
              with:
                question: May it be?
                ask: [ {{ who: "user:{EVA}", within: 1h }} ]
            - uses: thing.act
              with: {{ do: hold }}
            - uses: thing.act
              with: {{ do: hold }}
        """,
    "hold": """
        - id: before
          uses: thing.act
        - id: it
          uses: thing.act
          with: { do: hold }
        - id: after
          uses: thing.act
        """,
    "waits": """
        - id: pause
          wait: 3s
        - parallel:
            - wait: { until: "2026-01-01T00:00:01Z" }
            - wait: { until: "2026-01-01" }
            - wait: ${{ settings.short }}
            - uses: thing.act
        - uses: thing.act
        """,
    "undone": """
        - id: one
          uses: thing.act
          with: { do: change }
          undo: { uses: thing.act, with: { do: 'fail twice' } }
        - id: all
          for-each: item in [1, 2]
          uses: thing.act
          with: { do: change }
          undo: { uses: thing.act, with: { do: refuse } }
        - uses: thing.act
          with: { do: refuse }
        """,
    "parent": """
        - id: child
          run: { workflow: things.child, with: { word: "${{ input.word }}" } }
        - id: after
          uses: thing.act
          with: { value: "${{ steps.child.outcome }} ${{ steps.child.run }}" }
        """,
    "child": """
        - id: first
          uses: thing.act
          with: { value: "${{ input.word }}", do: change }
        - uses: thing.act
          with: { value: "${{ run.requester }}" }
        """,
    "parent_of_failing": """
        - id: child
          run: things.refused
          on-error:
            - id: comfort
              uses: thing.act
              with: { value: "${{ error.kind }}" }
        - id: second
          run: things.refused
        """,
    "parent_of_asking": """
        - id: child
          run: things.approve
        - id: after
          uses: thing.act
          with: { value: "${{ steps.child.outcome }}" }
        """,
    "family": """
        - parallel:
            - id: all
              for-each: number in [0, 1, 2, 3, 4]
              at-most: 2
              run: { workflow: things.parent, with: { word: "${{ number ~ '' }}" } }
            - id: free
              run: { workflow: things.five, detach: true }
            - uses: thing.act
        - id: count
          uses: thing.act
          with: { value: "${{ steps.all['items'] | length }} ${{ steps.all['items'][4].outcome }}" }
        """,
    "parent_of_holding": """
        - parallel:
            - id: child
              run: things.hold
            - id: waiting
              run: things.parent_of_waiting
            - id: free
              run: { workflow: things.hold, detach: true }
        """,
    "parent_of_waiting": "- { id: child, run: things.waits_for_event }",
    "waits_for_event": """
        - id: signed
          wait: { event: contract.sign, where: { who: "${{ input.word }}", pages: 2 }, within: 8h }
        - id: after
          uses: thing.act
          with: { value: "${{ steps.signed.event }}" }
        """,
    "event_came_before": """
        - id: it
          uses: thing.act
          with: { do: hold }
        - id: signed
          wait: { event: contract.sign, within: 8h }
        """,
    "waits_too_long": """
        - id: signed
          wait: { event: contract.sign, where: { who: nobody }, within: "${{ settings.short }}" }
        - id: after
          uses: thing.act
          with: { value: "${{ steps.signed.timed_out }}" }
        """,
    "waits_for_many": """
        - parallel:
            - for-each: number in [1, 2, 3]
              do:
                - wait: { event: contract.sign, where: { page: "${{ number }}" }, within: 1h }
                - uses: thing.act
            - wait: { event: contract.sign, within: 2h }
            - wait: { event: contract.sign, where: { page: 2.0 }, within: 3h }
            - wait: 1s
        """,
    "short": """
        - id: it
          uses: thing.act
          with: { do: change }
          undo: { uses: thing.act, with: { do: ok } }
        - id: too_long
          wait: 1w
        - uses: thing.act
        """,
    "halfway": """
        - id: one
          uses: thing.act
          with: { value: "${{ input.word }}" }
        - id: two
          uses: thing.act
          with: { do: refuse, value: "${{ steps.one.value }}" }
        """,
    "thoughts": """
        - { id: one, uses: thing.think, with: { value: 1 } }
        - { uses: thing.think, with: { do: 'fail twice' } }
        - parallel:
            - { id: two, uses: thing.think, with: { value: "${{ steps.one.value }}" } }
            - { uses: thing.think }
            - { id: deed, uses: thing.act, with: { value: 3 } }
        - for-each: item in [1, 2, 3]
          uses: thing.think
        - { id: sum, uses: thing.think, with: { value: "${{ steps.two.value + steps.deed.value }}" } }
        """,
    "unthinkable": """
        - { id: one, uses: thing.think, with: { value: 1 } }
        - { id: bad, uses: thing.think, with: { do: "${{ input.word }}" } }
        - { uses: thing.think }
        """,
    "musing": """
        - { uses: thing.think }
        - { id: it, uses: thing.think, with: { do: hold } }
        - { id: after, uses: thing.think }
        """,
    "broken": "- { id: it, uses: thing.act, with: { do: break } }",
    "unkept": """
        - id: approval
          uses: people.approve
          with:
            question: May it be?
            ask: [ { who: "user:${{ input.word }}", within: 1h } ]
        """,
    "slow": "- { id: it, uses: thing.hurry, with: { do: hold } }",
}
FILES |= {
    "limited": """
        - parallel:
            - id: all
              for-each: number in [0, 1, 2, 3, 4]
              at-most: 2
              uses: thing.act
              with: { do: spend, value: "${{ number }}" }
              undo: { uses: thing.act }
              on-error:
                - uses: thing.act
            - id: beside
              uses: thing.act
        - id: after
          uses: thing.act
        """,
    "started": """
        - id: first
          uses: thing.act
          with: { value: "${{ input.word }}" }
        """,
    "telling": """
        - id: tell
          uses: event.publish
          with: { event: thing.happen, data: { kind: good, count: 2, word: "${{ input.word }}" } }
        - uses: thing.act
        """,
    "telling_itself": """
        - id: tell
          uses: event.publish
          with: { event: thing.echo, data: { word: "${{ input.word }}" } }
        """,
}
FILES["reminded"] = FILES["approve"].replace("first_within", "longer").replace("last_within", "short")
FILES["silent"] = FILES["reminded"].replace("longer", "short")
# Its last rung can be looked at before it is over, on a busy machine too.
FILES["silent_in_the_end"] = FILES["approve"].replace("first_within", "short").replace("last_within", "longer")


def release() -> Release:
    """Everything above, loaded."""
    head = "title: Try\nowner: team:test\ninput: { word: { type: text, default: nothing, from: event.word } }\nsteps:\n"
    names = {name: f"things.{name}" for name in FILES}
    heads = {
        "limited": "limit:\n  changes: 2\n  ask:\n"
        f"    - {{ who: 'user:{EVA}', within: 2s }}\n    - {{ who: 'user:{OLE}', within: 2s }}\n",
        "short": "sla: { finish: 1s, stop: 1s }\n",
        "started": "start: { event: { name: thing.happen, where: { kind: good }, if: event.count > 1 } }\n",
        "telling_itself": "start: { event: { name: thing.echo } }\n",
    }
    texts = {
        workflow: f"workflow: {workflow}\n{heads.get(name, '')}{head}{FILES[name].strip(chr(10))}\n"
        for name, workflow in names.items()
    }
    values: dict[str, JsonValue] = {
        "numbers": list(range(200)),
        "first_within": "8h",
        "last_within": "4h",
        "longer": "3s",
        "short": "1s",
    }
    return Release(
        definitions={workflow: read_definition(text, f"{workflow}.yaml")[0] for workflow, text in texts.items()},
        domains={
            "things": Domain(
                domain="things",
                title="Things",
                owner="team:test",
                classification="internal",
                settings={name: Setting(about=name, default=value) for name, value in values.items()},
            )
        },
        tenants={"acme": Tenant(tenant="acme", title="Acme", domains=("things",), connections={})},
        blocks={own.name: tuple(need.name for need in own.needs) for own in OWN},
    )


RELEASE = release()


class Script:
    """Does what each step says.

    One of `ok`, `fail twice`, `fail always`, `refuse`, `later`, `change`, `spend`, `hold`, `no number`, `break`.

    Attributes:
        calls: Every piece of work begun, by run, place and attempt.
        spent: Where each run has made a change that counts, and `allowance` how many it may make.
        held: Places at which somebody waits for `let_go`, as they come.
    """

    def __init__(self) -> None:
        self.calls: Counter[tuple[str, str, int]] = Counter()
        self.spent: defaultdict[str, list[str]] = defaultdict(list)
        self.allowance: defaultdict[str, int] = defaultdict(lambda: 2)
        self.held: asyncio.Queue[str] = asyncio.Queue()
        self.gates: dict[str, asyncio.Event] = defaultdict(asyncio.Event)

    def let_go(self, run: str) -> None:
        self.gates[run].set()

    def places(self, key: RunKey) -> list[str]:
        """Where the run's work was, in the order begun; planning and finding included."""
        return [place for run, place, _ in self.calls if run == key.run]

    async def perform(self, task: Task) -> Event:
        work = task.work
        self.calls[task.key.run, work.place, work.attempt] += 1
        match work:
            case MakePlan():
                plan = tuple(
                    PlannedStep(place=step.place, uses=step.uses, planned=_change(step.place)) for step in work.steps
                )
                return PlanMade(place=work.place, attempt=work.attempt, plan=plan)
            case FindApprovers():
                found = (work.who.removeprefix("user:"),)
                return ApproversFound(place=work.place, attempt=work.attempt, rung=work.rung, approvers=found)
            case Perform():
                return await self._do(task.key.run, work)

    async def _do(self, run: str, work: Perform) -> Event:
        place, attempt = work.place, work.attempt
        output: dict[str, JsonValue] = {"value": work.arguments.get("value")}
        match work.arguments.get("do", "ok"):
            case "fail twice" | "fail always" as how if how == "fail always" or attempt <= 2:
                return Failed(place=place, attempt=attempt, failure=Failure.of(Unavailable("Not now.")))
            case "refuse":
                return Failed(place=place, attempt=attempt, failure=Failure.of(Refused("No.", status=400)))
            case "later" if work.handle is None:
                return Postponed(place=place, attempt=attempt, handle={"job": 7}, again_after_s=0.05)
            case "later":
                output = {"value": work.handle}
            case "spend" if len(self.spent[run]) >= self.allowance[run]:
                failure = Failure.of(LimitReached("This run may make no more changes."))
                return Failed(place=place, attempt=attempt, failure=failure)
            case "spend" | "change" as how:
                self.spent[run] += [place] if how == "spend" else []
                note = EffectNote(capability="thing.act", target=place, words="on: false -> true", changed=True)
                return Succeeded(place=place, attempt=attempt, output=output, effects=(note,))
            case "no number":
                output = {"value": math.nan}
            case "break":
                raise ZeroDivisionError
            case "hold":
                self.held.put_nowait(run)
                await self.gates[run].wait()
        return Succeeded(place=place, attempt=attempt, output=output)


def _change(place: str) -> Change:
    field_change = FieldChange(field="on", before=True, after=False)
    return Change(capability="thing.act", target=f"thing:{place}", title="The thing", fields=(field_change,))


class Asked(NamedTuple):
    """An approval as people see it."""

    status: str
    rung: int
    approvers: tuple[str, ...]


def wants(workflow: str, trigger: str, **more: JsonValue) -> StartRequest:
    """A request for one of the workflows above."""
    return StartRequest(
        tenant="acme", workflow=f"things.{workflow}", trigger_key=trigger, started_by=OPERATOR, given=more
    )


class Stage(Protocol):
    """An engine with somebody who moves its runs."""

    engine: Engine
    script: Script

    async def start(self, workflow: str, *, dry: bool = False, **given: JsonValue) -> RunKey:
        """Start a run under a new trigger."""
        ...

    async def until(self, key: RunKey, holds: Callable[[RunState], bool]) -> RunState:
        """Let time pass until something holds of a run, or fail."""
        ...

    async def asked(self, key: RunKey) -> Asked | None:
        """The run's approval, if one was opened."""
        ...

    async def decide(
        self, key: RunKey, by: str, decision: Literal["approved", "refused"], place: str = "approval"
    ) -> None:
        """Decide the run's approval as a person would."""
        ...

    async def cancel(self, key: RunKey) -> None:
        """Cancel the run as a person would."""
        ...

    async def children(self, key: RunKey) -> list[RunKey]:
        """The runs that the run has started, in the order in which it did."""
        ...

    async def start_cancelled(self, workflow: str) -> RunKey:
        """Start a run and cancel it before any worker has seen it."""
        ...

    async def pause(self, key: RunKey) -> None:
        """Pause the run as a person would."""
        ...

    async def resume(self, key: RunKey) -> None:
        """Resume the run as a person would."""
        ...

    async def start_paused(self, workflow: str) -> RunKey:
        """Start a run and pause it before any worker has seen it."""
        ...

    async def a_moment(self) -> None:
        """Let everything happen that can happen without an answer of people."""
        ...


_numbers = itertools.count()


def contract(event_id: str, **data: JsonValue) -> OutsideEvent:
    """An event that somebody has signed a contract."""
    return OutsideEvent(tenant="acme", domain="things", id=event_id, name="contract.sign", data=data)


def a_request(workflow: str, *, dry: bool, given: dict[str, JsonValue]) -> StartRequest:
    return StartRequest(
        tenant="acme",
        workflow=f"things.{workflow}",
        trigger_key=f"trigger-{next(_numbers)}",
        started_by=OPERATOR,
        given=given,
        dry=dry,
    )


class InlineStage:
    """The engine in memory; waiting turns its clock."""

    def __init__(self) -> None:
        self.script = Script()
        self.inline = InlineEngine(RELEASE, CATALOGUE, self.script)
        self.engine: Engine = self.inline

    async def start(self, workflow: str, *, dry: bool = False, **given: JsonValue) -> RunKey:
        return (await self.engine.start(a_request(workflow, dry=dry, given=given))).key

    async def until(self, key: RunKey, holds: Callable[[RunState], bool]) -> RunState:
        await self.inline.settle()
        while not holds(state := await self.engine.state(key)):
            assert await self.inline.turn_clock(), f"it never comes: {state}"
            await self.inline.settle()
        return state

    async def asked(self, key: RunKey) -> Asked | None:
        notes = self.inline.notes(key)
        opened = [note for note in notes if isinstance(note, OpenApproval)]
        if not opened:
            return None
        output = (await self.engine.state(key)).steps[opened[-1].place].output
        decision = str(output["decision"]) if isinstance(output, dict) else "open"
        closed = [note.decision for note in notes if isinstance(note, CloseApproval)]
        assert (decision == "timeout") == ("timeout" in closed)
        decision = "cancelled" if "cancelled" in closed else decision
        return Asked(decision, opened[-1].rung, opened[-1].approvers)

    async def decide(
        self, key: RunKey, by: str, decision: Literal["approved", "refused"], place: str = "approval"
    ) -> None:
        event = Decided(place=place, decision=decision, by=by)
        await self.engine.deliver(key, f"decision:{approvals.approval_id(key, place)}", event)

    async def cancel(self, key: RunKey) -> None:
        await self.engine.deliver(key, CANCEL, Cancelled(by=OLE))

    async def children(self, key: RunKey) -> list[RunKey]:
        started = [note.run for note in self.inline.notes(key) if isinstance(note, StartChild)]
        return [key._replace(run=run) for run in started]

    async def start_cancelled(self, workflow: str) -> RunKey:
        key = await self.start(workflow)
        await self.cancel(key)
        return key

    async def pause(self, key: RunKey) -> None:
        await self.engine.deliver(key, f"{PAUSE}:{next(_numbers)}", Paused(by=OLE))

    async def resume(self, key: RunKey) -> None:
        await self.engine.deliver(key, f"{RESUME}:{next(_numbers)}", Resumed(by=OLE))

    async def start_paused(self, workflow: str) -> RunKey:
        key = await self.start(workflow)
        await self.pause(key)
        return key

    async def a_moment(self) -> None:
        await self.inline.settle()
        while await self.inline.turn_clock():
            await self.inline.settle()


@dataclass
class PostgresStage:
    """The engine over a database; waiting is waiting, with workers beside."""

    database: Database
    script: Script = field(default_factory=Script)
    working: Database | None = None
    """The database as workers open it; the same when nothing is said."""

    def __post_init__(self) -> None:
        self.postgres = PostgresEngine(self.database)
        self.engine: Engine = self.postgres

    def worker(
        self, script: Script | None = None, *, slots: int = 32, name: str = "worker", reads: int = FORMAT
    ) -> WorkerLoop:
        performer = script or self.script
        return WorkerLoop(
            self.working or self.database, CATALOGUE, performer, ["things"], name=name, slots=slots, reads=reads
        )

    async def start(self, workflow: str, *, dry: bool = False, **given: JsonValue) -> RunKey:
        return (await self.engine.start(a_request(workflow, dry=dry, given=given))).key

    async def until(self, key: RunKey, holds: Callable[[RunState], bool]) -> RunState:
        found: list[RunState] = []

        async def look() -> bool:
            found[:] = [await self.engine.state(key)]
            return holds(found[0])

        await until(look)
        return found[0]

    async def asked(self, key: RunKey) -> Asked | None:
        async with self.database.reading() as tx:
            rows = await approvals.of_run(tx, key)
        return Asked(rows[0].status, rows[0].rung, tuple(rows[0].approvers)) if rows else None

    async def decide(
        self, key: RunKey, by: str, decision: Literal["approved", "refused"], place: str = "approval"
    ) -> None:
        async with self.database.transaction() as tx:
            await approvals.decide(tx, key, approvals.approval_id(key, place), person=by, decision=decision)

    async def cancel(self, key: RunKey) -> None:
        async with self.database.transaction() as tx:
            await runs.cancel(tx, key, Actor(type="person", id=OLE), Cancelled(by=OLE))

    async def children(self, key: RunKey) -> list[RunKey]:
        async with self.database.reading() as tx:
            return [row.key for row in await run_lists.children_of(tx, key)]

    async def start_cancelled(self, workflow: str) -> RunKey:
        async with self.database.transaction() as tx:
            started = await self.postgres.start_in(tx, a_request(workflow, dry=False, given={}))
            await runs.cancel(tx, started.key, Actor(type="person", id=OLE), Cancelled(by=OLE))
        return started.key

    async def pause(self, key: RunKey) -> None:
        async with self.database.transaction() as tx:
            await runs.state_of(tx, key, lock=True)
            assert await runs.pause(tx, key, Actor(type="person", id=OLE), Paused(by=OLE))

    async def resume(self, key: RunKey) -> None:
        async with self.database.transaction() as tx:
            await runs.state_of(tx, key, lock=True)
            assert await runs.resume(tx, key, Actor(type="person", id=OLE), Resumed(by=OLE))

    async def start_paused(self, workflow: str) -> RunKey:
        async with self.database.transaction() as tx:
            started = await self.postgres.start_in(tx, a_request(workflow, dry=False, given={}))
            assert await runs.pause(tx, started.key, Actor(type="person", id=OLE), Paused(by=OLE))
        return started.key

    async def a_moment(self) -> None:
        await asyncio.sleep(A_MOMENT_S)


async def until(holds: Callable[[], Awaitable[bool]]) -> None:
    """Wait until something holds; a test fails when it does not in good time."""
    async with asyncio.timeout(PATIENCE_S):
        while not await holds():  # noqa: ASYNC110  what is waited for is in a database
            await asyncio.sleep(0.01)


@contextlib.asynccontextmanager
async def at_work(*loops: WorkerLoop) -> AsyncIterator[asyncio.Event]:
    """Workers for as long as the block lasts; the event stops them earlier."""
    stop = asyncio.Event()
    tasks = [asyncio.create_task(loop.run(stop)) for loop in loops]
    try:
        yield stop
    finally:
        stop.set()
        await asyncio.gather(*tasks)


async def load(database: Database) -> None:
    """Make the release above the current one."""
    async with database.transaction() as tx:
        await releases.put(tx, RELEASE, by=OPERATOR)
