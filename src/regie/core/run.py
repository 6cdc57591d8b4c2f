"""One life of a definition: its state, as the interpreter makes it anew with each event. All plain data.

The interpreter turns (definition, state, event) into (state, commands); the engine carries the commands out.
"""

from __future__ import annotations

from enum import StrEnum

from pydantic import JsonValue

from regie.core.approval import ApprovalArguments
from regie.core.data import Data
from regie.core.effect import EffectNote
from regie.core.errors import Failure
from regie.core.plan import PlannedStep
from regie.core.run_events import Event
from regie.core.status import RunStatus, StepStatus


class ApprovalPhase(StrEnum):
    """What an approval step is busy with."""

    PLANNING = "planning"
    FINDING = "finding"
    """Looking up whom the present rung means."""
    ASKING = "asking"


class ApprovalState(Data):
    """An approval under way.

    Attributes:
        given: Question and ladder as they were when the step began, every expression evaluated.
        rung: Counts from 0 into the ladder.
        asked: Addresses, in the order asked.
    """

    given: ApprovalArguments
    phase: ApprovalPhase = ApprovalPhase.PLANNING
    rung: int = 0
    plan: tuple[PlannedStep, ...] = ()
    asked: tuple[str, ...] = ()


class ChildState(Data):
    """The child of a step that runs a workflow, and what is to be told of it once it is over.

    Attributes:
        run: Its id.
        decisions: What people decided in it, in words.
        taken_back: What it changed and has undone again.
        in_doubt: Nobody is sure that what its report says is all that it has changed.
    """

    run: str
    workflow: str
    decisions: tuple[str, ...] = ()
    taken_back: tuple[EffectNote, ...] = ()
    in_doubt: bool = False


class StepState(Data):
    """Where one step of a run stands.

    Attributes:
        attempt: How often work was handed out for it, from 1; 0 for steps that only hold others.
        tries: How many of these attempts failed.
        waited_s: Seconds spent waiting for a change that takes effect later.
        arguments: What its block is given, fixed when it begins: every attempt asks for the same. Gone at the end.
        output: What it gave; for `people.approve` the outcome.
        items: What a `for-each` loops over, fixed when it begins.
        failure: Why it failed; kept while `on-error` handles it.
        handled: It failed, its `on-error` finished, and the run went on.
        handle: What a change that takes effect later is asked about with.
        undo: What the block of its `undo` would be given, worked out when the step began.
        child: The run that it has started, for a step that runs a workflow.
        limited: The how-manieth asking for more changes it waits for, from 1; see `limit.py`.
        kept: It was not done by this run: its result was taken over from the run that this one repeats in part.
    """

    status: StepStatus
    attempt: int = 0
    tries: int = 0
    waited_s: float = 0.0
    arguments: dict[str, JsonValue] | None = None
    output: JsonValue = None
    items: list[JsonValue] | None = None
    failure: Failure | None = None
    handled: bool = False
    effects: tuple[EffectNote, ...] = ()
    handle: JsonValue = None
    approval: ApprovalState | None = None
    undo: dict[str, JsonValue] | None = None
    child: ChildState | None = None
    limited: int = 0
    kept: bool = False


class Parent(Data):
    """The run that has started another one as its child.

    Attributes:
        place: The step of it that did.
        lineage: The steps that lead from the outermost run to the child, each as `WORKFLOW:PLACE`.
        requester: Who asked for it, as far as that was known then.
        detached: It does not wait for the child's end.
    """

    run: str
    place: str
    lineage: tuple[str, ...]
    requester: str = ""
    detached: bool = False


class Cause(Data):
    """The event that has started a run.

    Attributes:
        event, name: Its id and its name.
        run: The run that published it; empty when a program told it.
        lineage: The workflows of the runs that led to it, each started by an event of the one before.
        requester: Who asked for that run.
    """

    event: str
    name: str
    run: str = ""
    lineage: tuple[str, ...] = ()
    requester: str = ""


class RunFacts(Data):
    """What is known of a run before its first step and never changes.

    Attributes:
        ticket: Key of the ticket that asked for it; empty without one.
        started_by: Address or name of who or what started it.
        given: Input handed in with the start, by field name.
        settings: The domain's settings with the tenant's values.
        dry: Show what would change; write nothing.
        time_zone: The tenant's, as an IANA name: where a date's day is meant.
        parent: The run whose child it is, if it is one.
        cause: The event that started it, if one did; a child has its parent's.
        owner: Who owns its domain, as `team:NAME`; empty in a run of before this was kept.
        unfit: Why it fails before its first step, found when it was accepted; empty for any other.
        rerun_of, rerun_from: The run that this one repeats, and from which step on; empty for any other.
    """

    id: str
    tenant: str
    domain: str
    workflow: str
    ticket: str = ""
    started_by: str
    given: dict[str, JsonValue] = {}
    settings: dict[str, JsonValue] = {}
    dry: bool = False
    time_zone: str = "UTC"
    parent: Parent | None = None
    cause: Cause | None = None
    owner: str = ""
    unfit: str = ""
    rerun_of: str = ""
    rerun_from: str = ""


class Cancellation(Data):
    """Who cancelled a run, and why."""

    by: str
    reason: str = ""


class Pause(Data):
    """Who holds a run up, and why. `parent` is the run with which it was paused; empty when somebody meant this one."""

    by: str
    reason: str = ""
    parent: str = ""


class RunState(Data):
    """A run between two events.

    Attributes:
        requester: Address of the person who asked for the run; empty when no person did.
        ready: The input was read and accepted; the written steps may begin.
        order: Places in the order in which they became final.
        ended: An `end` step was reached: nothing new starts.
        cancelled: Somebody cancelled the run: nothing new starts, and what has begun is not gone on with.
        paused: Somebody holds the run up: nothing new starts until it is resumed.
        paused_too: It is held up a second time: by itself and with its parent. Both have to be lifted.
        held: What has arrived meanwhile and is taken in then, in order of arrival.
        stopped: Why the run as a whole has failed, whatever its steps come to: nothing new starts but taking back.
    """

    facts: RunFacts
    status: RunStatus = RunStatus.RUNNING
    requester: str = ""
    ready: bool = False
    input: dict[str, JsonValue] = {}
    steps: dict[str, StepState] = {}
    order: tuple[str, ...] = ()
    failure: Failure | None = None
    ended: bool = False
    cancelled: Cancellation | None = None
    paused: Pause | None = None
    paused_too: Pause | None = None
    held: tuple[Event, ...] = ()
    stopped: Failure | None = None
