"""Takes the values of secrets out of bytes, in every form in which a program is likely to write them. Pure.

It knows values and not the names of keys: a secret in a URL, an exception or an argument has no key. Each form is kept
as short stretches of it, one every few bytes, and each place of a line is looked up among them: so a line costs the
same for hundreds of secrets as for one, one more secret makes nothing anew, and what is cut off anywhere is found.
Short values are left alone, or half of every log would be blotted out.
"""

from __future__ import annotations

import base64
import html
import itertools
import json
from collections import Counter
from collections.abc import Iterable, Iterator
from urllib.parse import quote, quote_plus

SHORTEST = 8
"""Characters; shorter values, and shorter lines of a value, are not looked for."""
PIECE = 64
"""Characters of a piece: a longer line is written in the various forms piece by piece."""
MOST_PIECES = 128
"""Pieces of one value, some six thousand characters: a private key has fifty lines."""
MOST_VALUES = 512
"""So many are known, the latest: some 50 MB when half of them are session tokens of a cloud, of 800 characters."""
STEP = 8
"""Bytes between the beginnings of two stretches of a form: what is cut off leaves fewer."""
SHORTEST_PART = 16
"""Bytes of a stretch, or all of a form that is shorter. Pieces overlap by as many characters."""
MASK = b"[secret]"


class Scrubber:
    """Knows values, the latest so many of them."""

    def __init__(self) -> None:
        self._values: dict[str, None] = {}
        # By length, how many values have each stretch.
        self._stretches: dict[int, Counter[bytes]] = {}

    def add(self, value: str) -> None:
        """Look for a value from now on."""
        if value in self._values or all(len(line) < SHORTEST for line in value.splitlines()):
            return
        if len(self._values) >= MOST_VALUES:
            self._forget(next(iter(self._values)))
        self._values[value] = None
        for stretch in _stretches(value):
            self._stretches.setdefault(len(stretch), Counter())[stretch] += 1

    def scrub(self, written: bytes) -> bytes:
        """The same with a mask in place of what is known."""
        cleaned, end = bytearray(), 0
        for start, stop in _joined(self._places(written)):
            cleaned += written[end:start] + MASK
            end = stop
        return bytes(cleaned + written[end:]) if end else written

    def _places(self, written: bytes) -> Iterator[tuple[int, int]]:
        for length, known in self._stretches.items():
            for start in range(len(written) - length + 1):
                if written[start : start + length] in known:
                    yield start, start + length

    def _forget(self, value: str) -> None:
        del self._values[value]
        for stretch in _stretches(value):
            known = self._stretches[len(stretch)]
            known[stretch] -= 1
            if not known[stretch]:
                del known[stretch]
            if not known:
                del self._stretches[len(stretch)]


def _joined(found: Iterable[tuple[int, int]]) -> list[tuple[int, int]]:
    """Places that touch or overlap, as one each, in order."""
    joined: list[tuple[int, int]] = []
    for start, stop in sorted(found):
        if joined and start <= joined[-1][1]:
            joined[-1] = (joined[-1][0], max(joined[-1][1], stop))
        else:
            joined.append((start, stop))
    return joined


def _stretches(value: str) -> set[bytes]:
    """What is looked for of a value."""
    found = set[bytes]()
    for piece in _pieces(value):
        forms = [*_forms(piece), *(each for each in _in_base64(piece.encode()) if len(each) >= SHORTEST)]
        for form in forms:
            found.update(form[at : at + SHORTEST_PART] for at in range(0, len(form) - SHORTEST_PART + 1, STEP))
            found.add(form[-SHORTEST_PART:])
    return found


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
