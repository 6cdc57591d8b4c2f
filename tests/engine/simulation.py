"""A run, its row in a database and two workers, simulated: every commit, crash and delay is chosen by whoever plays.

The interpreter is the real one. `Row` follows the rules of `store` (fence, sequence, inbox, ready), `Worker` those of
`engine.live`: one transaction for an event and what follows from it inside, nothing known of it when its answer is
lost, nothing remembered by a worker that died. Children and programs are there only for what they tell: that a child is
over, that an event has arrived. People decide, and pause the run again and again. `Rules` turns single rules off, so
that a test can show that the simulation notices.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from enum import Enum
from typing import NamedTuple

from regie.core.definition import Definition
from regie.core.interpreter import Advance, advance, begin, has_begun, outstanding
from regie.core.places import written_place
from regie.core.run import RunFacts, RunState
from regie.core.run_commands import (
    AwaitEvent,
    CancelChild,
    ClearTimer,
    Command,
    ForgetEvent,
    Perform,
    SetTimer,
    StartChild,
    StepEnded,
    TellParent,
    Work,
)
from regie.core.run_events import EVENT, Begun, Event, EventArrived, Paused, Resumed, TimerFired
from regie.core.status import StepStatus
from regie.engine.port import turn
from tests.core.test_interpreter_properties import MOST_REMINDERS, Fate
from tests.core.trial import CATALOGUE, OLE


class Wrong(AssertionError):
    """Something happened that must never happen."""


class Fenced(Exception):
    """A worker wrote about a run that it does not have any more."""


class Steered(Exception):
    """Somebody has paused the run behind what a worker has heard."""


class Outcome(Enum):
    """What becomes of a commit."""

    OK = "ok"
    FAILED = "failed"
    """Nothing was written, and the worker is told so."""
    LOST = "lost"
    """Nothing was written, and the worker is told nothing."""
    UNTOLD = "untold"
    """It was written, and the worker is told nothing."""


TELLINGS = 2
"""How often somebody decides, and a child says that it is over: the second time finds it told."""
MOST_PAUSES = 3
OUTCOMES = (*[Outcome.OK] * 5, Outcome.FAILED, Outcome.LOST, Outcome.UNTOLD)


@dataclass(frozen=True)
class Rules:
    """Which rules are kept."""

    checks_fence: bool = True
    parks_only_what_was_seen: bool = True
    reads_again_what_is_unknown: bool = True
    hears_pauses_first: bool = True


class Claim(NamedTuple):
    """A worker's handle on the run."""

    fence: int
    seq: int


@dataclass(frozen=True)
class Written:
    """What one commit writes. `base` is the state that the worker started from, `event` what led to it."""

    event: Event
    base: str
    state: str
    commands: tuple[Command, ...]
    consumed: str | None
    heard: int
    park_seen: int | None


