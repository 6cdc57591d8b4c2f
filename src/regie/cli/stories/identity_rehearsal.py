"""How workflows about people and tickets are proven: each run is a fresh request about the same person."""

from __future__ import annotations

from collections import Counter
from typing import Any, ClassVar

from pydantic import BaseModel, ConfigDict, JsonValue, ValidationError

from regie.cli.sandbox_client import faults_in_words
from regie.cli.stories.telling import Once, Rehearsal
from regie.cli.story import Story
from regie.core.definition import Definition
from regie.core.errors import InvalidInput
from regie.core.inputs import build_input, check_given
from regie.core.starts import TicketStart

PROJECT = "ITSM"
"""The only one of the imaginary service desk."""
STARTS_NOTHING = "Get IT help"
"""What a ticket asks for that a run is handed, so that the ticket starts no second one by itself."""


class Example(BaseModel):
    """One entry of a definition's `tests`: a request that it must carry out.

    Attributes:
        ticket: What somebody fills in, where it is about a ticket; `request_type` need not be named.
        input: What is handed in by whoever starts it; not given where a ticket starts it by itself.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    ticket: dict[str, str] | None = None
    input: dict[str, JsonValue] | None = None


class OfPeople(Rehearsal):
    """Requests at a company with a ticket system, a directory and a chat."""

    domain: ClassVar[str] = "identity"

    def check(self, definition: Definition) -> None:
        """Make sure that its first example can be carried out. See `Rehearsal.check`."""
        _request(definition)

    async def set_scene(self, story: Story, definition: Definition) -> dict[str, Any]:  # noqa: ARG002  the seed is the scene
        """Take the first example of the definition. See `Rehearsal.set_scene`."""
        return _request(definition)

    async def run_once(self, story: Story, definition: Definition, given: dict[str, Any]) -> Once:
        """Open a ticket or start a run, say yes whenever somebody is asked, and wait for the end of everything.

        See `Rehearsal.run_once`.
        """
        seq, _ = await story.sandbox.ledger()
        ticket = await story.sandbox.open_ticket(given["ticket"]) if given["ticket"] is not None else ""
        if given["input"] is None:
            run = await story.run_of(ticket, definition.workflow)
        else:
            run = await story.start(definition.workflow, given["input"], ticket=ticket)
        runs = await story.everything_over(says_yes=True, of_run=run)
        ends = {str(each["status"]) for each in runs}
        _, entries = await story.sandbox.ledger(seq)
        counted = [entry for entry in entries if not (entry["about"] == "ticket" and entry["target"] == ticket)]
        return Once(
            run=run,
            subject=ticket,
            status="done" if ends == {"done"} else ", ".join(sorted(ends)),
            writes=dict(Counter(str(entry["system"]) for entry in counted)),
            ticket_writes=len(entries) - len(counted),
            world=await story.sandbox.digest(),
            failure=await story.why_not_done(run, runs),
        )


def _request(definition: Definition) -> dict[str, Any]:
    """The ticket and the input of the first example, each of which may be none.

    Raises:
        InvalidInput: There is no example, or it cannot be carried out.
    """
    example = _first_example(definition)
    starting = [start.request_type for start in definition.starts(TicketStart) if start.project == PROJECT]
    whose = f"The first example of {definition.workflow}"
    if example.input is None:
        ticket = {"request_type": starting[0] if starting else "", **(example.ticket or {})}
        if example.ticket is None or ticket["request_type"] not in starting:
            ways = " or ".join(start.in_words for start in definition.starts(TicketStart)) or "no ticket"
            raise InvalidInput(
                f"{whose} starts nothing: {ways} does, in a company whose only project is {PROJECT}.", hint=_HOW
            )
        return {"ticket": ticket, "input": None}
    try:
        if example.ticket is None:
            build_input(definition, example.input, None)
        else:
            check_given(definition, example.input)
    except InvalidInput as error:
        raise InvalidInput(f"{whose} does not fit. {error.message}", hint=_HOW) from error
    if example.ticket is None:
        return {"ticket": None, "input": example.input}
    ticket = {"request_type": STARTS_NOTHING, **example.ticket}
    if ticket["request_type"] in starting:
        raise InvalidInput(
            f"{whose} would be carried out twice: a ticket of type {ticket['request_type']} starts a run by itself.",
            hint="Leave out input, or name another request_type in ticket.",
        )
    return {"ticket": ticket, "input": example.input}


def _first_example(definition: Definition) -> Example:
    if not definition.tests:
        raise InvalidInput(f"{definition.workflow} has no example to run.", hint=_HOW)
    if not isinstance(definition.tests, list):
        raise InvalidInput(f"The tests of {definition.workflow} are no list of examples.", hint=_HOW)
    try:
        return Example.model_validate(definition.tests[0])
    except ValidationError as error:
        raise InvalidInput(
            f"The first example of {definition.workflow} cannot be read: {faults_in_words(error.errors())}.", hint=_HOW
        ) from error


_HOW = "Give it one: tests: [{ name: ..., ticket: { reporter: ..., employee: ... } }], or input: { ... } for ticket."
OF_PEOPLE = OfPeople()
