"""Cedar files as single policies, each with its place in the file: Cedar itself does not say where a fault is."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

_PIECE = re.compile(r'//[^\n]*|"(?:[^"\\]|\\.)*"|;|[^";/]+|.', re.DOTALL)
_BLANK = re.compile(r"(?:\s|//[^\n]*)*")


@dataclass(frozen=True, slots=True)
class Statement:
    """One policy as written; `line` is where it begins, from 1."""

    text: str
    line: int


def statements(text: str) -> Iterator[Statement]:
    """Cut a file behind each semicolon that stands in neither a text nor a comment."""
    begin = 0
    for piece in _PIECE.finditer(text):
        if piece[0] == ";":
            yield from _statement(text, begin, piece.end())
            begin = piece.end()
    yield from _statement(text, begin, len(text))


def _statement(text: str, begin: int, end: int) -> Iterator[Statement]:
    blank = _BLANK.match(text, begin, end)
    begin = blank.end() if blank else begin
    if begin < end:
        yield Statement(text[begin:end], text.count("\n", 0, begin) + 1)
