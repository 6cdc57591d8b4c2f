"""Takes the values of secrets out of bytes, in every form in which a program is likely to write them. Pure.

It knows values and not the names of keys: a secret in a URL, an exception or an argument has no key. All forms of many
values are looked for at once (Aho and Corasick, 1975), so that a line costs little more for hundreds of secrets than
for one. Short values are left alone, or half of every log would be blotted out.
"""

from __future__ import annotations

import base64
import html
import itertools
import json
from collections import deque
from collections.abc import Iterable, Iterator
from urllib.parse import quote, quote_plus

import ahocorasick

SHORTEST = 8
"""Characters; shorter values, and shorter lines of a value, are not looked for."""
PIECE = 64
"""Characters of a piece: a longer line is looked for in pieces, so that a part of it is found as well."""
MOST_PIECES = 128
"""Pieces of one value, some six thousand characters: a private key has fifty lines."""
IN_A_BATCH = 32
MOST_BATCHES = 16
"""So many batches of values are known, the latest five hundred values."""
STEP = 8
"""Between the beginnings, and the ends, of a form that are looked for: what is cut off leaves fewer characters."""
SHORTEST_PART = 16
MASK = b"[secret]"


class _Batch:
    """Values that were added one after the other, and what finds them once somebody asks."""

    def __init__(self) -> None:
        self.values: set[str] = set()
        self.automaton: ahocorasick.Automaton | None = None

    def places(self, text: str) -> Iterator[tuple[int, int]]:
        """Where one of them stands."""
        if self.automaton is None:
            self.automaton = _automaton(self.values)
        for last, length in self.automaton.iter(text):
            yield last - length + 1, last + 1


class Scrubber:
    """Knows values, the latest so many of them. In batches, so that one more does not make all of it anew."""

    def __init__(self) -> None:
        self._batches: deque[_Batch] = deque(maxlen=MOST_BATCHES)

    def add(self, value: str) -> None:
        """Look for a value from now on."""
        if any(value in batch.values for batch in self._batches):
            return
        if all(len(line) < SHORTEST for line in value.splitlines()):
            return
        if not self._batches or len(self._batches[-1].values) >= IN_A_BATCH:
            self._batches.append(_Batch())
        self._batches[-1].values.add(value)
        self._batches[-1].automaton = None

    def scrub(self, written: bytes) -> bytes:
        """The same with a mask in place of what is known."""
        # Bytes as characters of the same number: the automaton takes texts.
        text = written.decode("latin-1")
        cleaned, end = bytearray(), 0
        for start, stop in _joined(place for batch in self._batches for place in batch.places(text)):
            cleaned += written[end:start] + MASK
            end = stop
        return bytes(cleaned + written[end:]) if end else written


def _joined(found: Iterable[tuple[int, int]]) -> list[tuple[int, int]]:
    """Places that touch or overlap, as one each, in order."""
    joined: list[tuple[int, int]] = []
    for start, stop in sorted(found):
        if joined and start <= joined[-1][1]:
            joined[-1] = (joined[-1][0], max(joined[-1][1], stop))
        else:
            joined.append((start, stop))
    return joined


def _automaton(values: Iterable[str]) -> ahocorasick.Automaton:
    automaton = ahocorasick.Automaton()
    for value in values:
        for pattern in _patterns(value):
            text = pattern.decode("latin-1")
            automaton.add_word(text, len(text))
    automaton.make_automaton()
    return automaton


def _patterns(value: str) -> Iterator[bytes]:
    for piece in _pieces(value):
        for form in {*_forms(piece)}:
            yield form
            for length in range(SHORTEST_PART, len(form), STEP):
                yield form[:length]
                yield form[-length:]
        for aligned in _in_base64(piece.encode()):
            if len(aligned) >= SHORTEST:
                yield aligned


def _pieces(value: str) -> Iterator[str]:
    """The lines of a value, long ones in pieces that overlap: where one is cut off, another can still be found."""
    found = (
        line[max(min(start, len(line) - PIECE), 0) :][:PIECE]
        for line in value.splitlines()
        for start in range(0, max(len(line) - SHORTEST_PART, 1), PIECE - SHORTEST_PART)
    )
    return itertools.islice((piece for piece in found if len(piece) >= SHORTEST), MOST_PIECES)


def _forms(piece: str) -> Iterator[bytes]:
    """How a text is written by what writes logs, URLs, pages, errors and dumps."""
    raw = piece.encode()
    texts = [
        piece,
        piece[::-1],
        json.dumps(piece)[1:-1],
        json.dumps(piece, ensure_ascii=False)[1:-1],
        json.dumps(json.dumps(piece))[3:-3],
        json.dumps(json.dumps(piece, ensure_ascii=False))[3:-3],
        json.dumps(json.dumps(piece, ensure_ascii=False), ensure_ascii=False)[3:-3],
        quote(piece, safe=""),
        quote(piece),
        quote_plus(piece),
        html.escape(piece),
        html.escape(piece, quote=False),
        *_as_python_shows(piece, raw),
        *(json.dumps(shown)[1:-1] for shown in _as_python_shows(piece, raw)),
        raw.hex(),
        raw.hex().upper(),
        raw.hex(" "),
        raw.hex(":"),
    ]
    for text in texts:
        # Half a character, as a JSON text may hold it, is written as it can be.
        yield text.encode("utf-8", "surrogatepass")
    for name in ("utf-16-le", "utf-16-be"):
        yield piece.encode(name)


def _as_python_shows(piece: str, raw: bytes) -> set[str]:
    """With quotes escaped or not: that depends on which others stand in the whole text."""
    return {
        *(repr(piece)[1:-1], repr(piece + '"')[1:-2]),
        *(ascii(piece)[1:-1], ascii(piece + '"')[1:-2]),
        *(repr(raw)[2:-1], repr(raw + b'"')[2:-2]),
    }


def _in_base64(raw: bytes) -> Iterator[bytes]:
    """What is sure to be seen of some bytes in base64, wherever they stand among others: in `user:password` too."""
    for before in range(3):
        whole = base64.b64encode(b"\0" * before + raw)
        # The first and the last characters depend on the neighbours.
        sure = whole[(0, 2, 3)[before] : (before + len(raw)) * 8 // 6]
        yield sure
        yield sure.replace(b"+", b"-").replace(b"/", b"_")
