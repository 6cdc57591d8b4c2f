"""What is run: workflows of trivial steps, so that what is measured is the engine and nothing behind it."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from types import MappingProxyType

from pydantic import JsonValue

from regie.blocks import load_catalogue
from regie.core.audit import Actor
from regie.core.block import Block, Catalogue, Context, block
from regie.core.capability import Capability, Effect, Record
from regie.core.reading import read_definition
from regie.core.release import Release
from regie.core.run_commands import FindApprovers, MakePlan, Perform
from regie.core.run_events import ApproversFound, Event, PlanMade, Succeeded
from regie.core.tenant import Domain, Quota, Tenant
from regie.engine.port import StartRequest, Task

DOMAIN, TENANT = "things", "acme"
APPROVER = "eva@example.com"
OPERATOR = Actor(type="operator", id="bench")
FIVE, APART = "five", "apart"
"""Five steps that reach nothing outside, and so are written together; and five that may, each written by itself."""
LAST = "last"
"""The place of the last step of both."""
WOKEN = "woken"
"""The place of the step behind an approval."""


class Value(Record):
    """What a step gives."""

    value: JsonValue = None


@block("thing.pass")
async def pass_on(ctx: Context, value: JsonValue = None) -> Value:  # noqa: ARG001  reaches nothing outside
    """Give back what came in.

    Example:
        uses: thing.pass
    """
    return Value(value=value)


TOUCH = Capability("thing.touch", Effect.WRITE, Value, Value, "Touch a thing.")


@block("thing.touch", needs=(TOUCH,))
async def touch(ctx: Context, value: JsonValue = None) -> Value:  # noqa: ARG001  the doer answers for it
    """Give back what came in, as a step does that may reach the outside.

    Example:
        uses: thing.touch
    """
    return Value(value=value)


OWN: tuple[Block, ...] = (pass_on, touch)
CATALOGUE: Catalogue = {**load_catalogue(), **{own.name: own for own in OWN}}

_FILES = {
    "five": """
        - id: first
          uses: thing.pass
          with: { value: "${{ input.word }}" }
        - { uses: thing.pass, with: { value: 2 } }
        - { uses: thing.pass, with: { value: 3 } }
        - { uses: thing.pass, with: { value: 4 } }
        - { id: last, uses: thing.pass, with: { value: "${{ steps.first.value }} again" } }
        """,
    "wait": f"""
        - id: approval
          uses: people.approve
          with: {{ question: May it be?, ask: [ {{ who: "user:{APPROVER}", within: 12h }} ] }}
        - {{ id: woken, uses: thing.pass }}
        """,
}


_FILES[APART] = _FILES[FIVE].replace("thing.pass", "thing.touch")


ALONE: Mapping[str, Quota] = MappingProxyType({DOMAIN: Quota()})


def release(domains: Mapping[str, Quota] = ALONE) -> Release:
    """Both workflows, loaded, in each of these domains."""
    definitions = {}
    for domain in domains:
        for name, steps in _FILES.items():
            head = f"workflow: {domain}.{name}\ntitle: Bench\nowner: team:bench\n"
            given = "input: { word: { type: text, default: nothing } }\nsteps:\n"
            text = head + given + steps.strip("\n") + "\n"
            definitions[f"{domain}.{name}"] = read_definition(text, f"{name}.yaml")[0]
    return Release(
        definitions=definitions,
        domains={
            name: Domain(domain=name, title=name, owner="team:bench", classification="internal", quota=quota)
            for name, quota in domains.items()
        },
        tenants={TENANT: Tenant(tenant=TENANT, title="Acme", domains=tuple(domains), connections={})},
        blocks={own.name: tuple(need.name for need in own.needs) for own in OWN},
    )


def request(workflow: str, trigger: str, domain: str = DOMAIN) -> StartRequest:
    """A run to start."""
    return StartRequest(
        tenant=TENANT, workflow=f"{domain}.{workflow}", trigger_key=trigger, started_by=OPERATOR, given={"word": "hi"}
    )


class Doer:
    """Does every piece of work at once.

    Args:
        note: Told run, place and the moment on the machine's monotonic clock when a block's work begins.
    """

    def __init__(self, note: Callable[[str, str, float], None]) -> None:
        self._note = note

    async def perform(self, task: Task) -> Event:
        """See `engine.port.Performer`."""
        work = task.work
        match work:
            case MakePlan():
                return PlanMade(place=work.place, attempt=work.attempt, plan=())
            case FindApprovers():
                return ApproversFound(place=work.place, attempt=work.attempt, rung=work.rung, approvers=(APPROVER,))
            case Perform():
                self._note(task.key.run, work.place, time.monotonic())
                output: dict[str, JsonValue] = {"value": work.arguments.get("value")}
                return Succeeded(place=work.place, attempt=work.attempt, output=output)
