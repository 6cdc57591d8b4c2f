"""Values that know where in a file they stand. `source.py` makes them; reader and checker point at them."""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from pydantic import JsonValue

from regie.core.errors import Fault

Scalar = str | int | float | bool | None


@dataclass(frozen=True, slots=True)
class Node:
    """One value of a file. Lines and columns count from 1; the end is just behind its last character.

    Attributes:
        keys: Where the key of each field stands, for an object.
    """

    value: Scalar | list[Node] | dict[str, Node]
    line: int
    column: int
    end_line: int = 0
    end_column: int = 0
    keys: dict[str, tuple[int, int]] = field(default_factory=dict)

    def plain(self) -> JsonValue:
        """The value as JSON, without positions."""
        if isinstance(self.value, list):
            return [item.plain() for item in self.value]
        if isinstance(self.value, dict):
            return {key: item.plain() for key, item in self.value.items()}
        return self.value

    def below(self, *path: str | int) -> Node:
        """The value at a path, or the deepest value on the way to it."""
        node = self
        for part in path:
            if isinstance(node.value, dict) and isinstance(part, str):
                node = node.value.get(part, node)
            elif isinstance(node.value, list) and isinstance(part, int) and part < len(node.value):
                node = node.value[part]
        return node


@dataclass(frozen=True, slots=True)
class Source:
    """A file that has been read: its name, its text and its tree."""

    file: str
    text: str
    lines: list[str]
    root: Node

    def fault(self, node: Node, message: str, *, hint: str | None = None, offset: int | None = None) -> Fault:
        """Something wrong with a value, or with one character of a text."""
        line, column = (node.line, node.column) if offset is None else self.locate(node, offset)
        return Fault(self.file, line, column, message, hint)

    def fault_at_key(self, node: Node, key: str, message: str, *, hint: str | None = None) -> Fault:
        """Something wrong with a field of an object."""
        line, column = node.keys.get(key, (node.line, node.column))
        return Fault(self.file, line, column, message, hint)

    def locate(self, node: Node, offset: int) -> tuple[int, int]:
        """The line and column of a character of a text, however the text is quoted or folded.

        The word at the offset is looked for in the file, as many times as it occurs in the text before. Where escapes
        make that impossible it is the text's own position.
        """
        text = node.value
        if not isinstance(text, str):
            return node.line, node.column
        words = text[offset : offset + 24].split()
        if not words:
            words, offset = text[:offset].split()[-1:], max(text.rstrip().rfind(" ") + 1, 0)
        if not words:
            return node.line, node.column
        word = words[0]
        times = len(re.findall(f"(?={re.escape(word)})", text[: offset + len(word) - 1]))
        for line in range(node.line, node.end_line + 1):
            written = self.lines[line - 1] if line <= len(self.lines) else ""
            first = node.column - 1 if line == node.line else 0
            for found in re.finditer(f"(?={re.escape(word)})", written):
                if found.start() < first or (line == node.end_line and found.start() >= node.end_column):
                    continue
                if times == 0:
                    return line, found.start() + 1
                times -= 1
        return node.line, node.column
