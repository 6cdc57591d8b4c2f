"""A run that a test moves by hand: answers what is out, fires timers, decides, and sees what the interpreter says."""

from __future__ import annotations

import textwrap

from pydantic import JsonValue

from regie.blocks import load_catalogue
from regie.core.block import Block, Catalogue, Context, Retry, block
from regie.core.capability import Capability, Effect, Record
from regie.core.definition import Definition
from regie.core.effect import EffectNote
from regie.core.errors import Failure
from regie.core.interpreter import advance, begin, outstanding
from regie.core.reading import read_definition
from regie.core.run import RunFacts, RunState, StepState
from regie.core.run_commands import ClearTimer, Command, SetTimer, Work
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
    Resumed,
    Succeeded,
    TimerFired,
)

JAN, EVA, OLE, PIA = (f"{name}@example.com" for name in ("jan", "eva", "ole", "pia"))


class Given(Record):
    """What the blocks of these tests are given and give back."""

    value: JsonValue = None


WRITE = Capability("thing.write", Effect.WRITE, Given, Given, "Write a thing.")


@block("thing.look")
async def look(ctx: Context, value: JsonValue = None) -> Given:
    """Look at a thing.

    Example:
        uses: thing.look
    """
    return Given(value=value)


@block("thing.write", needs=(WRITE,), retry=Retry(attempts=3, first_s=10.0, most_s=15.0), timeout_s=7.0)
async def write(ctx: Context, value: JsonValue = None) -> Given:
    """Write a thing.

    Example:
        uses: thing.write
    """
    return await ctx.change(WRITE, Given(value=value))


OWN: tuple[Block, ...] = (look, write)
CATALOGUE: Catalogue = {**load_catalogue(), **{own.name: own for own in OWN}}


def definition(steps: str, *, head: str = "") -> Definition:
    """A definition from its steps, written as YAML and indented at will."""
    text = "workflow: things.try\ntitle: Try\nowner: team:test\n"
    text += textwrap.dedent(head).strip("\n") + "\nsteps:\n"
    text += textwrap.indent(textwrap.dedent(steps).strip("\n"), "  ") + "\n"
    return read_definition(text, "try.yaml")[0]


def failure(kind: str = "Terminal", *, may_retry: bool = False, after_s: float | None = None) -> Failure:
    return Failure(kind=kind, message=f"{kind} happened", may_retry=may_retry, after_s=after_s)


class Trial:
    """One run.

    Attributes:
        out: The latest work handed out, by place; answering it takes it away.
        handed: Everything ever handed out, in order.
        timers: Seconds until each timer that is set.
        commands: What the last event led to.
        notes: Every command that is no work, in order.
    """

    def __init__(
        self,
        steps: str | Definition,
        *,
        head: str = "",
        given: dict[str, JsonValue] | None = None,
        settings: dict[str, JsonValue] | None = None,
        ticket: str = "",
        started_by: str = "jira",
        dry: bool = False,
        time_zone: str = "UTC",
        catalogue: Catalogue = CATALOGUE,
    ) -> None:
        self.definition = steps if isinstance(steps, Definition) else definition(steps, head=head)
        self.catalogue = catalogue
        self.facts = RunFacts(
            id="run-1",
            tenant="acme",
            domain="things",
            workflow=self.definition.workflow,
            ticket=ticket,
            started_by=started_by,
            given=given or {},
            settings=settings or {},
            dry=dry,
            time_zone=time_zone,
        )
        self.state = begin(self.facts)
        self.out: dict[str, Work] = {}
        self.handed: list[Work] = []
        self.timers: dict[str, float] = {}
        self.commands: tuple[Command, ...] = ()
        self.notes: list[Command] = []
        self.take(Begun())

    def take(self, event: Event) -> tuple[Command, ...]:
        """Take an event in as an engine would, and check what holds for every advance."""
        before = self.state.model_dump_json()
        event = EVENT.validate_json(EVENT.dump_json(event))
        step = advance(self.definition, self.catalogue, self.state, event)
        assert self.state.model_dump_json() == before, "advance changed its input"
        assert advance(self.definition, self.catalogue, self.state, event) == step, "advance is not a function"
        self.state = RunState.model_validate_json(step.state.model_dump_json())
        assert self.state == step.state, "the state does not survive JSON"
        self.commands = step.commands
        for command in step.commands:
            self._carry_out(command)
        return step.commands

    def _carry_out(self, command: Command) -> None:
        match command:
            case SetTimer():
                self.timers[command.timer] = command.after_s
            case ClearTimer():
                self.timers.pop(command.timer, None)
            case _ if isinstance(command, Work):
                self.out[command.place] = command
                self.handed.append(command)
                return
        self.notes.append(command)

    def outstanding(self) -> tuple[Work, ...]:
        return outstanding(self.definition, self.catalogue, self.state)

    # --- answers ------------------------------------------------------------------------------------------------------

    def ok(self, place: str, output: JsonValue = None, *, effects: tuple[EffectNote, ...] = ()) -> None:
        work = self.out.pop(place)
        self.take(Succeeded(place=place, attempt=work.attempt, output=output, effects=effects))

    def fails(self, place: str, why: Failure | None = None) -> None:
        work = self.out.pop(place)
        self.take(Failed(place=place, attempt=work.attempt, failure=why or failure()))

    def postpones(self, place: str, handle: JsonValue, again_after_s: float) -> None:
        work = self.out.pop(place)
        self.take(Postponed(place=place, attempt=work.attempt, handle=handle, again_after_s=again_after_s))

    def plans(self, place: str) -> None:
        work = self.out.pop(place)
        self.take(PlanMade(place=place, attempt=work.attempt, plan=()))

    def finds(self, place: str, *people: str) -> None:
        work = self.out.pop(place)
        assert work.kind == "find_approvers"
        self.take(ApproversFound(place=place, attempt=work.attempt, rung=work.rung, approvers=people))

    def decides(self, place: str, by: str, *, says_yes: bool = True, comment: str = "") -> None:
        self.take(Decided(place=place, decision="approved" if says_yes else "refused", by=by, comment=comment))

    def cancels(self, by: str = OLE, reason: str = "") -> None:
        self.take(Cancelled(by=by, reason=reason))

    def pauses(self, by: str = OLE, reason: str = "") -> None:
        self.take(Paused(by=by, reason=reason))

    def resumes(self, by: str = OLE) -> None:
        self.take(Resumed(by=by))

    def fires(self, timer: str) -> None:
        del self.timers[timer]
        self.take(TimerFired(timer=timer))

    # --- what came of it ----------------------------------------------------------------------------------------------

    @property
    def status(self) -> str:
        return self.state.status.value

    def step(self, place: str) -> StepState:
        return self.state.steps[place]

    def outcome(self, place: str) -> str | None:
        """The status of a step, none when it has not begun."""
        state = self.state.steps.get(place)
        return None if state is None else state.status.value

    def said(self, kind: type[Command]) -> list[Command]:
        return [note for note in self.notes if isinstance(note, kind)]
