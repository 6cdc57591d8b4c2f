"""The engine in memory with a clock that is turned by hand: for tests and simulation. Nothing survives the process.

It re-encodes every state and event as JSON, so that what would not survive a database does not survive here either.
"""

from __future__ import annotations

import heapq
import itertools
import uuid
from collections import deque
from dataclasses import dataclass, field
from datetime import UTC, datetime

import structlog

from regie.core import stopping
from regie.core.audit import Actor
from regie.core.block import Catalogue
from regie.core.errors import InvalidInput
from regie.core.event_starts import begun_by
from regie.core.interpreter import advance, begin, outstanding
from regie.core.outside_event import OutsideEvent, marks_of
from regie.core.release import Release
from regie.core.run import Cause, RunFacts, RunState
from regie.core.run_commands import (
    AwaitEvent,
    CancelChild,
    ClearTimer,
    Command,
    ForgetEvent,
    PauseChild,
    PublishEvent,
    ResumeChild,
    SetTimer,
    StartChild,
    TellParent,
    Work,
)
from regie.core.run_events import EVENT, Begun, Cancelled, Event, EventArrived, Paused, Resumed, TimerFired
from regie.engine.accepting import accept, accept_child, accept_rerun, child_trigger, require_place
from regie.engine.event_starting import request_of
from regie.engine.port import Performer, RerunRequest, Started, StartRequest, Task, broken, turn
from regie.store.event_starts import Unstarted
from regie.store.inbox import CANCEL
from regie.store.keys import RunKey

BEGAN_AT = datetime(2026, 1, 1, tzinfo=UTC)
"""Beginning of time, if nothing else is said."""

log = structlog.get_logger(__name__)


@dataclass
class _Run:
    facts: RunFacts
    state_json: str
    inbox: deque[Event] = field(default_factory=deque)
    seen: set[str] = field(default_factory=set)
    timers: dict[str, int] = field(default_factory=dict)
    notes: list[Command] = field(default_factory=list)
    awaits: dict[str, AwaitEvent] = field(default_factory=dict)
    events_before: int = 0
    """How many events from outside had arrived when it started."""


