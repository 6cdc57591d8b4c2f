"""What is told and proven in the demo, one module a domain and purpose. Finding them needs no edited list."""

from __future__ import annotations

import sys

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


def find_rehearsal(workflow: str) -> Rehearsal:
    """How a workflow's domain runs it to show that it is idempotent.

    Raises:
        InvalidInput: The domain has no way, or none for this workflow.
    """
    domain = workflow.partition(".")[0]
    found = members(sys.modules[__name__], Rehearsal)  # type: ignore[type-abstract] # they are found, not made
    rehearsal = next((each for each in found if each.domain == domain), None)
    if rehearsal is None:
        domains = ", ".join(each.domain for each in found)
        raise InvalidInput(f"The domain {domain} has no world to prove anything in.", hint=f"There are: {domains}.")
    return rehearsal
