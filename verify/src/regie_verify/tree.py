"""Hashes of a log as RFC 6962 defines them. Written for checking: it knows leaves in a row, no tiles, no database."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

EMPTY_ROOT = hashlib.sha256(b"").digest()


def leaf_hash(leaf: bytes) -> bytes:
    """The hash of a record, 32 bytes."""
    return hashlib.sha256(b"\x00" + leaf).digest()


def node_hash(left: bytes, right: bytes) -> bytes:
    """The hash of two parts, 32 bytes."""
    return hashlib.sha256(b"\x01" + left + right).digest()


class GrowingTree:
    """A tree that takes one leaf hash after the other and tells its root at any size on the way."""

    def __init__(self) -> None:
        self.size = 0
        self._whole: list[bytes] = []
        """Roots of complete trees, the largest first: one for each bit that is set in the size."""

    def add(self, value: bytes) -> None:
        """Put a leaf hash behind the last one."""
        rest = self.size
        while rest & 1:
            value = node_hash(self._whole.pop(), value)
            rest >>= 1
        self._whole.append(value)
        self.size += 1

    def root(self) -> bytes:
        """The root over all leaves so far."""
        if not self._whole:
            return EMPTY_ROOT
        root = self._whole[-1]
        for left in self._whole[-2::-1]:
            root = node_hash(left, root)
        return root


def root_over(hashes: Sequence[bytes]) -> bytes:
    """The root over hashes of one level."""
    tree = GrowingTree()
    for each in hashes:
        tree.add(each)
    return tree.root()


def root_of_proof(index: int, size: int, leaf: bytes, proof: Sequence[bytes]) -> bytes | None:
    """The root that an inclusion proof leads to (RFC 9162, 2.1.3.2); none when it has the wrong length."""
    if not 0 <= index < size:
        return None
    at, last, root = index, size - 1, leaf
    for other in proof:
        if last == 0:
            return None
        if at & 1 or at == last:
            root = node_hash(other, root)
            while not at & 1 and at:
                at, last = at >> 1, last >> 1
        else:
            root = node_hash(root, other)
        at, last = at >> 1, last >> 1
    return root if last == 0 else None
