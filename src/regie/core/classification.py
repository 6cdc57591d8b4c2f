"""How sensitive the data of a domain are, and what follows from it for pages, policies and how long values are kept.

Everything of a tenant is sealed, whatever its class: sealing costs microseconds, one way is easier to trust than two,
and what a domain called public yesterday may hold a name today.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from types import MappingProxyType
from typing import Final, NamedTuple

DAY_S = 86_400


class Classification(StrEnum):
    """The class that `domain.yaml` declares, the least sensitive first."""

    PUBLIC = "public"
    INTERNAL = "internal"
    CONFIDENTIAL = "confidential"
    PERSONAL = "personal"
    FINANCIAL = "financial"


class Handling(NamedTuple):
    """What a class decides.

    Attributes:
        kept_s: How long inputs and outputs of a run are kept after its end, where the domain says nothing else.
        needs_right: Inputs and outputs are shown only to who has the right `view_inputs`; else to who sees the run.
        is_looking_recorded: Whoever looks at them leaves a leaf.
        is_masked: Addresses on a run's page are masked for everybody; otherwise operators see them in full.
    """

    kept_s: int
    needs_right: bool
    is_looking_recorded: bool
    is_masked: bool


HANDLING: Final[Mapping[Classification, Handling]] = MappingProxyType(
    {
        Classification.PUBLIC: Handling(365 * DAY_S, needs_right=False, is_looking_recorded=False, is_masked=False),
        Classification.INTERNAL: Handling(365 * DAY_S, needs_right=False, is_looking_recorded=False, is_masked=False),
        Classification.CONFIDENTIAL: Handling(
            180 * DAY_S, needs_right=True, is_looking_recorded=False, is_masked=False
        ),
        Classification.PERSONAL: Handling(90 * DAY_S, needs_right=True, is_looking_recorded=True, is_masked=True),
        Classification.FINANCIAL: Handling(365 * DAY_S, needs_right=True, is_looking_recorded=True, is_masked=True),
    }
)


def handling(classification: Classification) -> Handling:
    """What a class decides."""
    return HANDLING[classification]
