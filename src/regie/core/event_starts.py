"""Runs that start because something has happened: which workflows an event starts, and how far a chain of them goes.

An event comes from outside, or a run publishes it. Both engines ask here. One event starts one run of each workflow
that wants it. A run that an event of another run has started may publish events itself; how many runs may stand in such
a row is bounded, so that two workflows which start each other come to an end and say why.
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from typing import NamedTuple, Protocol

from pydantic import JsonValue, ValidationError

from regie.core.definition import Definition, Step
from regie.core.errors import EvaluationError
from regie.core.expression import evaluate_condition, render
from regie.core.inputs import follow
from regie.core.outside_event import OutsideEvent, marks_of
from regie.core.release import Release
from regie.core.run import Cause, RunFacts
from regie.core.run_commands import Command, PublishEvent
from regie.core.scope import Surroundings
from regie.core.starts import EventStart
from regie.core.status import StepStatus

PUBLISH = "event.publish"
"""The block that the interpreter itself carries out: it tells the other runs of its tenant and domain."""
LONGEST_CHAIN = 8
"""How many runs may stand in a row, each started by an event of the one before."""
OF_A_RUN = "run:"
"""What the ids of events begin with that runs publish; programs do not get to use it."""
_NAMES = uuid.UUID("0f8b4f0e-53f5-5a6c-8a39-5f0c4a1f7d02")
"""What these ids are made in (RFC 9562, 5.5)."""


class EventBegun(NamedTuple):
    """A run that an event starts.

    Attributes:
        trigger_key: Names the event and the workflow within tenant and domain: together they start one run.
        unfit: Why the run fails before its first step; empty when it may begin.
    """

    workflow: str
    trigger_key: str
    given: dict[str, JsonValue]
    cause: Cause
    unfit: str


class Publishing(Protocol):
    """What publishing needs of the interpreter's working copy of a run; see `interpreter.Life`."""

    commands: list[Command]
    facts: RunFacts
    requester: str

    def scope(self, step: Step, around: Surroundings) -> dict[str, JsonValue]:
        """Everything an expression at a step may name."""
        ...

    def finish(self, place: str, status: StepStatus, **update: object) -> None:
        """Make a step final."""
        ...


def begun_by(release: Release, event: OutsideEvent, cause: Cause) -> list[EventBegun]:
    """Every run that an event starts, one for each workflow of its domain that wants it, by name.

    Args:
        release: The current one.
        event: What has happened.
        cause: The same for the runs: its id, and the run that published it.
    """
    settings = release.domains[event.domain].settings_of(release.tenant(event.tenant))
    marks = set(event.marks)
    found = []
    for name, definition in sorted(release.definitions.items()):
        if definition.domain != event.domain:
            continue
        for start in definition.starts(EventStart):
            if not set(marks_of(start.event, start.where)) <= marks:
                continue
            is_wanted, unfit = _meets(start, event, settings)
            if is_wanted:
                given = given_of(definition, event.data)
                found.append(EventBegun(name, f"event/{name}/{event.id}", given, cause, unfit))
                break
    return found


def _meets(start: EventStart, event: OutsideEvent, settings: Mapping[str, JsonValue]) -> tuple[bool, str]:
    """Whether a start wants an event; a condition that does not fit the data starts a run that says so."""
    if start.condition is None:
        return True, ""
    try:
        return evaluate_condition(start.condition, {"event": event.data, "settings": dict(settings)}), ""
    except EvaluationError as error:
        return True, f"The event {event.name} {event.id} does not fit the `if` of this start: {error.message}."


def given_of(definition: Definition, data: Mapping[str, JsonValue]) -> dict[str, JsonValue]:
    """The input that an event brings: every field that is read from it and that it has."""
    read = {
        field.name: follow({"event": dict(data)}, field.source)
        for field in definition.input
        if field.source is not None and field.source.partition(".")[0] == "event"
    }
    return {name: value for name, value in read.items() if value is not None}


def publish(life: Publishing, step: Step, place: str, around: Surroundings) -> None:
    """Publish the event of a step, in the commit in which the step is done. A dry run tells nobody.

    Raises:
        EvaluationError: An expression does not work out, no event can be like that, or the chain is too long.
    """
    facts = life.facts
    given = render(step.arguments, life.scope(step, around))
    wanted = given if isinstance(given, dict) else {}
    before = facts.cause.lineage if facts.cause is not None else ()
    lineage = (*before, facts.workflow)
    if len(lineage) > LONGEST_CHAIN:
        raise EvaluationError(
            f"No more than {LONGEST_CHAIN} runs can stand in a row, each started by an event of the one before: "
            f"{', '.join(lineage)}."
        )
    try:
        event = OutsideEvent.model_validate(
            {
                "tenant": facts.tenant,
                "domain": facts.domain,
                "id": f"{OF_A_RUN}{uuid.uuid5(_NAMES, f'{facts.id}/{place}')}",
                "name": wanted.get("event"),
                "data": wanted.get("data", {}),
            }
        )
    except ValidationError as error:
        wrong = "; ".join(f"{'.'.join(map(str, found['loc']))}: {found['msg']}" for found in error.errors())
        raise EvaluationError(f"The step {step.id or step.place} cannot publish such an event: {wrong}.") from error
    if not facts.dry:
        cause = Cause(event=event.id, name=event.name, run=facts.id, lineage=lineage, requester=life.requester)
        life.commands.append(PublishEvent(place=place, event=event, cause=cause))
    life.finish(place, StepStatus.DONE, output={"id": "" if facts.dry else event.id})
