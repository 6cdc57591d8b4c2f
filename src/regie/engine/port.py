"""What an engine does and what it is given: the seam between a run's rules and whoever makes runs durable.

The web starts runs and delivers events through it; a worker room gives it a performer. `inline` and `postgres` are the
implementations, behind one conformance suite.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple, Protocol

from pydantic import JsonValue

from regie.core.audit import Actor
from regie.core.errors import Failure, Terminal
from regie.core.outside_event import OutsideEvent
from regie.core.release import Release
from regie.core.run import Cause, RunFacts, RunState
from regie.core.run_commands import Work
from regie.core.run_events import Cancelled, Decided, Event, EventArrived, Failed, Paused, Resumed
from regie.store.claims import Claimed
from regie.store.keys import RunKey


@dataclass(frozen=True, slots=True, kw_only=True)
class StartRequest:
    """A run to start.

    Attributes:
        trigger_key: Names the trigger within tenant and domain; the same key never starts a second run.
        corr: Correlation id shared with the ticket and outside changes; the run's own id when empty.
        cause: The event that starts it, if one does.
        unfit: Why the run is to fail before its first step; empty when it may begin.
        is_bounded: Refuse it while too many runs of the domain wait to begin: for who is told so and can come again.
        told: What the leaf says besides: the policies that allow it.
    """

    tenant: str
    workflow: str
    trigger_key: str
    started_by: Actor
    ticket: str = ""
    given: dict[str, JsonValue] = field(default_factory=dict)
    dry: bool = False
    corr: str = ""
    cause: Cause | None = None
    unfit: str = ""
    is_bounded: bool = False
    told: dict[str, JsonValue] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class RerunRequest:
    """A run that is over, to be repeated from some step on by a new one.

    Attributes:
        key: The run that is repeated.
        from_step: Id of a step of the top level, or its place.
        trigger_key: Names the request within tenant and domain; the same key never starts a second run.
        is_current: Under the current release, not under that of the run that is repeated.
        told: What the leaf says besides: the policies that allow it.
    """

    key: RunKey
    from_step: str
    trigger_key: str
    started_by: Actor
    is_current: bool = False
    told: dict[str, JsonValue] = field(default_factory=dict)


class Started(NamedTuple):
    """The run that a request came to; `is_new` is false when the trigger had started it before."""

    key: RunKey
    is_new: bool


@dataclass(frozen=True, slots=True)
class Task:
    """One piece of work for a performer, with what it may know of the run it belongs to.

    Attributes:
        waited_s: Seconds from when it could begin until it began.
        corr, trace: The run's correlation id, and the `traceparent` it was started in.
    """

    key: RunKey
    fence: int
    facts: RunFacts
    release: Release
    work: Work
    waited_s: float = 0.0
    corr: str = ""
    trace: str = ""


def turn(event: Event) -> int:
    """In which order events are taken in that wait at the same time: what people say goes first.

    An answer beats the silence that would end it, and nothing begins that somebody has just stopped.
    """
    return {Cancelled: 0, Paused: 0, Resumed: 0, Decided: 1, EventArrived: 1}.get(type(event), 2)


def broken(work: Work, error: Exception) -> Failed:
    """The answer that an engine gives for a performer that broke instead of answering."""
    failure = Terminal(
        f"The work of step {work.place} broke with {type(error).__name__}.", hint="The worker's log has the details."
    )
    return Failed(place=work.place, attempt=work.attempt, failure=Failure.of(failure))


class Performer(Protocol):
    """Carries out work outside any transaction."""

    async def perform(self, task: Task) -> Event:
        """Do the work and say what came of it. Errors of the vocabulary come back as `Failed`, never as exceptions."""
        ...


class Watcher(Protocol):
    """Is told which runs a worker takes and lets go, to count them. It changes nothing and raises nothing."""

    def took(self, claimed: Claimed) -> None:
        """A run is in this worker's hands; everything of it happens in the task that calls this."""
        ...

    def let_go(self, claimed: Claimed, state: RunState) -> None:
        """The run has ended, or waits, or somebody else may go on with it."""
        ...


class Unwatched:
    """Where nobody counts."""

    def took(self, claimed: Claimed) -> None:
        """Nobody is told."""

    def let_go(self, claimed: Claimed, state: RunState) -> None:
        """Nobody is told."""


class Hands(Protocol):
    """A worker in the process that starts runs: what it has room for, it takes at once."""

    def room_for(self, domain: str) -> str | None:
        """The worker's id, when it could take a run of that domain now."""
        ...

    def adopt(self, claimed: Claimed, release: Release) -> None:
        """See a run through that is this worker's."""
        ...


class Engine(Protocol):
    """Makes runs durable."""

    async def start(self, request: StartRequest) -> Started:
        """Accept a run of the current release.

        Raises:
            InvalidInput: No such workflow or tenant, or the tenant does not have the domain.
            Throttled: The domain's queue is full, and the request is bounded by that.
        """
        ...

    async def rerun(self, request: RerunRequest) -> Started:
        """Accept a run that takes over what another has done before some step, and goes on from there.

        Raises:
            InvalidInput: There is no such run, it is not over, or it cannot be repeated from there.
        """
        ...

    async def deliver(self, key: RunKey, inbox_key: str, event: Event) -> bool:
        """Put an event in a run's inbox, once per inbox key; false when it was there before.

        Raises:
            InvalidInput: There is no such run.
        """
        ...

    async def publish(self, event: OutsideEvent, by: Actor) -> bool:
        """Take an event from outside, bring it to the steps that wait for it, start the runs that it starts.

        False when its id was known: then nothing follows.

        Raises:
            InvalidInput: Its id is another event's, or there is no such tenant, or the tenant lacks the domain.
        """
        ...

    async def state(self, key: RunKey) -> RunState:
        """Where a run stands.

        Raises:
            InvalidInput: There is no such run.
        """
        ...
