"""The imaginary outside worlds of the demo, one module a domain that has one. `find` needs no edited list."""

from __future__ import annotations

import sys

from regie.cli.worlds.world import World
from regie.core.errors import InvalidInput
from regie.discovery import members


def find(domain: str) -> World:
    """The world of a domain.

    Raises:
        InvalidInput: It has none.
    """
    found = members(sys.modules[__name__], World)  # type: ignore[type-abstract] # they are found, not made
    worlds = {each.domain: each for each in found}
    if domain not in worlds:
        raise InvalidInput(
            f"The domain {domain} has no imaginary world to try it in.", hint=f"There is one for: {', '.join(worlds)}."
        )
    return worlds[domain]
