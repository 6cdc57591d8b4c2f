"""Trees of hashes over the leaves of a log: roots, tiles and proofs (RFC 6962, 2.1; tiles as in c2sp.org/tlog-tiles).

A tree grows at its end only. What it must remember to grow is its edge: for each level the hashes of a tile that is not
full yet. A tile holds 256 hashes that stand beside each other; tiles of level 0 hold leaf hashes, those of level 1 the
roots of tiles of level 0, and so on. The notary makes trees, the witness checks that one continues another.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

HEIGHT = 8
WIDTH = 1 << HEIGHT
"""Hashes in a full tile."""
EMPTY_ROOT = hashlib.sha256(b"").digest()
"""The root of a log without leaves."""


_GROUP = 1_000
"""A number in the path of a tile is written in groups of three digits."""
_NUMBER = re.compile(r"((?:x[0-9]{3}/){0,4}[0-9]{3})(?:\.p/([0-9]{1,3}))?")


class TilePlace(NamedTuple):
    """Which tile: its level, and its number in that level."""

    level: int
    n: int


class Span(NamedTuple):
    """The leaves from `first` up to, not including, `end`."""

    first: int
    end: int


Tiles = Callable[[TilePlace], Sequence[bytes]]
"""Gives the hashes of a tile, as many as the tree has of it."""


def node_hash(left: bytes, right: bytes) -> bytes:
    """The hash of an inner node, 32 bytes."""
    return hashlib.sha256(b"\x01" + left + right).digest()


def root_of(hashes: Sequence[bytes]) -> bytes:
    """The root over hashes of one level, any number of them from 1."""
    while len(hashes) > 1:
        paired = [node_hash(hashes[at], hashes[at + 1]) for at in range(0, len(hashes) - 1, 2)]
        # What has no partner goes up as it is: it stands right of every complete part, as RFC 6962 splits.
        hashes = paired + list(hashes[len(hashes) & ~1 :])
    return hashes[0]


@dataclass
class Edge:
    """A tree as far as growing needs it: how many leaves it has, and the hashes of its unfinished tiles by level."""

    size: int = 0
    levels: list[list[bytes]] = field(default_factory=list)

    def copy(self) -> Edge:
        """One that may grow while this one stays."""
        return Edge(self.size, [list(level) for level in self.levels])

    def grow(self, hashes: Iterable[bytes]) -> list[tuple[TilePlace, bytes]]:
        """Put leaf hashes behind the last leaf and give the tiles that became full by it, each as its 8,192 bytes."""
        full: list[tuple[TilePlace, bytes]] = []
        for leaf in hashes:
            self.size += 1
            self._put(0, leaf, full)
        return full

    def root(self) -> bytes:
        """The root, 32 bytes."""
        if not self.size:
            return EMPTY_ROOT
        right: list[bytes] = []
        for level in self.levels:
            if level or right:
                right = [root_of([*level, *right])]
        return right[0]

    def _put(self, level: int, value: bytes, full: list[tuple[TilePlace, bytes]]) -> None:
        if level == len(self.levels):
            self.levels.append([])
        row = self.levels[level]
        row.append(value)
        if len(row) == WIDTH:
            full.append((TilePlace(level, (self.size >> HEIGHT * (level + 1)) - 1), b"".join(row)))
            above = root_of(row)
            row.clear()
            self._put(level + 1, above, full)


def tile_width(place: TilePlace, size: int) -> int:
    """How many hashes of a tile a tree of that size has; 256 when the tile is full."""
    return max(0, min(WIDTH, (size >> HEIGHT * place.level) - place.n * WIDTH))


def tile_path(place: TilePlace, width: int) -> str:
    """Where a tile lies, below the address of its log (c2sp.org/tlog-tiles)."""
    rest, last = divmod(place.n, _GROUP)
    path = f"{last:03d}"
    while rest:
        rest, group = divmod(rest, _GROUP)
        path = f"x{group:03d}/{path}"
    return f"tile/{place.level}/{path}" + ("" if width == WIDTH else f".p/{width}")


def tile_number(path: str) -> tuple[int, int] | None:
    """The number and width of a tile from the end of its path, behind the level; None when it is none.

    >>> tile_number("x001/234.p/56")
    (1234, 56)
    """
    found = _NUMBER.fullmatch(path)
    if found is None:
        return None
    groups, width = found[1].replace("x", "").split("/"), int(found[2] or WIDTH)
    number = int("".join(groups))
    return (
        (number, width) if 1 <= width <= WIDTH and tile_path(TilePlace(0, number), width) == f"tile/0/{path}" else None
    )


def unfinished(size: int) -> list[TilePlace]:
    """The unfinished tiles of a tree, one for each level from the lowest, some without any hash yet."""
    places = []
    level = 0
    while size >> HEIGHT * level:
        places.append(TilePlace(level, size >> HEIGHT * (level + 1)))
        level += 1
    return places


def inclusion(index: int, size: int) -> list[Span]:
    """The parts of a tree whose hashes prove that it has a leaf at that place, from the leaf up (RFC 6962, 2.1.1)."""
    path: list[Span] = []
    first, end = 0, size
    while end - first > 1:
        middle = first + _split(end - first)
        if index < middle:
            path.append(Span(middle, end))
            end = middle
        else:
            path.append(Span(first, middle))
            first = middle
    return path[::-1]


def consistency(old: int, size: int) -> list[Span]:
    """The parts of a tree whose hashes prove that it continues the one of its first leaves (RFC 6962, 2.1.2)."""
    if not 0 < old < size:
        return []
    path: list[Span] = []
    first, end = 0, size
    is_known = True  # The part is the whole old tree, whose root the other side has.
    while end != old:
        middle = first + _split(end - first)
        if old <= middle:
            path.append(Span(middle, end))
            end = middle
        else:
            path.append(Span(first, middle))
            first = middle
            is_known = False
    if not is_known:
        path.append(Span(first, end))
    return path[::-1]


def tiles_of(span: Span) -> set[TilePlace]:
    """The tiles that the hash of a part needs."""
    return {_place(first, height)[0] for first, height in _complete(span)}


def span_hash(span: Span, tiles: Tiles) -> bytes:
    """The hash of a part of a tree."""
    hashes = []
    for first, height in _complete(span):
        place, at = _place(first, height)
        hashes.append(root_of(tiles(place)[at : at + (1 << height % HEIGHT)]))
    folded = hashes[-1]
    for left in reversed(hashes[:-1]):
        folded = node_hash(left, folded)
    return folded


def continues(old: int, old_root: bytes, size: int, root: bytes, proof: Sequence[bytes]) -> bool:
    """Whether a proof shows that the tree of that size begins with the old one (RFC 9162, 2.1.4.2)."""
    if old == size:
        return old_root == root and not proof
    if not 0 < old < size:
        return old == 0 and not proof
    path = list(proof)
    if old & (old - 1) == 0:
        path.insert(0, old_root)
    if not path:
        return False
    fn, sn = old - 1, size - 1
    while fn & 1:
        fn, sn = fn >> 1, sn >> 1
    before = after = path[0]
    for other in path[1:]:
        if sn == 0:
            return False
        if fn & 1 or fn == sn:
            before, after = node_hash(other, before), node_hash(other, after)
            while fn and not fn & 1:
                fn, sn = fn >> 1, sn >> 1
        else:
            after = node_hash(after, other)
        fn, sn = fn >> 1, sn >> 1
    return sn == 0 and before == old_root and after == root


def _split(count: int) -> int:
    """The largest power of two below a count from 2."""
    return 1 << (count - 1).bit_length() - 1


def _complete(span: Span) -> Iterator[tuple[int, int]]:
    """The complete trees that a part is made of, from the left: the first leaf and the height of each."""
    first = span.first
    while first < span.end:
        height = (span.end - first).bit_length() - 1
        if first:
            height = min(height, (first & -first).bit_length() - 1)
        yield first, height
        first += 1 << height


def _place(first: int, height: int) -> tuple[TilePlace, int]:
    """The tile that holds the lowest hashes below a complete tree, and where in it they begin."""
    level = height // HEIGHT
    at = first >> HEIGHT * level
    return TilePlace(level, at >> HEIGHT), at % WIDTH