@dataclass
class Row:
    """The run in the database, with its inbox and timers, and what it means for others."""

    rules: Rules
    fate: Fate
    state: str
    owner: int | None = None
    fence: int = 0
    seq: int = 0
    is_ready: bool = True
    inbox: list[tuple[str, str]] = field(default_factory=list)
    consumed: set[str] = field(default_factory=set)
    timers: dict[str, int] = field(default_factory=dict)
    reminders: Counter[str] = field(default_factory=Counter)
    ended: Counter[tuple[str, int]] = field(default_factory=Counter)
    children: dict[str, StartChild] = field(default_factory=dict)
    awaited: set[str] = field(default_factory=set)
    farewells: list[TellParent] = field(default_factory=list)

    def claim(self, worker: int) -> Claim | None:
        if self.owner is not None or not self.is_ready:
            return None
        self.owner, self.is_ready, self.fence = worker, False, self.fence + 1
        return Claim(self.fence, self.seq)

    def commit(self, claim: Claim, written: Written) -> Claim:
        if self.rules.checks_fence and (self.owner is None or (self.fence, self.seq) != claim):
            raise Fenced
        if self.is_paused_behind(written.heard):
            if self.rules.hears_pauses_first:
                raise Steered
            if any(isinstance(command, Work) for command in written.commands):
                raise Wrong("work was handed out though somebody had paused the run")
        if written.base != self.state:
            raise Wrong(f"a commit was made from another state than the one it replaces, at {self.seq}")
        if written.consumed is not None:
            if written.consumed in self.consumed:
                raise Wrong(f"{written.consumed} was taken in twice")
            self.consumed.add(written.consumed)
        self.state, self.seq = written.state, self.seq + 1
        if written.park_seen is not None:
            self._let_go(written.park_seen)
        for command in written.commands:
            self._carry_out(command)
        if RunState.model_validate_json(self.state).status.is_final:
            self.owner, self.is_ready = None, False
            self.timers.clear()
        return Claim(self.fence, self.seq)

    def is_paused_behind(self, heard: int) -> bool:
        return any(key.startswith("pause:") and key not in self.consumed for key, _ in self.inbox[heard:])

    def _carry_out(self, command: Command) -> None:
        match command:
            case SetTimer():
                self.timers[command.timer] = self.seq
            case ClearTimer():
                self.timers.pop(command.timer, None)
            case StepEnded():
                self.ended[command.place, command.attempt] += 1
            case StartChild():
                if command.place in self.children:
                    raise Wrong(f"a child was started twice: {command.place}")
                self.children[command.place] = command
            case CancelChild():
                raise Wrong(f"nobody cancelled the child {command.place}")
            case AwaitEvent():
                self._await(command.place)
            case ForgetEvent():
                self.awaited.discard(command.place)
            case TellParent():
                self.farewells.append(command)

    def _await(self, place: str) -> None:
        """Wait for an event; one that has arrived before is delivered at once."""
        event = self.fate.event(place)
        if event is not None and self.fate.pick(("before", "later"), f"{place}/when") == "before":
            self.deliver(f"event:{place}", event)
        else:
            self.awaited.add(place)

    def arrive(self, event: EventArrived) -> None:
        """Bring an event to the step that waits for it."""
        self.awaited.remove(event.place)
        self.deliver(f"event:{event.place}", event)

    def was_committed(self, claim: Claim) -> bool:
        if self.fence != claim.fence:
            raise Fenced
        return self.seq == claim.seq + 1

    def park(self, claim: Claim, seen: int) -> None:
        if (self.fence, self.seq) != claim or self.owner is None:
            raise Fenced
        self._let_go(seen)

    def _let_go(self, seen: int) -> None:
        self.owner = None
        self.is_ready = len(self.inbox) > seen if self.rules.parks_only_what_was_seen else False

    def deliver(self, key: str, event: Event) -> bool:
        if self.has(key):
            return False
        self.inbox.append((key, EVENT.dump_json(event).decode()))
        if not RunState.model_validate_json(self.state).status.is_final:
            self.is_ready = True
        return True

    def has(self, key: str) -> bool:
        """Whether an event has ever arrived."""
        return any(known == key for known, _ in self.inbox)

    def fire(self, timer: str) -> None:
        at = self.timers.pop(timer)
        self.reminders[timer] += 1
        self.deliver(f"timer:{timer}:{at}", TimerFired(timer=timer))

    def rescue(self, worker: int) -> None:
        """Give its runs to others: it is dead, or taken for dead."""
        if self.owner == worker:
            self.owner, self.is_ready = None, True

    def unread(self, seen: int) -> list[tuple[int, str, Event]]:
        return [
            (number, key, EVENT.validate_json(payload))
            for number, (key, payload) in enumerate(self.inbox, start=1)
            if number > seen and key not in self.consumed
        ]


def stays_inside(work: Work) -> bool:
    return isinstance(work, Perform) and not CATALOGUE[work.uses].needs


