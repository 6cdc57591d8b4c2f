"""The business areas Regie ships with, one folder each: `domain.yaml`, `workflows/`, blocks of its own if it has any.

Domains do not know each other. Everybody who needs the catalogue takes it from here.
"""

from __future__ import annotations

import sys

from regie import blocks
from regie.core.block import Block, Catalogue
from regie.discovery import members


def load_catalogue() -> Catalogue:
    """Every block by name: the generic ones and those of the domains.

    Raises:
        ValueError: Two blocks have the same name.
    """
    found = dict(blocks.load_catalogue())
    for block in members(sys.modules[__name__], Block):
        if found.setdefault(block.name, block) is not block:
            raise ValueError(f"two blocks are named {block.name}")
    return dict(sorted(found.items()))
