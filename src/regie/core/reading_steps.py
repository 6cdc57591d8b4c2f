"""Reads the steps of a workflow: dispatches on the keyword that says what a step does. Called by `reading.py`."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import UTC

from pydantic import JsonValue

from regie.core.capability import NAME
from regie.core.definition import ChildRun, ForEach, Kind, RetryRule, Step
from regie.core.dialect import RESERVED_NAMES
from regie.core.expression import has_expression
from regie.core.located import Node
from regie.core.moments import read_moment
from regie.core.nearest import did_you_mean
from regie.core.reading_values import Reader

ROOTS = ("input", "steps", "settings", "run", "error")
"""The names from which an expression can start, loop variables aside."""
KEYWORDS = (
    "id", "uses", "with", "if", "do", "parallel", "for-each", "at-most", "wait", "run",
    "timeout", "retry", "on-error", "undo", "fail", "end",
)  # fmt: skip
"""Every word of a step."""
_KINDS = tuple(kind.value for kind in Kind)
_ANYWHERE = ("id", "if")
_LOOPS = ("for-each", "at-most", "on-error")
_GOES_WITH: dict[Kind, tuple[str, ...]] = {
    Kind.USES: (*_ANYWHERE, *_LOOPS, "with", "timeout", "retry", "undo"),
    Kind.DO: (*_ANYWHERE, *_LOOPS, "undo"),
    Kind.PARALLEL: (*_ANYWHERE, *_LOOPS, "undo"),
    Kind.WAIT: (*_ANYWHERE, "on-error"),
    Kind.RUN: (*_ANYWHERE, *_LOOPS, "with", "undo"),
    Kind.FAIL: _ANYWHERE,
    Kind.END: _ANYWHERE,
}
_WAITS = ("until", "event", "where", "within")
_CHILD = ("workflow", "with", "detach")
_FIELD = re.compile(r"[A-Za-z_][A-Za-z0-9_-]{0,62}")
"""The name of a field in the data of an event."""
_ID = re.compile(r"[a-z][a-z0-9_]{0,62}")
_FOR_EACH = re.compile(r"(?P<variable>\S+)\s+in\s+(?P<items>.*)", re.DOTALL)
# `start` and `answer` are the places of the interpreter's own steps around the input.
_RESERVED_IDS = frozenset({*ROOTS, "start", "answer"})


class StepReader:
    """Reads steps and keeps where each of them stands.

    Attributes:
        nodes: The object in the file of every step, by place.
        broken: Places of steps that could not be read whole; what they mean is not known.
    """

    def __init__(self, reader: Reader) -> None:
        self.reader = reader
        self.nodes: dict[str, Node] = {}
        self.ids: dict[str, Node] = {}
        self.broken: set[str] = set()

    def steps(self, node: Node, what: str, prefix: str = "", loops: tuple[str, ...] = ()) -> tuple[Step, ...]:
        """A list of steps.

        Args:
            node: The list.
            what: Whose steps they are, for messages.
            prefix: What comes before the position in the places of steps without id.
            loops: The variables of the loops around them.
        """
        if not isinstance(node.value, list) or not node.value:
            self.reader.wrong(node, f"{what} is a list of steps", "begin each step with a dash")
            return ()
        return tuple(self.step(item, f"{prefix}{at}", loops) for at, item in enumerate(node.value))

    def step(self, node: Node, place: str, loops: tuple[str, ...]) -> Step:
        """One step with everything below it."""
        fields = self.reader.fields(node, "a step", KEYWORDS)
        kind = self._kind(node, fields)
        step_id = self._id(fields.get("id"))
        place = step_id or place
        self.nodes[place] = node
        if kind is None:
            self.broken.add(place)
            return Step(place=place, id=step_id, kind=Kind.END, line=node.line, column=node.column)
        for key in fields:
            if key != kind and key in KEYWORDS and key not in (*_GOES_WITH[kind], *_KINDS):
                self.reader.note_key(node, key, f"`{key}` does not go with `{kind}`")
        before = len(self.reader.faults)
        loop = self._for_each(node, fields, loops)
        condition = self._condition(fields.get("if"))
        uses = self._block_name(fields[kind], "`uses`") if kind is Kind.USES else None
        if len(self.reader.faults) > before:
            self.broken.add(place)
        inner = (*loops, loop.variable) if loop else loops
        main = fields[kind]
        return Step(
            place=place,
            id=step_id,
            kind=kind,
            uses=uses,
            arguments=self._arguments(self._given(main, fields) if kind is Kind.RUN else fields.get("with")),
            condition=condition,
            for_each=loop,
            steps=self.steps(main, f"`{kind}`", f"{place}/", inner) if kind in (Kind.DO, Kind.PARALLEL) else (),
            timeout_s=self.reader.duration(fields.get("timeout"), "`timeout`"),
            retry=self._retry(fields.get("retry")),
            on_error=self._on_error(fields.get("on-error"), place, loops),
            undo=self._undo(fields.get("undo")),
            wait=self._wait(main) if kind is Kind.WAIT else None,
            run=self._child(main) if kind is Kind.RUN else None,
            message=self._message(main, kind) if kind in (Kind.FAIL, Kind.END) else None,
            line=node.line,
            column=node.column,
        )

    def _on_error(self, node: Node | None, place: str, loops: tuple[str, ...]) -> tuple[Step, ...]:
        return () if node is None else self.steps(node, "`on-error`", f"{place}/on-error/", loops)

    def _kind(self, node: Node, fields: Mapping[str, Node]) -> Kind | None:
        """Which keyword says what the step does."""
        present = [key for key in fields if key in _KINDS]
        if len(present) > 1:
            for key in present[1:]:
                self.reader.note_key(
                    node,
                    key,
                    f"a step does one thing, and this one already has `{present[0]}`",
                    hint="make it two steps",
                )
        if present:
            return Kind(present[0])
        if isinstance(node.value, dict):
            unknown = [key for key in node.value if key not in KEYWORDS]
            if not any((did_you_mean(key, _KINDS) or "").startswith("did") for key in unknown):
                self.reader.note(node, "this step does not say what it does", hint=f"one of {', '.join(_KINDS)}")
        return None

    def _id(self, node: Node | None) -> str | None:
        name = self.reader.text(node, "`id`")
        if node is None or name is None:
            return None
        if not _ID.fullmatch(name):
            self.reader.note(node, f"the id {name!r} is not snake_case", hint="lower case letters, digits and _")
        elif name in _RESERVED_IDS:
            self.reader.note(node, f"the id {name!r} is a word of the language", hint="choose another")
        elif name in self.ids:
            self.reader.note(node, f"the id {name!r} is here twice, first in line {self.ids[name].line}")
        else:
            self.ids[name] = node
            return name
        return None

    def _block_name(self, node: Node, what: str) -> str | None:
        name = self.reader.text(node, what)
        if name is not None and not NAME.match(name):
            self.reader.note(node, f"{name!r} is not a name of the form noun.verb")
            return None
        return name

    def _condition(self, node: Node | None) -> str | None:
        if node is None:
            return None
        if isinstance(node.value, bool):
            return "true" if node.value else "false"
        if not isinstance(node.value, str):
            self.reader.wrong(node, "`if` is an expression that gives true or false")
            return None
        return node.value if self.reader.expression(node, node.value) else None

    def _for_each(self, node: Node, fields: Mapping[str, Node], loops: tuple[str, ...]) -> ForEach | None:
        at_most = self.reader.whole_number(fields.get("at-most"), "`at-most`")
        written = fields.get("for-each")
        if written is None:
            if "at-most" in fields:
                self.reader.note_key(node, "at-most", "`at-most` needs a `for-each`")
            return None
        found = _FOR_EACH.fullmatch(written.value) if isinstance(written.value, str) else None
        if found is None:
            self.reader.note(written, "`for-each` is written: name in expression", hint="such as group in input.groups")
            return None
        variable = found["variable"]
        if not _ID.fullmatch(variable):
            self.reader.note(
                written, f"the name {variable!r} is not snake_case", hint="lower case letters, digits and _"
            )
        elif variable in ROOTS or variable in RESERVED_NAMES:
            self.reader.note(written, f"the name {variable!r} is a word of the language", hint="choose another")
        elif variable in loops:
            self.reader.note(written, f"the loop around this one already has the name {variable!r}")
        if not self.reader.expression(written, found["items"], found.start("items")):
            return None
        return ForEach(variable=variable, items=found["items"], at_most=at_most)

    def _arguments(self, node: Node | None) -> dict[str, JsonValue]:
        if node is None:
            return {}
        if not isinstance(node.value, dict):
            self.reader.wrong(node, "`with` is an object: one field for each argument")
            return {}
        self.reader.texts(node)
        return {name: argument.plain() for name, argument in node.value.items()}

    def _child(self, node: Node) -> ChildRun | None:
        """Which workflow a step runs: its name alone, or an object."""
        if not isinstance(node.value, dict):
            name = self._block_name(node, "`run`")
            return None if name is None else ChildRun(workflow=name)
        fields = self.reader.fields(node, "`run`", _CHILD, ("workflow",))
        detach = fields.get("detach")
        if detach is not None and not isinstance(detach.value, bool):
            self.reader.wrong(detach, "`detach` is true or false")
        name = self._block_name(fields["workflow"], "`workflow`") if "workflow" in fields else None
        if name is None:
            return None
        return ChildRun(workflow=name, detach=detach is not None and detach.value is True)

    def _given(self, node: Node, fields: Mapping[str, Node]) -> Node | None:
        """What a child is given: `with` beside `run`, or in it."""
        inner = node.value.get("with") if isinstance(node.value, dict) else None
        if inner is not None and "with" in fields:
            self.reader.note(inner, "`with` is here twice: in `run` and beside it", hint="write it once")
        return inner or fields.get("with")

    def _retry(self, node: Node | None) -> RetryRule | None:
        if node is None:
            return None
        fields = self.reader.fields(node, "`retry`", ("attempts", "first", "most"))
        return RetryRule(
            attempts=self.reader.whole_number(fields.get("attempts"), "`attempts`"),
            first_s=self.reader.duration(fields.get("first"), "`first`"),
            most_s=self.reader.duration(fields.get("most"), "`most`"),
        )

    def _undo(self, node: Node | None) -> JsonValue:
        if node is None:
            return None
        if isinstance(node.value, dict):
            fields = self.reader.fields(node, "`undo`", ("uses", "with"), ("uses",))
            if "uses" in fields:
                self._block_name(fields["uses"], "`uses`")
            self._arguments(fields.get("with"))
        else:
            self._block_name(node, "`undo`")
        return node.plain()

    def _wait(self, node: Node) -> JsonValue:
        if isinstance(node.value, dict):
            fields = self.reader.fields(node, "`wait`", _WAITS)
            if "event" in fields:
                self._event(node, fields)
            elif "until" in fields:
                self._moment(fields["until"])
                self._only_with_event(node, fields)
            else:
                self.reader.note(node, "`wait` has no 'until' and no 'event'")
        elif isinstance(node.value, str) and has_expression(node.value):
            self.reader.texts(node)
        else:
            self.reader.duration(node, "`wait`")
        return node.plain()

    def _event(self, node: Node, fields: Mapping[str, Node]) -> None:
        """An event to wait for: its name, what its data must hold, and until when."""
        self._block_name(fields["event"], "`event`")
        if "until" in fields:
            self.reader.note_key(node, "until", "`until` does not go with `event`", hint="say `within`: 8h")
        where, within = fields.get("where"), fields.get("within")
        if where is not None and not isinstance(where.value, dict):
            self.reader.wrong(where, "`where` is an object: one value for each field of the event")
        elif where is not None:
            for key in where.keys:
                if not _FIELD.fullmatch(key):
                    self.reader.note_key(where, key, f"{key!r} is no name of a field")
            self.reader.texts(where)
        if within is None:
            self.reader.note(node, "`wait` for an event has no 'within'", hint="nothing is waited for without end")
        elif isinstance(within.value, str) and has_expression(within.value):
            self.reader.texts(within)
        else:
            self.reader.duration(within, "`within`")

    def _only_with_event(self, node: Node, fields: Mapping[str, Node]) -> None:
        for key in ("where", "within"):
            if key in fields:
                self.reader.note_key(node, key, f"`{key}` goes with `event` only")

    def _moment(self, node: Node) -> None:
        if isinstance(node.value, str) and has_expression(node.value):
            self.reader.texts(node)
            return
        try:
            read_moment(node.plain(), UTC)
        except ValueError as error:
            self.reader.note(node, str(error))

    def _message(self, node: Node, kind: Kind) -> str | None:
        if kind is Kind.END and node.value is None:
            return None
        if not isinstance(node.value, str) or not node.value.strip():
            self.reader.wrong(node, f"`{kind}` is a text that says why")
            return None
        self.reader.texts(node)
        return node.value
