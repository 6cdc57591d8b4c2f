"""How workflows of the main job are proven: each run is a fresh ticket about the same person."""

from __future__ import annotations

from collections import Counter
from typing import Any, ClassVar

from pydantic import BaseModel, ConfigDict, ValidationError

from regie.cli.sandbox_client import about_people
from regie.cli.stories.telling import Once, Rehearsal
from regie.cli.story import Story
from regie.core.definition import Definition
from regie.core.errors import InvalidInput


class Example(BaseModel):
    """One entry of a definition's `tests`: a request that it must carry out."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    ticket: dict[str, str]


class OfPeople(Rehearsal):
    """Requests about people, opened as tickets."""

    domain: ClassVar[str] = "identity"

    async def set_scene(self, story: Story, definition: Definition) -> dict[str, Any]:  # noqa: ARG002  the seed is the scene
        """Take the first example of the definition. See `Rehearsal.set_scene`."""
        try:
            tests = definition.tests if isinstance(definition.tests, list) else []
            return dict(Example.model_validate(tests[0]).ticket)
        except (IndexError, ValidationError) as error:
            raise InvalidInput(
                f"{definition.workflow} has no example to run.",
                hint="Give it one: tests: [{name: ..., ticket: {reporter: ..., employee: ..., ...}}]",
            ) from error

    async def run_once(self, story: Story, definition: Definition, given: dict[str, Any]) -> Once:  # noqa: ARG002  the ticket starts it
        """Open a ticket, say yes when somebody is asked, and wait for the end. See `Rehearsal.run_once`."""
        seq, _ = await story.sandbox.ledger()
        ticket = await story.sandbox.open_ticket(given)
        run = await story.run_of(ticket)
        approval = await story.open_approval(run)
        if approval is not None:
            await story.decide(approval, approval["approvers"][0], "approved", "")
        shown = await story.end_of(run)
        _, entries = await story.sandbox.ledger(seq)
        people = about_people(entries)
        return Once(
            run=run,
            subject=ticket,
            status=str(shown["status"]),
            writes=dict(Counter(str(entry["system"]) for entry in people)),
            ticket_writes=len(entries) - len(people),
            world=await story.sandbox.digest(),
        )


OF_PEOPLE = OfPeople()
