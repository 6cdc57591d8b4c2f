"""One claimed run in the hands of one worker: take events in, commit what they lead to, hand work out, let go.

Steps that cannot touch the outside world are done at once and committed together with what led to them: after a crash
they are simply done again. Work for the outside is handed out only when all that led to it is written.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import TypeVar

import structlog

from regie.core.audit import Actor
from regie.core.block import Catalogue
from regie.core.errors import AuditBroken, Failure, FencedOut, InvalidInput, OutcomeUnknown, TimedOut, Unavailable
from regie.core.interpreter import advance, has_begun, outstanding
from regie.core.release import Release
from regie.core.run import RunState
from regie.core.run_commands import Command, MakePlan, OpenApproval, Perform, Work
from regie.core.run_events import (
    EVENT,
    ApproversFound,
    Begun,
    Cancelled,
    Decided,
    Event,
    Failed,
    Paused,
    PlanMade,
    Postponed,
    Succeeded,
    TimerFired,
)
from regie.crashpoints import CrashPoint, crashpoint
from regie.ending import ended
from regie.engine.committing import GroupCommit
from regie.engine.port import Performer, Task, broken, turn
from regie.engine.records import Timing, input_digest, new_children, to_commit
from regie.store import claims, commits, inbox
from regie.store.approvals import DecidedMeanwhile
from regie.store.commits import Committed, StepCommit
from regie.store.inbox import HeardMeanwhile, InboxEvent

LOOKUP_TIMEOUT_S = 120.0
"""Longest that planning or finding approvers may take in one attempt; blocks state their own."""
PLANNING_S_A_STEP = 2.0
"""More time for each step that is planned."""
RECONNECT_S = 0.2
"""Between two tries to read or commit while the database does not answer."""
POLL_S = 1.0
"""A hint may be lost; this often a worker looks without one."""
UNKEPT = "What the step gave cannot be stored: it holds text that no database takes, or too much of it."
CHAIN_S = 0.05
"""Longest that steps are done in a row before what they gave is written."""
MOST_IN_CHAIN = 64
"""Most steps in one commit."""
LONGEST_IN_CHAIN_S = 1.0
"""A step that takes longer is done by itself, so that nobody waits for it who need not."""
NOTHING_SEEN = -1
"""Less than any inbox count: a run that is let go is ready at once."""

Answer = TypeVar("Answer")

log = structlog.get_logger(__name__)


def _unkept(event: Event) -> Failed | None:
    """What stands in for an answer that the database does not take, such as text with a zero byte: its step fails.

    None when there is no step to fail, or when that has been tried already.
    """
    match event:
        case Failed(failure=Failure(kind="Terminal", message=message)) if message == UNKEPT:
            return None
        case Succeeded() | Postponed() | PlanMade() | ApproversFound() | Failed():
            return Failed(place=event.place, attempt=event.attempt, failure=Failure(kind="Terminal", message=UNKEPT))
        case _:
            return None


def _time_for(work: Work) -> float:
    """Seconds that an attempt may take."""
    match work:
        case Perform():
            return work.timeout_s
        case MakePlan():
            return LOOKUP_TIMEOUT_S + PLANNING_S_A_STEP * len(work.steps)
        case _:
            return LOOKUP_TIMEOUT_S


@dataclass
class Chain:
    """What one event has led to so far, not yet written.

    Attributes:
        commands: All of it, in order; the work in it is still to be done.
        consumed: Keys of the inbox events in it.
        length: How many events are in it.
    """

    state: RunState
    commands: list[Command]
    consumed: list[str]
    length: int = 1

    @property
    def works(self) -> list[Work]:
        """What is to be done next."""
        return [command for command in self.commands if isinstance(command, Work)]


@dataclass
class LiveRun:
    """A run this worker owns for the moment.

    Attributes:
        group: Where it brings its commits, and the way to the database.
        timed: Set from here when a timer is due before the worker would next look for one.
        nudged: Set from outside when events may have arrived for it.
        is_leaving: Set from outside: finish the work in hand, hand out no more, let go.
    """

    group: GroupCommit
    claimed: claims.Claimed
    release: Release
    catalogue: Catalogue
    performer: Performer
    actor: Actor
    timed: asyncio.Event = field(default_factory=asyncio.Event)
    nudged: asyncio.Event = field(default_factory=asyncio.Event)
    is_leaving: bool = False

    def __post_init__(self) -> None:
        """Take over where the run stands."""
        self.key = self.claimed.claim.key
        self.claim = self.claimed.claim
        self.definition = self.release.definition(self.claimed.workflow)
        self.state = RunState.model_validate_json(self.claimed.state_json)
        self.inbox_n = self.claimed.inbox_n
        # What is handed out first could have begun when the run became ready.
        self.ready_s: float | None = time.monotonic() - self.claimed.waited_s
        self.seen_n = 0
        self.waiting: deque[tuple[str | None, Event]] = deque()
        self.tasks: dict[asyncio.Task[Event], Work] = {}
        self.queued_s: dict[tuple[str, int], float] = {}
        self.timings: dict[tuple[str, int], Timing] = {}
        self.inputs: dict[tuple[str, int], str] = {}
        self.is_let_go = False
        self.is_owing = False
        self.is_stepwise = False

    async def live(self) -> None:
        """Move the run until it is finished or parked.

        While the database does not answer, it waits and keeps what it knows: the results of finished work are worth it.

        Raises:
            FencedOut: Somebody else owns it now; everything held about it is dropped.
        """
        try:
            self._note(self.claimed.inbox)
            self._hand_out(outstanding(self.definition, self.catalogue, self.state))
            if not has_begun(self.state):
                # Behind what people have said before it began.
                self.waiting.append((None, Begun()))
            while not self.is_let_go:
                await self._step()
        finally:
            await ended(self.tasks)

    async def _step(self) -> None:
        """One turn: everything in the inbox, then whatever work has ended, else let go or wait."""
        if self.nudged.is_set():
            self.nudged.clear()
            await self._look_in_inbox()
        while self.waiting and not self.is_let_go:
            inbox_key, event = self.waiting.popleft()
            await self._take(event, inbox_key)
        if self.is_let_go or self.nudged.is_set():
            return
        if not self.tasks:
            await self._let_go()
            return
        nudge = asyncio.ensure_future(self.nudged.wait())
        try:
            await asyncio.wait({nudge, *self.tasks}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            nudge.cancel()
        for task in [task for task in self.tasks if task.done()]:
            del self.tasks[task]
            self.waiting.append((None, task.result()))

    async def _let_go(self) -> None:
        seen = NOTHING_SEEN if self.is_owing else self.inbox_n

        async def park() -> None:
            async with self.group.database.transaction() as tx:
                await claims.park(tx, self.claim, seen)

        await _until_answered(park)
        self.is_let_go = True

    async def _take(self, event: Event, inbox_key: str | None = None) -> None:
        """Take one event in: advance, commit, hand out. What a person decided or steered meanwhile goes first."""
        if isinstance(event, TimerFired):
            crashpoint(CrashPoint.IN_TIMER)
        step = advance(self.definition, self.catalogue, self.state, event)
        if inbox_key is None and not step.commands and step.state == self.state:
            return
        chain = Chain(step.state, list(step.commands), [inbox_key] if inbox_key else [])
        if not self.is_stepwise and not await self._follow(chain):
            await self._take_alone(event, inbox_key)
            return
        try:
            await self._commit(chain)
        except HeardMeanwhile as late:
            self.waiting.append((inbox_key, event))
            await self._look_in_inbox()
            if not any(_is_about(other, late) for _, other in self.waiting):
                raise
            return
        except (InvalidInput, AuditBroken, ValueError) as error:
            if chain.length > 1:
                # One of several steps gave what cannot be stored: one after the other shows which.
                await self._take_alone(event, inbox_key)
                return
            unkept = _unkept(event)
            if unkept is None:
                raise
            log.warning("event:not_kept", run=self.key.run, event_kind=event.kind, reason=type(error).__name__)
            await self._take(unkept, inbox_key)
            return
        self.state = chain.state
        self._hand_out(chain.works)

    async def _take_alone(self, event: Event, inbox_key: str | None) -> None:
        """Take an event in again, from what is written; from now on each step of this run is committed by itself."""
        self.is_stepwise = True
        await self._take(event, inbox_key)

    async def _follow(self, chain: Chain) -> bool:
        """Do the steps that follow and reach nothing outside, as long as nothing else is to be seen to.

        Returns:
            False when one takes too long to be done in passing: the chain is to be forgotten.
        """
        until_s = time.monotonic() + CHAIN_S
        while (works := chain.works) and chain.length < MOST_IN_CHAIN and time.monotonic() < until_s:
            if self.tasks or self.waiting or self.is_leaving or not all(self._stays_inside(work) for work in works):
                break
            chain.commands = [command for command in chain.commands if not isinstance(command, Work)]
            owed: list[Command] = []
            # Many runs do this at the same time: between two steps of each the others get an ear for the database.
            await asyncio.sleep(0)
            for work in works:
                event = await self._perform_here(work, chain.state)
                if event is None:
                    return False
                step = advance(self.definition, self.catalogue, chain.state, event)
                chain.state = step.state
                chain.length += 1
                chain.commands += [command for command in step.commands if not isinstance(command, Work)]
                owed += [command for command in step.commands if isinstance(command, Work)]
            chain.commands += owed
        return True

    def _stays_inside(self, work: Work) -> bool:
        """Whether a piece of work is a block that needs no capability: doing it twice is doing it once."""
        if not isinstance(work, Perform):
            return False
        block = self.catalogue.get(work.uses)
        return block is not None and block.function is not None and not block.needs

    async def _commit(self, chain: Chain) -> None:
        """Write state, records and audit leaves in one transaction, or find out that it was written.

        Raises:
            FencedOut, HeardMeanwhile: Nothing was written.
        """
        is_final = chain.state.status.is_final
        is_last = is_final or not (self.waiting or self.tasks or chain.works)
        record = to_commit(
            self.key,
            chain.state,
            chain.commands,
            actor=self.actor,
            consumed=chain.consumed,
            timings=self.timings,
            inputs=self.inputs,
            now_s=time.monotonic(),
            park_seen=self.inbox_n if is_last and not is_final else None,
            heard=None if chain.state.cancelled is not None else self.inbox_n,
            children=new_children(self.claimed, self.release, chain.state, chain.commands),
            started_by=self.claimed.started_by,
        )
        crashpoint(CrashPoint.BEFORE_COMMIT)
        committed = await self._write(record)
        crashpoint(CrashPoint.AFTER_COMMIT)
        if committed is not None:
            self.claim = committed.claim
            # What has arrived counts as seen only when it has been read: letting go before that would lose it.
            if committed.inbox_n > self.inbox_n:
                self.nudged.set()
        # A moment may be near, or past.
        if any(isinstance(due, datetime) or due < POLL_S for due in record.timers_set.values()):
            self.timed.set()
        self.is_let_go = is_last
        if is_last and any(isinstance(command, OpenApproval) for command in chain.commands):
            crashpoint(CrashPoint.IN_APPROVAL_WAIT)

    async def _write(self, record: StepCommit) -> Committed | None:
        """Commit until it is known to be done; nothing comes back when that had to be found out by reading."""
        is_unknown = False
        while True:
            try:
                return await self.group.commit(self.claim, record)
            except Unavailable:
                await asyncio.sleep(RECONNECT_S)
                continue
            except OutcomeUnknown:
                is_unknown = True
            except FencedOut:
                # An earlier try of our own may have been what moved the run on.
                if not is_unknown or not await self._was_written():
                    raise
            if await self._was_written():
                self.claim = self.claim._replace(seq=self.claim.seq + 1)
                self.nudged.set()
                return None

    async def _was_written(self) -> bool:
        async def read() -> bool:
            async with self.group.database.reading() as tx:
                return await commits.was_committed(tx, self.claim)

        return await _until_answered(read)

    async def _look_in_inbox(self) -> None:
        async def read() -> list[InboxEvent]:
            async with self.group.database.reading() as tx:
                return await inbox.unconsumed(tx, self.key, self.seen_n)

        self._note(await _until_answered(read))

    def _note(self, arrived: Sequence[InboxEvent]) -> None:
        """Keep what arrived, what people say first."""
        for item in arrived:
            if item.n > self.seen_n:
                self.waiting.append((item.key, EVENT.validate_json(item.payload_json)))
                self.seen_n = item.n
        self.inbox_n = max(self.inbox_n, self.seen_n)
        self.waiting = deque(sorted(self.waiting, key=lambda entry: turn(entry[1])))

    def _hand_out(self, works: Sequence[Work]) -> None:
        if self.is_leaving and works:
            self.is_owing = True
            return
        for work in works:
            mark = (work.place, work.attempt)
            self.queued_s[mark] = time.monotonic() if self.ready_s is None else self.ready_s
            self.inputs[mark] = input_digest(work)
            self.tasks[asyncio.create_task(self._perform(work, self.state))] = work
        if works:
            self.ready_s = None

    async def _perform_here(self, work: Work, state: RunState) -> Event | None:
        """Do a piece of work in passing; nothing comes back when that takes too long."""
        mark = (work.place, work.attempt)
        self.queued_s[mark] = time.monotonic() if self.ready_s is None else self.ready_s
        self.ready_s = None
        self.inputs[mark] = input_digest(work)
        if _time_for(work) <= LONGEST_IN_CHAIN_S:
            return await self._perform(work, state)
        try:
            return await self._perform_within(LONGEST_IN_CHAIN_S, work, state)
        except TimeoutError:
            return None

    async def _perform(self, work: Work, state: RunState) -> Event:
        """Have the work done within its time. Too late is a failure like any other, and it may be tried again."""
        try:
            return await self._perform_within(_time_for(work), work, state)
        except TimeoutError:
            late = TimedOut(f"The step {work.place} did not finish within {_time_for(work):g} s.")
            return Failed(place=work.place, attempt=work.attempt, failure=Failure.of(late))

    async def _perform_within(self, limit_s: float, work: Work, state: RunState) -> Event:
        """Have the work done.

        Raises:
            TimeoutError: It takes longer.
        """
        mark = (work.place, work.attempt)
        started_s = time.monotonic()
        task = Task(
            self.key,
            self.claim.fence,
            state.facts,
            self.release,
            work,
            waited_s=started_s - self.queued_s[mark],
            corr=self.claimed.corr,
            trace=self.claimed.trace,
        )
        try:
            async with asyncio.timeout(limit_s):
                return await self.performer.perform(task)
        except TimeoutError:
            raise
        except Exception as error:
            log.exception("work:broke", run=self.key.run, place=work.place)
            return broken(work, error)
        finally:
            self.timings[mark] = Timing(self.queued_s[mark], started_s, time.monotonic())


def _is_about(event: Event, late: HeardMeanwhile) -> bool:
    """Whether that is the event that the commit has heard of."""
    if isinstance(late, DecidedMeanwhile):
        return isinstance(event, Decided) and event.place == late.place
    return isinstance(event, Cancelled | Paused)


async def _until_answered(ask: Callable[[], Awaitable[Answer]]) -> Answer:
    """Ask the database until it answers. A worker that has lost it for good is ended from outside, by its lock."""
    while True:
        try:
            return await ask()
        except (Unavailable, OutcomeUnknown):
            await asyncio.sleep(RECONNECT_S)
