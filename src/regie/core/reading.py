"""Reads a workflow file into a definition, or says everything that is wrong with it and where.

This is about the form alone: words, types, expressions that parse. Whether blocks, arguments and references exist is
`checking.py`. Called by it, and through it by whoever loads workflows.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import date, datetime

from pydantic import JsonValue

from regie.core.definition import Definition, InputField, InputType
from regie.core.errors import DefinitionError, Fault
from regie.core.located import Node, Source
from regie.core.nearest import did_you_mean
from regie.core.reading_limit import read_limit
from regie.core.reading_starts import read_starts
from regie.core.reading_steps import StepReader
from regie.core.reading_values import Reader
from regie.core.source import read_source

KEYWORDS = ("workflow", "title", "about", "owner", "sla", "limit", "start", "input", "steps", "tests")
"""Every word of a workflow file."""
_REQUIRED = ("workflow", "title", "owner", "steps")
_SLA = ("finish", "stop")
_FIELD = ("type", "from", "title", "help", "required", "default", "one-of")
_WORKFLOW = re.compile(r"[a-z][a-z0-9_]*\.[a-z][a-z0-9]*(_[a-z0-9]+)*")
_FIELD_NAME = re.compile(r"[a-z][a-z0-9_]{0,62}")
_PATH = re.compile(r"(ticket|item|event)(\.[A-Za-z_][A-Za-z0-9_]*)+")


@dataclass(frozen=True, slots=True)
class Positions:
    """Where the parts of a definition stand in its file.

    Attributes:
        source: The file.
        steps: The object in the file of every step, by place.
        broken: Places of steps that could not be read whole; empty once a definition has no faults of form.
    """

    source: Source
    steps: dict[str, Node]
    broken: frozenset[str] = frozenset()

    def of(self, place: str, *path: str | int) -> Node:
        """The value at a path within a step, such as `"with", "user"`."""
        return self.steps[place].below(*path)

    def fault(self, place: str, *path: str | int, message: str, hint: str | None = None) -> Fault:
        """Something wrong with a value within a step."""
        return self.source.fault(self.of(place, *path), message, hint=hint)


def read_definition(text: str, file: str) -> tuple[Definition, Positions]:
    """Read a workflow file.

    Args:
        text: The whole file.
        file: Its name, for messages.

    Raises:
        DefinitionError: With every fault of form in the file.
    """
    draft = read_draft(text, file)
    if draft.faults:
        raise DefinitionError(draft.faults)
    return draft.definition, draft.positions


@dataclass(frozen=True, slots=True)
class Draft:
    """A definition as far as it could be read, so that what can be read can be checked as well."""

    definition: Definition
    positions: Positions
    faults: list[Fault]


def read_draft(text: str, file: str) -> Draft:
    """Read a workflow file in spite of its faults.

    Raises:
        DefinitionError: There is no tree to read.
    """
    source = read_source(text, file)
    reader = Reader(source)
    fields = reader.fields(source.root, "a workflow file", KEYWORDS, _REQUIRED)
    steps = StepReader(reader)
    finish_s, stop_s = _sla(reader, fields.get("sla"))
    limit, limit_ask = read_limit(reader, fields.get("limit"))
    parts = {
        "workflow": _workflow_name(reader, fields.get("workflow")) or "",
        "title": reader.text(fields.get("title"), "`title`") or "",
        "about": reader.text(fields.get("about"), "`about`") or "",
        "owner": reader.text(fields.get("owner"), "`owner`") or "",
        "sla_finish_s": finish_s,
        "sla_stop_s": stop_s,
        "limit": limit,
        "limit_ask": limit_ask,
        "start": read_starts(reader, fields.get("start")),
        "input": _input(reader, fields.get("input")),
        "steps": steps.steps(fields["steps"], "`steps`") if "steps" in fields else (),
        "tests": fields["tests"].plain() if "tests" in fields else None,
        "source": text,
    }
    definition = Definition.model_validate(parts)
    return Draft(definition, Positions(source, steps.nodes, frozenset(steps.broken)), reader.faults)


def _sla(reader: Reader, node: Node | None) -> tuple[float | None, float | None]:
    """Seconds in which a run should finish, and after which it is stopped."""
    if node is None:
        return None, None
    fields = reader.fields(node, "`sla`", _SLA)
    if isinstance(node.value, dict) and not fields:
        reader.note(node, "`sla` has no 'finish' and no 'stop'")
    finish_s = reader.duration(fields.get("finish"), "`finish`")
    stop_s = reader.duration(fields.get("stop"), "`stop`")
    if finish_s is not None and stop_s is not None and stop_s < finish_s:
        reader.note(fields["stop"], "a run would be stopped before it is late", hint="`stop` is not less than `finish`")
    return finish_s, stop_s


def _workflow_name(reader: Reader, node: Node | None) -> str | None:
    name = reader.text(node, "`workflow`")
    if node is not None and name is not None and not _WORKFLOW.fullmatch(name):
        reader.note(node, f"{name!r} is not a name of the form domain.verb_object", hint="in snake_case")
    return name


def _input(reader: Reader, node: Node | None) -> tuple[InputField, ...]:
    if node is None:
        return ()
    if not isinstance(node.value, dict):
        reader.wrong(node, "`input` is an object: one field for each input")
        return ()
    found = []
    for name, written in node.value.items():
        if not _FIELD_NAME.fullmatch(name):
            reader.note_key(node, name, f"{name!r} is not snake_case", hint="lower case letters, digits and _")
        if field := _input_field(reader, name, written):
            found.append(field)
    return tuple(found)


def _input_field(reader: Reader, name: str, node: Node) -> InputField | None:
    fields = reader.fields(node, "an input field", _FIELD, ("type",))
    type_name = reader.text(fields.get("type"), "`type`")
    types = [kind.value for kind in InputType]
    if type_name is not None and type_name not in types:
        reader.note(fields["type"], f"there is no input type {type_name!r}", hint=did_you_mean(type_name, types))
    if type_name not in types:
        return None
    kind = InputType(type_name)
    source = reader.text(fields.get("from"), "`from`")
    if source is not None and not _PATH.fullmatch(source):
        reader.note(
            fields["from"], f"{source!r} is not a path such as ticket.fields.employee, item.user or event.employee"
        )
    one_of = _one_of(reader, node, kind, fields.get("one-of"))
    required = fields.get("required")
    if required is not None and not isinstance(required.value, bool):
        reader.wrong(required, "`required` is true or false")
    default = fields.get("default")
    if default is not None and not _fits(kind, default.plain(), one_of):
        reader.wrong(default, f"the default of {name} is not of the type {kind}")
    return InputField(
        name=name,
        type=kind,
        title=reader.text(fields.get("title"), "`title`") or "",
        help=reader.text(fields.get("help"), "`help`") or "",
        source=source,
        required=required is None or required.value is not False,
        default=default.plain() if default else None,
        one_of=one_of,
    )


def _one_of(reader: Reader, node: Node, kind: InputType, written: Node | None) -> tuple[str, ...]:
    if written is None:
        if kind is InputType.CHOICE:
            reader.note(node, "a choice has no `one-of`", hint="list what can be chosen")
        return ()
    if kind is not InputType.CHOICE:
        reader.note_key(node, "one-of", f"`one-of` does not go with the type {kind}", hint="the type is choice")
    if not isinstance(written.value, list) or not written.value:
        reader.wrong(written, "`one-of` is a list of texts")
        return ()
    words = [reader.text(item, "what can be chosen") for item in written.value]
    return tuple(word for word in words if word is not None)


def _fits(kind: InputType, value: JsonValue, one_of: tuple[str, ...]) -> bool:
    """Whether a default is of its field's type."""
    match kind:
        case InputType.BOOLEAN:
            return isinstance(value, bool)
        case InputType.INTEGER:
            return isinstance(value, int) and not isinstance(value, bool)
        case InputType.NUMBER:
            return isinstance(value, int | float) and not isinstance(value, bool)
        case InputType.LIST:
            return isinstance(value, list) and all(isinstance(item, str) for item in value)
        case _:
            return isinstance(value, str) and _fits_text(kind, value, one_of)


def _fits_text(kind: InputType, text: str, one_of: tuple[str, ...]) -> bool:
    if kind is InputType.CHOICE:
        return text in one_of
    if kind is InputType.EMAIL:
        return re.fullmatch(r"[^@\s]+@[^@\s]+\.[^@\s]+", text) is not None
    try:
        if kind is InputType.DATE:
            date.fromisoformat(text)
        if kind is InputType.DATETIME:
            return datetime.fromisoformat(text).tzinfo is not None
    except ValueError:
        return False
    return True