@dataclass
class Worker:
    """A worker process that has the run, or thinks so."""

    name: int
    definition: Definition
    row: Row
    claim: Claim
    state: RunState = field(init=False)
    seen: int = 0
    inbox_n: int = 0
    waiting: deque[tuple[str | None, Event]] = field(default_factory=deque)
    out: list[Work] = field(default_factory=list)
    in_doubt: Written | None = None
    is_over: bool = False

    def __post_init__(self) -> None:
        self.state = RunState.model_validate_json(self.row.state)
        self.look()
        self.out = list(outstanding(self.definition, CATALOGUE, self.state))
        if not has_begun(self.state):
            self.waiting.append((None, Begun()))

    def look(self) -> None:
        """Read the inbox; what people say goes first."""
        for number, key, event in self.row.unread(self.seen):
            self.waiting.append((key, event))
            self.seen = number
        self.inbox_n = max(self.inbox_n, self.seen, len(self.row.inbox))
        self.waiting = deque(sorted(self.waiting, key=lambda entry: turn(entry[1])))

    def move(self, choose: Callable[[int], int], fate: Fate, outcome: Outcome) -> None:
        """Do the next thing: settle a doubt, take an event in, finish a piece of work, or let go."""
        try:
            if self.in_doubt is not None:
                self.settle(self.in_doubt, outcome)
            elif self.waiting:
                self.take(*self.waiting.popleft(), fate, outcome)
            elif self.out:
                self.waiting.append((None, fate.answer(self.out.pop(choose(len(self.out))))))
            else:
                self.row.park(self.claim, self.inbox_n)
                self.is_over = True
        except Fenced:
            self.is_over = True

    def take(self, key: str | None, event: Event, fate: Fate, outcome: Outcome) -> None:
        step = advance(self.definition, CATALOGUE, self.state, event)
        if key is None and not step.commands and step.state == self.state:
            return
        state, commands = self.follow(step, fate)
        has_more = self.waiting or self.out or any(isinstance(command, Work) for command in commands)
        is_last = state.status.is_final or not has_more
        park_seen = self.inbox_n if is_last and not state.status.is_final else None
        base = self.state.model_dump_json()
        written = Written(event, base, state.model_dump_json(), tuple(commands), key, self.inbox_n, park_seen)
        self.write(written, outcome)

    def follow(self, step: Advance, fate: Fate) -> tuple[RunState, list[Command]]:
        """Do what follows and reaches nothing outside, to be written together with what led to it."""
        state, commands = step.state, list(step.commands)
        while works := [command for command in commands if isinstance(command, Work)]:
            if self.waiting or self.out or not all(stays_inside(work) for work in works):
                break
            commands = [command for command in commands if not isinstance(command, Work)]
            for work in works:
                further = advance(self.definition, CATALOGUE, state, fate.answer(work))
                state = further.state
                commands += further.commands
        return state, commands

    def write(self, written: Written, outcome: Outcome) -> None:
        if outcome in {Outcome.FAILED, Outcome.LOST}:
            self.in_doubt = written
            return
        try:
            after = self.row.commit(self.claim, written)
        except Steered:
            self.waiting.append((written.consumed, written.event))
            self.look()
            if not any(isinstance(event, Paused) for _, event in self.waiting):
                raise Wrong("a commit was refused for a pause that nobody finds") from None
            return
        if outcome is Outcome.UNTOLD:
            self.in_doubt = written
            return
        self.written(after, written)

    def settle(self, written: Written, outcome: Outcome) -> None:
        """Find out what became of a commit; write again what was not written."""
        self.in_doubt = None
        if self.row.rules.reads_again_what_is_unknown and self.row.was_committed(self.claim):
            self.written(Claim(self.claim.fence, self.claim.seq + 1), written)
            return
        self.write(written, outcome)

    def written(self, after: Claim, written: Written) -> None:
        self.claim = after
        self.state = RunState.model_validate_json(written.state)
        self.out += [command for command in written.commands if isinstance(command, Work)]
        self.is_over = written.park_seen is not None or self.state.status.is_final


