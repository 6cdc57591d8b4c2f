"""Files that people write, as a tree in which every value knows its line and column.

YAML, narrowed to what JSON can say: YAML 1.2 core values, no aliases, tags or second documents, no key twice, bounded
size and depth. The reader of definitions builds on the tree; tenants and domains are read with `read_record`.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterator
from typing import NoReturn, Protocol, TypeVar

import yaml
from pydantic import BaseModel, ValidationError

from regie.core.errors import DefinitionError, Fault
from regie.core.located import Node, Scalar, Source
from regie.core.operations import MAX_INTEGER
from regie.core.record_faults import record_faults

MAX_CHARACTERS = 1_048_576
MAX_DEPTH = 40
MAX_NODES = 100_000
"""A customer's list of 5,000 TLS endpoints has 45,000, with everything that can be said of one."""

_LOADER = yaml.CSafeLoader if yaml.__with_libyaml__ else yaml.SafeLoader
# YAML's printable characters without the line breaks that editors do not show as such.
_FORBIDDEN = re.compile(
    "[^\\t\\n\\x20-\\x7e\\xa0-\\u2027\\u202a-\\ud7ff\\ue000-\\ufefe\\uff00-\\ufffd\\U00010000-\\U0010ffff]"
)
_NULL = frozenset({"", "~", "null", "Null", "NULL"})
_BOOLEAN = {"true": True, "True": True, "TRUE": True, "false": False, "False": False, "FALSE": False}
_INTEGER = re.compile(r"[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+")
_FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?")
_NOT_FINITE = re.compile(r"[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)")
Written = TypeVar("Written", bound=BaseModel)

_QUOTE_HINT = "put quotes around every text that holds ${{ }}: always inside { } and [ ], and before a colon"


def decode(data: bytes, file: str) -> str:
    """The text of a file.

    Raises:
        DefinitionError: It is not UTF-8.
    """
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as error:
        before = data[: error.start]
        line = before.count(b"\n") + 1
        column = len(before.rpartition(b"\n")[2].decode("utf-8", "replace")) + 1
        raise DefinitionError([Fault(file, line, column, "the file is not UTF-8", "save it as UTF-8")]) from error


def read_source(text: str, file: str) -> Source:
    """Read a file's text into a tree.

    Args:
        text: The whole file.
        file: Its name, for messages.

    Raises:
        DefinitionError: It is too large, not the YAML we know, or has a key twice.
    """
    plain = text.removeprefix("\ufeff").replace("\r\n", "\n").replace("\r", "\n")
    if len(plain) > MAX_CHARACTERS:
        raise DefinitionError([Fault(file, 1, 1, f"the file has more than {MAX_CHARACTERS} characters")])
    lines = plain.split("\n")
    if forbidden := _FORBIDDEN.search(plain):
        line = plain.count("\n", 0, forbidden.start()) + 1
        column = forbidden.start() - plain.rfind("\n", 0, forbidden.start())
        raise DefinitionError(
            [Fault(file, line, column, f"the character U+{ord(forbidden[0]):04X} cannot stand in a file")]
        )
    builder = _Builder(file, lines)
    try:
        root = builder.document(iter(yaml.parse(plain, Loader=_LOADER)))
    except yaml.MarkedYAMLError as error:
        raise DefinitionError([*builder.faults, _syntax_fault(error, file, lines)]) from error
    if builder.faults:
        raise DefinitionError(builder.faults)
    return Source(file, text, lines, root)


class _Mark(Protocol):
    """Where something stands, counted from 0."""

    line: int
    column: int


def _position(mark: _Mark | None) -> tuple[int, int]:
    return (mark.line + 1, mark.column + 1) if mark is not None else (1, 1)


def read_record(text: str, file: str, model: type[Written]) -> Written:
    """Read a file that holds one record, such as a tenant or a domain.

    Types are taken strictly: `"5"` is a text and no number.

    Raises:
        DefinitionError: It is not the YAML we know, or not such a record; names every fault.
    """
    source = read_source(text, file)
    try:
        return model.model_validate_json(json.dumps(source.root.plain()), strict=True)
    except ValidationError as error:
        raise DefinitionError(record_faults(error, model, source, source.root)) from error


def _syntax_fault(error: yaml.MarkedYAMLError, file: str, lines: list[str]) -> Fault:
    line, column = _position(error.problem_mark or error.context_mark)
    if error.context_mark is not None and (line, column) > (len(lines), len(lines[-1])):
        # The end of the file is where it is noticed; what was never closed is where it is wrong.
        line, column = _position(error.context_mark)
    around = {line, _position(error.context_mark)[0]}
    has_expression = any("${{" in lines[at - 1] for at in around if at <= len(lines))
    problem = f"this is not valid YAML: {error.problem or error.context or 'it cannot be read'}"
    return Fault(file, line, column, problem, _QUOTE_HINT if has_expression else None)


