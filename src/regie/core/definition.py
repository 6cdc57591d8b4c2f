"""A workflow as written, one version of it, immutable. `reading.py` makes it from YAML; the interpreter walks it."""

from __future__ import annotations

from collections.abc import Iterator
from enum import StrEnum
from functools import cached_property
from typing import Literal, TypeVar

from pydantic import BaseModel, ConfigDict, JsonValue

from regie.core import canonical
from regie.core.approval import Rung
from regie.core.starts import Start, WrittenStart

OneStart = TypeVar("OneStart", bound=WrittenStart)

UNDO = "/undo"
"""What the place of a step that takes another back has behind that step's own."""


class Written(BaseModel):
    """A part of a definition."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Kind(StrEnum):
    """What a step does; each is the keyword that says so."""

    USES = "uses"
    DO = "do"
    PARALLEL = "parallel"
    WAIT = "wait"
    RUN = "run"
    FAIL = "fail"
    END = "end"


class InputType(StrEnum):
    """What an input field may hold. JSON type in brackets."""

    TEXT = "text"
    """(string)"""
    EMAIL = "email"
    """(string) one address."""
    DATE = "date"
    """(string) YYYY-MM-DD."""
    DATETIME = "datetime"
    """(string) RFC 3339 with offset."""
    INTEGER = "integer"
    NUMBER = "number"
    BOOLEAN = "boolean"
    CHOICE = "choice"
    """(string) one of `one_of`."""
    LIST = "list"
    """(array of strings)"""


class InputField(Written):
    """One field of a workflow's input.

    Attributes:
        help: What people should know who fill it in.
        source: Where it is read when nobody gives it: a path such as `ticket.fields.employee`, `item.user`
            or `event.employee`.
    """

    name: str
    type: InputType
    title: str = ""
    help: str = ""
    source: str | None = None
    required: bool = True
    default: JsonValue = None
    one_of: tuple[str, ...] = ()


class RetryRule(Written):
    """What `retry:` says; missing parts come from the block."""

    attempts: int | None = None
    first_s: float | None = None
    most_s: float | None = None


class ForEach(Written):
    """`for-each: VARIABLE in EXPRESSION`, at most so many at once."""

    variable: str
    items: str
    at_most: int | None = None


class ChildRun(Written):
    """What `run:` says: which workflow to run as a child. A detached one is not waited for."""

    workflow: str
    detach: bool = False


class Step(Written):
    """One step as written.

    Attributes:
        place: Its unique address within the definition: its `id`, or parent address, slash, position
            (`close/0`; top level steps without id are `0`, `1` ...; the children of `on-error` are `PLACE/on-error/0`).
        kind: Which keyword says what it does.
        uses: Block name, for kind `uses`.
        arguments: The `with:` values as written, `${{ }}` and all; for kind `run` what the child is given.
        condition: The `if:` expression without `${{ }}`, if any.
        steps: Children of `do` and `parallel`.
        message: Text of `fail:` (may hold `${{ }}`), or the outcome note of `end:`.
        line, column: Where it starts in its file, from 1.
    """

    place: str
    id: str | None = None
    kind: Kind
    uses: str | None = None
    arguments: dict[str, JsonValue] = {}
    condition: str | None = None
    for_each: ForEach | None = None
    steps: tuple[Step, ...] = ()
    timeout_s: float | None = None
    retry: RetryRule | None = None
    on_error: tuple[Step, ...] = ()
    undo: JsonValue = None
    wait: JsonValue = None
    run: ChildRun | None = None
    message: str | None = None
    line: int
    column: int

    @cached_property
    def body(self) -> Step:
        """What a `for-each` step does for one item: itself without the loop, its condition and its `on-error`."""
        return self.model_copy(update={"for_each": None, "condition": None, "on_error": ()})

    @property
    def awaits_event(self) -> bool:
        """Whether it waits for an event rather than for a time."""
        return isinstance(self.wait, dict) and "event" in self.wait

    @cached_property
    def _texts(self) -> str:
        return self.model_dump_json(exclude={"steps", "on_error"})

    @cached_property
    def reads_report(self) -> bool:
        """Whether some text of it may name `run.report`, which is only then put into words."""
        return "report" in self._texts

    @cached_property
    def reads_steps(self) -> bool:
        """Whether some text of it may name the results of other steps, which are only then gathered."""
        return "steps" in self._texts

    @cached_property
    def is_literal(self) -> bool:
        """Whether its arguments hold no expression."""
        return "${{" not in canonical.encode(self.arguments).decode()

    @cached_property
    def taking_back(self) -> Step | None:
        """The step that takes this one back, as `undo` says: at `PLACE/undo`, for each item of a loop by itself."""
        if self.undo is None:
            return None
        written = self.undo if isinstance(self.undo, dict) else {"uses": self.undo, "with": self.arguments}
        arguments = written.get("with", {})
        return Step(
            place=f"{self.place}{UNDO}",
            kind=Kind.USES,
            uses=str(written.get("uses")),
            arguments=arguments if isinstance(arguments, dict) else {},
            line=self.line,
            column=self.column,
        )

    def walk(self) -> Iterator[Step]:
        """This step and every step below it, in written order."""
        yield self
        for child in (*self.steps, *self.on_error):
            yield from child.walk()


class Definition(Written):
    """A workflow as written.

    Attributes:
        workflow: `domain.verb_object`.
        sla_finish_s: Seconds in which a run should finish, if the file says; later it is late.
        sla_stop_s: Seconds after which a run fails if it has not finished, if the file says.
        limit: How many changes one run may make before it asks for more, if the file says.
        limit_ask: Whom it asks, if the file says; else the role of the domain's owner.
        tests: The file's own examples, kept as written.
        source: The file's text, to show it as its owner wrote it.
    """

    workflow: str
    title: str
    about: str = ""
    owner: str
    sla_finish_s: float | None = None
    sla_stop_s: float | None = None
    limit: int | None = None
    limit_ask: tuple[Rung, ...] = ()
    start: tuple[Start, ...] = ()
    input: tuple[InputField, ...] = ()
    steps: tuple[Step, ...]
    tests: JsonValue = None
    source: str = ""
    format: Literal[1] = 1

    @property
    def domain(self) -> str:
        """The part of the name before the dot."""
        return self.workflow.partition(".")[0]

    def starts(self, kind: type[OneStart]) -> list[OneStart]:
        """The starts of one kind."""
        return [start for start in self.start if isinstance(start, kind)]

    @cached_property
    def digest(self) -> str:
        """SHA-256 over the whole definition, source text included: what a run is pinned to."""
        return canonical.digest(self.model_dump(mode="json"))

    @cached_property
    def by_place(self) -> dict[str, Step]:
        """Every step by its place, those that take others back included."""
        written = [step for top in self.steps for step in top.walk()]
        undoing = [step.taking_back for step in written if step.taking_back is not None]
        return {step.place: step for step in (*written, *undoing)}

    @cached_property
    def loops(self) -> dict[str, tuple[str, ...]]:
        """For every place, the places of the `for-each` steps around it, outermost first."""
        found: dict[str, tuple[str, ...]] = {}

        def descend(steps: tuple[Step, ...], around: tuple[str, ...]) -> None:
            for step in steps:
                found[step.place] = around
                if step.undo is not None:
                    found[f"{step.place}{UNDO}"] = (*around, step.place) if step.for_each else around
                descend(step.steps, (*around, step.place) if step.for_each else around)
                descend(step.on_error, around)

        descend(self.steps, ())
        return found

    @cached_property
    def by_id(self) -> dict[str, Step]:
        """Every step that has an id, by its id."""
        return {step.id: step for step in self.by_place.values() if step.id}