@dataclass
class Simulation:
    """Everything that can happen to one run."""

    definition: Definition
    fate: Fate
    facts: RunFacts
    rules: Rules = Rules()
    workers: int = 2
    alive: dict[int, Worker] = field(default_factory=dict)
    ghosts: list[Worker] = field(default_factory=list)
    told: Counter[str] = field(default_factory=Counter)
    pauses: int = 0
    resumptions: int = 0
    lives: int = 0

    def __post_init__(self) -> None:
        self.row = Row(self.rules, self.fate, begin(self.facts).model_dump_json())

    @property
    def state(self) -> RunState:
        return RunState.model_validate_json(self.row.state)

    def disturbed(self, choices: list[int]) -> None:
        """Let anything happen that can, in the order of the choices."""
        for at, choice in enumerate(choices):
            outcome = OUTCOMES[(choice // 64) % len(OUTCOMES)]
            actions = [*self.ordinary(choice // 7, outcome), *self.trouble()]
            if actions:
                actions[(choice + at) % len(actions)]()

    def calm(self, longest: int) -> RunState:
        """Let only what is ordinary happen, each in its turn, until the run is over."""
        # Who is dead is noticed; who stood still for long has been taken for dead and finds out.
        for ghost in list(self.ghosts):
            self.row.rescue(ghost.name)
        for number in range(longest):
            if self.state.status.is_final:
                self.check()
                return self.state
            actions = list(self.ordinary(number, Outcome.OK))
            if not actions:
                raise Wrong(f"stuck: owner {self.row.owner}, ready {self.row.is_ready}, {self.state.status}")
            actions[number % len(actions)]()
        raise Wrong(f"no end after {longest} events")

    def ordinary(self, choice: int, outcome: Outcome) -> Iterator[Callable[[], None]]:
        """What happens without any trouble. No hint ever comes: whoever has the run looks, or does not."""
        for worker in list(self.alive.values()):
            yield lambda worker=worker: self.move(worker, choice, outcome)  # type: ignore[misc]  # mypy sees no default
            if worker.row.unread(worker.seen) and worker.in_doubt is None:
                yield worker.look
        if len(self.alive) < self.workers and self.row.owner is None and self.row.is_ready:
            yield self.claim
        state = self.state
        for place, step in state.steps.items():
            decided = self.fate.decision(place, step) if step.status is StepStatus.WAITING else None
            if decided is not None and self.told[f"decision:{place}"] < TELLINGS:
                yield lambda place=place, decided=decided: self.tell(f"decision:{place}", decided)  # type: ignore[misc]  # same
        yield from self.from_outside()
        for timer in self.row.timers:
            if self.may_fire(timer, state):
                yield lambda timer=timer: self.row.fire(timer)  # type: ignore[misc]  # same

    def from_outside(self) -> Iterator[Callable[[], None]]:
        """What children and programs tell, and that somebody lifts the last pause."""
        for place, child in self.row.children.items():
            if not child.detached and self.told[f"child:{place}"] < TELLINGS:
                over = self.fate.end_of(child, is_cancelled=False)
                yield lambda place=place, over=over: self.tell(f"child:{place}", over)  # type: ignore[misc]  # same
        for place in self.row.awaited:
            if (event := self.fate.event(place)) is not None:
                yield lambda event=event: self.row.arrive(event)  # type: ignore[misc]  # same
        if self.resumptions < self.pauses:
            yield self.resume

    def trouble(self) -> Iterator[Callable[[], None]]:
        for worker in list(self.alive.values()):
            yield lambda worker=worker: self.die(worker)  # type: ignore[misc]  # same
            yield lambda worker=worker: self.stand_still(worker)  # type: ignore[misc]  # same
        for ghost in list(self.ghosts):
            yield lambda ghost=ghost: self.haunt(ghost)  # type: ignore[misc]  # same
        if self.pauses < MOST_PAUSES and self.pauses == self.resumptions:
            yield self.pause

    def may_fire(self, timer: str, state: RunState) -> bool:
        if timer.startswith("remind:") and self.row.reminders[timer] >= MOST_REMINDERS:
            return False
        place = timer.partition(":")[2].rpartition(":")[0]
        # Whoever decides on a rung does so in its time; silence is only where nobody does.
        step = state.steps.get(place)
        written = self.definition.by_place.get(written_place(place))
        if timer.startswith("wait:") and written is not None and written.awaits_event:
            # What has arrived beats a deadline that passes behind it.
            return self.fate.event(place) is None or self.row.has(f"event:{place}")
        return not timer.startswith("rung:") or step is None or self.fate.decision(place, step) is None

    def claim(self) -> None:
        self.lives += 1
        claim = self.row.claim(self.lives)
        if claim is not None:
            self.alive[self.lives] = Worker(self.lives, self.definition, self.row, claim)

    def move(self, worker: Worker, choice: int, outcome: Outcome) -> None:
        worker.move(lambda among: choice % among, self.fate, outcome)
        self.forget(worker)
        self.check()

    def forget(self, worker: Worker) -> None:
        if worker.is_over:
            self.alive.pop(worker.name, None)
            if worker in self.ghosts:
                self.ghosts.remove(worker)

    def tell(self, key: str, event: Event) -> None:
        self.told[key] += 1
        self.row.deliver(key, event)

    def pause(self) -> None:
        self.pauses += 1
        self.row.deliver(f"pause:{self.pauses}", Paused(by=OLE))

    def resume(self) -> None:
        self.resumptions += 1
        self.row.deliver(f"resume:{self.resumptions}", Resumed(by=OLE))

    def die(self, worker: Worker) -> None:
        """kill -9: everything in memory is gone, and others notice."""
        del self.alive[worker.name]
        self.row.rescue(worker.name)

    def stand_still(self, worker: Worker) -> None:
        """SIGSTOP for longer than others wait: they take over, and it goes on later."""
        del self.alive[worker.name]
        self.ghosts.append(worker)
        self.row.rescue(worker.name)

    def haunt(self, ghost: Worker) -> None:
        ghost.move(lambda _: 0, self.fate, Outcome.OK)
        self.forget(ghost)
        self.check()

    def check(self) -> None:
        """What holds at any moment."""
        twice = [mark for mark, number in self.row.ended.items() if number > 1]
        if any(self.is_result(mark) for mark in twice):
            raise Wrong(f"written down twice: {twice}")
        state = self.state
        waits_for_it = state.facts.parent is not None and state.status.is_final
        if [each.ended.status for each in self.row.farewells] != ([state.status] if waits_for_it else []):
            raise Wrong(f"the parent was told {self.row.farewells}, and the run is {state.status}")
        alone = [
            place
            for place, child in self.row.children.items()
            if not child.detached and not self.told[f"child:{place}"]
        ]
        if state.status.is_final and alone:
            raise Wrong(f"over, and children are not: {alone}")

    def is_result(self, mark: tuple[str, int]) -> bool:
        """Whether an attempt that has ended may do so once only; a step that is handled ends with its handler again."""
        written = self.definition.by_place.get(mark[0])
        return written is not None and not written.on_error and not written.for_each and not written.steps
