"""The generic catalogue, one module a noun. A block reaches the world only through its context."""

from __future__ import annotations

import sys

from regie.core.block import Block, Catalogue
from regie.discovery import members


def load_catalogue() -> Catalogue:
    """Every block below this package, by name, in alphabetical order.

    Raises:
        ValueError: Two blocks have the same name.
    """
    found: dict[str, Block] = {}
    for block in members(sys.modules[__name__], Block):
        if block.name in found:
            raise ValueError(f"two blocks are named {block.name}")
        found[block.name] = block
    return dict(sorted(found.items()))
