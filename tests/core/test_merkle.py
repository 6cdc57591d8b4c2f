"""Trees: roots, tiles and proofs against a plain reading of RFC 6962 that knows no tiles and no edge."""

from __future__ import annotations

import hashlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from regie.core import merkle
from regie.core.audit import leaf_hash
from regie.core.merkle import EMPTY_ROOT, Edge, Span, TilePlace

SIZES = st.one_of(st.integers(1, 40), st.integers(250, 520), st.sampled_from([1, 255, 256, 257, 512]))
PATIENT = settings(deadline=None)
"""The plain reading is slow, and so is a busy machine."""


def leaves(count: int) -> list[bytes]:
    return [leaf_hash(number.to_bytes(4, "big")) for number in range(count)]


LEAVES = leaves(70_000)


def naive_root(hashes: list[bytes]) -> bytes:
    """MTH as RFC 6962, 2.1 writes it."""
    if not hashes:
        return hashlib.sha256(b"").digest()
    if len(hashes) == 1:
        return hashes[0]
    split = 1
    while split * 2 < len(hashes):
        split *= 2
    return hashlib.sha256(b"\x01" + naive_root(hashes[:split]) + naive_root(hashes[split:])).digest()


def naive_inclusion(index: int, hashes: list[bytes]) -> list[bytes]:
    """PATH as RFC 6962, 2.1.1 writes it."""
    if len(hashes) == 1:
        return []
    split = 1
    while split * 2 < len(hashes):
        split *= 2
    if index < split:
        return [*naive_inclusion(index, hashes[:split]), naive_root(hashes[split:])]
    return [*naive_inclusion(index - split, hashes[split:]), naive_root(hashes[:split])]


def naive_consistency(old: int, hashes: list[bytes], *, is_whole: bool = True) -> list[bytes]:
    """SUBPROOF as RFC 6962, 2.1.2 writes it."""
    if old == len(hashes):
        return [] if is_whole else [naive_root(hashes)]
    split = 1
    while split * 2 < len(hashes):
        split *= 2
    if old <= split:
        return [*naive_consistency(old, hashes[:split], is_whole=is_whole), naive_root(hashes[split:])]
    return [*naive_consistency(old - split, hashes[split:], is_whole=False), naive_root(hashes[:split])]


class Tiles:
    """All tiles of a tree, full and unfinished, made without the edge."""

    def __init__(self, hashes: list[bytes]) -> None:
        self.levels = [hashes]
        while len(self.levels[-1]) >= merkle.WIDTH:
            row = self.levels[-1]
            self.levels.append([naive_root(row[at : at + 256]) for at in range(0, len(row) - 255, 256)])

    def __call__(self, place: TilePlace) -> list[bytes]:
        return self.levels[place.level][place.n * 256 : (place.n + 1) * 256]


@PATIENT
@given(st.lists(st.integers(0, 300), max_size=6))
def test_a_tree_that_grows_in_parts_has_the_root_of_all_its_leaves(parts: list[int]) -> None:
    edge, size = Edge(), 0
    assert edge.root() == EMPTY_ROOT
    for part in parts:
        edge.grow(LEAVES[size : size + part])
        size += part
        assert edge.size == size
        assert edge.root() == naive_root(LEAVES[:size])


@PATIENT
@given(SIZES)
def test_full_tiles_and_unfinished_ones_are_those_of_the_tree(size: int) -> None:
    assert_tiles(size)


def test_tiles_of_a_third_level_are_too() -> None:
    assert_tiles(65_537 + 300)


def assert_tiles(size: int) -> None:
    edge = Edge()
    full = dict(edge.grow(LEAVES[:size]))
    tiles = Tiles(LEAVES[:size])
    for place, data in full.items():
        assert data == b"".join(tiles(place))
        assert merkle.tile_width(place, size) == 256
    assert len(full) == sum(len(row) // 256 for row in tiles.levels)
    unfinished = merkle.unfinished(size)
    assert [tiles(place) for place in unfinished] == edge.levels[: len(unfinished)]
    assert all(merkle.tile_width(place, size) == len(tiles(place)) for place in unfinished)
    again = Edge(size, [list(tiles(place)) for place in unfinished])
    assert again.root() == edge.root()


@PATIENT
@given(st.data())
def test_proofs_are_those_of_the_rfc_and_need_only_the_tiles_they_name(data: st.DataObject) -> None:
    size = data.draw(SIZES, label="size")
    index = data.draw(st.integers(0, size - 1), label="index")
    old = data.draw(st.integers(1, size), label="old")
    tiles = Tiles(LEAVES[:size])

    def proof(spans: list[Span]) -> list[bytes]:
        named = {place: tiles(place) for span in spans for place in merkle.tiles_of(span)}
        return [merkle.span_hash(span, named.__getitem__) for span in spans]

    assert proof(merkle.inclusion(index, size)) == naive_inclusion(index, LEAVES[:size])
    assert proof(merkle.consistency(old, size)) == naive_consistency(old, LEAVES[:size])


@PATIENT
@given(st.data())
def test_a_tree_continues_another_only_when_it_does(data: st.DataObject) -> None:
    size = data.draw(st.integers(1, 300), label="size")
    old = data.draw(st.integers(1, size), label="old")
    before, after = naive_root(LEAVES[:old]), naive_root(LEAVES[:size])
    proof = naive_consistency(old, LEAVES[:size])
    assert merkle.continues(old, before, size, after, proof)
    other = hashlib.sha256(before).digest()
    assert not merkle.continues(old, other, size, after, proof)
    assert not merkle.continues(old, before, size, other, proof)
    assert not merkle.continues(old, before, size, after, [*proof, other])
    if proof:
        at = data.draw(st.integers(0, len(proof) - 1), label="at")
        assert not merkle.continues(old, before, size, after, [*proof[:at], other, *proof[at + 1 :]])
        assert not merkle.continues(old, before, size, after, proof[:at] + proof[at + 1 :])


def test_whatever_continues_nothing() -> None:
    assert merkle.continues(0, EMPTY_ROOT, 3, naive_root(LEAVES[:3]), [])
    assert not merkle.continues(4, naive_root(LEAVES[:4]), 3, naive_root(LEAVES[:3]), [])


@pytest.mark.parametrize("size", [0, 1, 256, 65_536])
def test_a_copy_grows_alone(size: int) -> None:
    edge = Edge()
    edge.grow(LEAVES[:size])
    root = edge.root()
    edge.copy().grow(LEAVES[size : size + 300])
    assert (edge.size, edge.root()) == (size, root)