class _Builder:
    """Makes the tree out of parser events, and refuses what is not ours before it can grow."""

    def __init__(self, file: str, lines: list[str]) -> None:
        self.file = file
        self.lines = lines
        self.faults: list[Fault] = []
        self.nodes = 0

    def fault_at(self, event: yaml.Event, message: str, hint: str | None = None) -> Fault:
        return Fault(self.file, *_position(event.start_mark), message, hint)

    def document(self, events: Iterator[yaml.Event]) -> Node:
        root: Node | None = None
        for event in events:
            if isinstance(event, yaml.DocumentStartEvent):
                if root is not None:
                    self.stop(event, "a file holds one document", "remove the line ---")
                if event.version or event.tags:
                    self.stop(event, "directives (%) are not allowed")
                root = self.node(next(events), events, 1)
        return Node(None, 1, 1) if root is None else root

    def stop(self, event: yaml.Event, message: str, hint: str | None = None) -> NoReturn:
        raise DefinitionError([*self.faults, self.fault_at(event, message, hint)])

    def node(self, event: yaml.Event, events: Iterator[yaml.Event], depth: int) -> Node:
        self.nodes += 1
        if self.nodes > MAX_NODES:
            self.stop(event, f"the file has more than {MAX_NODES} values")
        if depth > MAX_DEPTH:
            self.stop(event, f"the file is nested more than {MAX_DEPTH} levels deep")
        if not isinstance(event, yaml.ScalarEvent | yaml.CollectionStartEvent) or event.anchor is not None:
            self.stop(event, "anchors (&) and aliases (*) are not allowed", "write the value out, or quote the text")
        if event.tag is not None:
            self.stop(event, "tags (!) are not allowed", "remove it, or quote the text")
        if isinstance(event, yaml.MappingStartEvent):
            return self.mapping(event, events, depth)
        if isinstance(event, yaml.ScalarEvent):
            return self.located(event, event, self.scalar(event))
        items = []
        while not isinstance(item := next(events), yaml.SequenceEndEvent):
            items.append(self.node(item, events, depth + 1))
        return self.located(event, item, items)

    def mapping(self, event: yaml.Event, events: Iterator[yaml.Event], depth: int) -> Node:
        fields: dict[str, Node] = {}
        keys: dict[str, tuple[int, int]] = {}
        while not isinstance(key_event := next(events), yaml.MappingEndEvent):
            key_node = self.node(key_event, events, depth + 1)
            key = key_node.value
            value = self.node(next(events), events, depth + 1)
            if not isinstance(key, str):
                hint = _QUOTE_HINT if isinstance(key, dict) else "put it in quotes if it is a name"
                self.faults.append(self.fault_at(key_event, "the name of a field must be a text", hint))
            elif key in fields:
                message = f"{key!r} is here twice, first in line {keys[key][0]}"
                self.faults.append(self.fault_at(key_event, message, "keep one of them"))
            else:
                fields[key] = value
                keys[key] = (key_node.line, key_node.column)
        return self.located(event, key_event, fields, keys)

    def located(
        self,
        start: yaml.Event,
        end: yaml.Event,
        value: Scalar | list[Node] | dict[str, Node],
        keys: dict[str, tuple[int, int]] | None = None,
    ) -> Node:
        return Node(value, *_position(start.start_mark), *_position(end.end_mark), keys or {})

    def scalar(self, event: yaml.ScalarEvent) -> Scalar:
        """The value of a scalar by the YAML 1.2 core schema; only a plain one can be anything but text."""
        text = event.value
        if event.style:
            return text
        if text in _NULL:
            return None
        if text in _BOOLEAN:
            return _BOOLEAN[text]
        number: int | float | None = None
        if _INTEGER.fullmatch(text):
            # Python refuses to read more than 4300 digits; 64 characters hold more than any number we allow.
            number = int(text[:64], 0 if text.startswith(("0o", "0x")) else 10)
        elif _FLOAT.fullmatch(text):
            number = float(text)
        elif not _NOT_FINITE.fullmatch(text):
            return text
        if number is None or not abs(number) <= (MAX_INTEGER if isinstance(number, int) else sys.float_info.max):
            self.faults.append(
                self.fault_at(event, f"no JSON number is {text[:40]}", "put it in quotes if it is a text")
            )
            return None
        return number
