"""How workflows about people and tickets are proven: each run is a fresh request about the same person."""

from __future__ import annotations

from collections import Counter
from typing import Any, ClassVar

from pydantic import BaseModel, ConfigDict, JsonValue, ValidationError

from regie.cli.stories.telling import Once, Rehearsal
from regie.cli.story import Story
from regie.core.definition import Definition
from regie.core.errors import InvalidInput
from regie.core.starts import TicketStart


class Example(BaseModel):
    """One entry of a definition's `tests`: a request that it must carry out.

    Attributes:
        ticket: What somebody fills in, where it is about a ticket.
        input: What is handed in by whoever starts it; not given where a ticket starts it by itself.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    ticket: dict[str, str] | None = None
    input: dict[str, JsonValue] | None = None


class OfPeople(Rehearsal):
    """Requests at a company with a ticket system, a directory and a chat."""

    domain: ClassVar[str] = "identity"

    async def set_scene(self, story: Story, definition: Definition) -> dict[str, Any]:  # noqa: ARG002  the seed is the scene
        """Take the first example of the definition. See `Rehearsal.set_scene`."""
        try:
            tests = definition.tests if isinstance(definition.tests, list) else []
            example = Example.model_validate(tests[0])
        except (IndexError, ValidationError) as error:
            raise InvalidInput(f"{definition.workflow} has no example to run.", hint=_HOW) from error
        starts = [start for start in definition.start if isinstance(start, TicketStart)]
        if example.input is None and (example.ticket is None or not starts):
            raise InvalidInput(f"The first example of {definition.workflow} starts nothing.", hint=_HOW)
        ticket = {"request_type": starts[0].request_type} if starts else {}
        return {
            "ticket": None if example.ticket is None else {**ticket, **example.ticket},
            "input": example.input,
        }

    async def run_once(self, story: Story, definition: Definition, given: dict[str, Any]) -> Once:
        """Open a ticket or start a run, say yes whenever somebody is asked, and wait for the end of everything.

        See `Rehearsal.run_once`.
        """
        seq, _ = await story.sandbox.ledger()
        ticket = await story.sandbox.open_ticket(given["ticket"]) if given["ticket"] is not None else ""
        if given["input"] is None:
            run = await story.run_of(ticket)
        else:
            run = await story.start(definition.workflow, given["input"], ticket=ticket)
        ends = {str(each["status"]) for each in await story.everything_over(says_yes=True)}
        _, entries = await story.sandbox.ledger(seq)
        counted = [entry for entry in entries if not (entry["about"] == "ticket" and entry["target"] == ticket)]
        return Once(
            run=run,
            subject=ticket,
            status="done" if ends == {"done"} else ", ".join(sorted(ends)),
            writes=dict(Counter(str(entry["system"]) for entry in counted)),
            ticket_writes=len(entries) - len(counted),
            world=await story.sandbox.digest(),
        )


_HOW = "Give it one: tests: [{ name: ..., ticket: { reporter: ..., employee: ... } }], or input: { ... } for ticket."
OF_PEOPLE = OfPeople()
