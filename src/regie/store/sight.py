"""Which runs of all somebody may see: those in some places, and those that concern a person. Lists filter by it."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import LiteralString


@dataclass(frozen=True)
class Sight:
    """What a reader sees.

    Attributes:
        person: Whoever this address belongs to sees the runs that they asked for or were asked about; empty for nobody.
        places: Tenant, domain and workflow of which everything is seen; empty stands for all.
    """

    person: str = ""
    places: Sequence[tuple[str, str, str]] = ()

    def values(self) -> dict[str, object]:
        """For a statement with one of the conditions below."""
        return {
            "sees_all": ("", "", "") in self.places,
            "person": self.person or None,
            "seen_tenants": [place[0] for place in self.places],
            "seen_domains": [place[1] for place in self.places],
            "seen_workflows": [place[2] for place in self.places],
        }


EVERYTHING = Sight(places=(("", "", ""),))

SEEN_PLACE: LiteralString = """(%(sees_all)s or exists (
    select from unnest(%(seen_tenants)s::text[], %(seen_domains)s::text[], %(seen_workflows)s::text[])
                    as p (tenant, domain, workflow)
    where p.tenant in ('', r.tenant) and p.domain in ('', r.domain) and p.workflow in ('', r.workflow)))"""
"""Whether a run `r` is in one of the places."""
ASKED_FOR: LiteralString = """(lower(r.requester) = lower(%(person)s::text)
    or (r.started_by->>'type' = 'person' and lower(r.started_by->>'id') = lower(%(person)s::text)))"""
"""Whether the person has asked for a run `r`."""