class InlineEngine:
    """Runs live in this object.

    Args:
        release: What every run is pinned to.
        catalogue: The blocks.
        performer: Carries out the work, one piece after the other.
        began_at: What its clock says at the beginning.
    """

    def __init__(
        self, release: Release, catalogue: Catalogue, performer: Performer, began_at: datetime = BEGAN_AT
    ) -> None:
        self.release = release
        self.catalogue = catalogue
        self.performer = performer
        self.began_at = began_at
        self.now_s = 0.0
        self._runs: dict[RunKey, _Run] = {}
        self._by_trigger: dict[tuple[str, str, str], RunKey] = {}
        self._due: list[tuple[float, int, RunKey, str]] = []
        self._numbers = itertools.count()
        self._events: list[OutsideEvent] = []

    async def start(self, request: StartRequest) -> Started:
        """Accept a run. See `port.Engine`."""
        return self._accept(begin(accept(request, self.release, str(uuid.uuid4()))), request.trigger_key)

    async def rerun(self, request: RerunRequest) -> Started:
        """Accept a run that repeats another in part. See `port.Engine`."""
        before = await self.state(request.key)
        state = accept_rerun(request, before, self.release, self.release, str(uuid.uuid4()))
        return self._accept(state, request.trigger_key)

    def _accept(self, state: RunState, trigger_key: str) -> Started:
        facts = state.facts
        trigger = (facts.tenant, facts.domain, trigger_key)
        if trigger in self._by_trigger:
            return Started(self._by_trigger[trigger], is_new=False)
        return Started(self._add(state, trigger), is_new=True)

    def _add(self, state: RunState, trigger: tuple[str, str, str]) -> RunKey:
        facts = state.facts
        key = RunKey(facts.tenant, facts.domain, facts.id)
        run = _Run(facts, state.model_dump_json(), events_before=len(self._events))
        run.inbox.append(Begun())
        self._runs[key] = run
        self._by_trigger[trigger] = key
        for timer in stopping.timers(self.release.definition(facts.workflow), facts):
            self._carry_out(key, run, timer, deque())
        return key

    async def publish(self, event: OutsideEvent, by: Actor) -> bool:
        """Take an event from outside. See `port.Engine`."""
        require_place(self.release, event.tenant, event.domain)
        return self._tell(event, by, Cause(event=event.id, name=event.name))

    def _tell(self, event: OutsideEvent, by: Actor, cause: Cause) -> bool:
        place = (event.tenant, event.domain, event.id)
        for known in self._events:
            if (known.tenant, known.domain, known.id) == place:
                if known != event:
                    raise InvalidInput("This id was used for another event.", hint="Each event has its own.")
                return False
        self._events.append(event)
        for key, run in self._runs.items():
            for awaited in list(run.awaits.values()):
                self._meet(key, run, awaited)
        for begun in begun_by(self.release, event, cause):
            request = request_of(begun, event, Unstarted(event, by, cause, ""))
            self._accept(begin(accept(request, self.release, str(uuid.uuid4()))), request.trigger_key)
        return True

    async def deliver(self, key: RunKey, inbox_key: str, event: Event) -> bool:
        """Put an event in the inbox. See `port.Engine`."""
        return self._put(key, inbox_key, event)

    def _put(self, key: RunKey, inbox_key: str, event: Event) -> bool:
        run = self._run(key)
        if inbox_key in run.seen:
            return False
        run.seen.add(inbox_key)
        run.inbox.append(EVENT.validate_json(EVENT.dump_json(event)))
        return True

    async def state(self, key: RunKey) -> RunState:
        """Where a run stands. See `port.Engine`."""
        return RunState.model_validate_json(self._run(key).state_json)

    def notes(self, key: RunKey) -> list[Command]:
        """The records a run has produced so far, in order: what a durable engine would have written."""
        return list(self._run(key).notes)

    async def settle(self) -> None:
        """Move every run until all are finished or wait."""
        # What one run does may give another one something to do, or start one.
        while moving := [(key, run) for key, run in self._runs.items() if run.inbox]:
            for key, run in moving:
                await self._settle_one(key, run)

    async def turn_clock(self) -> bool:
        """Turn the clock to the next timer and fire it; false when there is none."""
        while self._due:
            at_s, number, key, timer = heapq.heappop(self._due)
            run = self._runs[key]
            if run.timers.get(timer) != number:
                continue
            del run.timers[timer]
            self.now_s = at_s
            run.inbox.append(TimerFired(timer=timer))
            return True
        return False

    def _run(self, key: RunKey) -> _Run:
        if key not in self._runs:
            raise InvalidInput(f"There is no run {key.run}.")
        return self._runs[key]

    async def _settle_one(self, key: RunKey, run: _Run) -> None:
        definition = self.release.definition(run.facts.workflow)
        state = RunState.model_validate_json(run.state_json)
        work: deque[Work] = deque(outstanding(definition, self.catalogue, state))
        while run.inbox or work:
            if run.inbox:
                event = min(run.inbox, key=turn)
                run.inbox.remove(event)
            else:
                event = await self._perform(Task(key, 1, run.facts, self.release, work.popleft()))
            step = advance(definition, self.catalogue, state, EVENT.validate_json(EVENT.dump_json(event)))
            run.state_json = step.state.model_dump_json()
            state = RunState.model_validate_json(run.state_json)
            for command in step.commands:
                self._carry_out(key, run, command, work)

    async def _perform(self, task: Task) -> Event:
        try:
            return await self.performer.perform(task)
        except Exception as error:
            log.exception("work:broke", run=task.key.run, place=task.work.place)
            return broken(task.work, error)

    def _due_s(self, command: SetTimer) -> float:
        """Seconds since the beginning."""
        if command.at:
            return max(self.now_s, (datetime.fromisoformat(command.at) - self.began_at).total_seconds())
        return self.now_s + command.after_s

    def _carry_out(self, key: RunKey, run: _Run, command: Command, work: deque[Work]) -> None:
        match command:
            case SetTimer():
                number = next(self._numbers)
                run.timers[command.timer] = number
                heapq.heappush(self._due, (self._due_s(command), number, key, command.timer))
            case ClearTimer():
                run.timers.pop(command.timer, None)
            case _ if isinstance(command, Work):
                work.append(command)
            case _:
                self._carry_further(key, run, command)
                run.notes.append(command)

    def _carry_further(self, key: RunKey, run: _Run, command: Command) -> None:
        """What a command means for other runs, or for events from outside."""
        match command:
            case StartChild():
                trigger = (key.tenant, key.domain, child_trigger(command, key.run))
                if trigger not in self._by_trigger:
                    self._add(begin(accept_child(run.facts, command, self.release)), trigger)
            case CancelChild():
                child = RunKey(key.tenant, key.domain, command.run)
                self._put(child, CANCEL, Cancelled(by=command.by, reason=command.reason))
            case PauseChild() | ResumeChild():
                is_pause = isinstance(command, PauseChild)
                told = (Paused if is_pause else Resumed)(by=command.by, reason=command.reason, parent=key.run)
                self._put(key._replace(run=command.run), f"{command.kind}:{next(self._numbers)}", told)
            case TellParent():
                parent = RunKey(key.tenant, key.domain, command.run)
                self._put(parent, f"child:{command.ended.place}", command.ended)
            case AwaitEvent():
                run.awaits[command.place] = command
                self._meet(key, run, command)
            case ForgetEvent():
                run.awaits.pop(command.place, None)
            case PublishEvent():
                self._tell(command.event, Actor(type="engine", id=run.facts.started_by), command.cause)

    def _meet(self, key: RunKey, run: _Run, awaited: AwaitEvent) -> None:
        """Deliver the first event since the run's start that a step waits for, if it has arrived."""
        wanted = set(marks_of(awaited.event, awaited.where))
        for event in self._events[run.events_before :]:
            if (event.tenant, event.domain) == (key.tenant, key.domain) and wanted <= set(event.marks):
                del run.awaits[awaited.place]
                arrived = EventArrived(place=awaited.place, event=event.name, id=event.id, data=event.data)
                self._put(key, f"event:{awaited.place}", arrived)
                return
