"""What is told and proven in the demo, one module a domain and purpose. Finding them needs no edited list."""

from __future__ import annotations

import sys

from regie.cli.demo_world import MAIN_JOB
from regie.cli.stories.telling import Rehearsal, Tale
from regie.core.errors import InvalidInput
from regie.discovery import members


def find_tale(domain: str) -> Tale:
    """What `regie demo` tells of a domain.

    Raises:
        InvalidInput: There is nothing to tell.
    """
    found = members(sys.modules[__name__], Tale)  # type: ignore[type-abstract] # they are found, not made
    tales = {each.domain: each for each in found}
    if domain not in tales:
        raise InvalidInput(f"There is no demo of {domain}.", hint=f"There is one of: {', '.join(tales)}.")
    return tales[domain]


def find_rehearsal(domain: str) -> Rehearsal:
    """How workflows of a domain are run to show that they are idempotent.

    A domain that brings no way of its own is tried where the main job is, with a ticket system, a directory and a chat.
    """
    found = members(sys.modules[__name__], Rehearsal)  # type: ignore[type-abstract] # they are found, not made
    rehearsals = {each.domain: each for each in found}
    return rehearsals.get(domain, rehearsals[MAIN_JOB])
