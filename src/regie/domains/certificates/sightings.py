"""What was seen of certificates, wherever that was: presented by an endpoint, in a store, or in a file. Pure."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime

from pydantic import JsonValue

from regie.core.capabilities import certificate, tls

LONGEST_KEY = 400
"""Characters of a source's own name of a certificate that stand in a key; a path may be longer than a key."""
MOST_USERS = 20
"""Users of a certificate that are noted; a record is bounded, and an ARN has a hundred characters."""


@dataclass(frozen=True, slots=True)
class Sighting:
    """One certificate in one place.

    Attributes:
        key: How the inventory names the place.
        names: What it is for; the first one is for people, and never missing.
        shown: Serial, issuer and lifetime, where they could be seen this time.
        findings: What is wrong.
        authority_key: Names the certificate to its authority, with the serial; empty where it is not known.
        renewed_by: Who does by itself, as its source says; empty where nobody does.
        is_stuck: Whether that does not go on without people.
        is_used: No where its source knows that nothing uses it.
        more: What else the inventory shall say.
    """

    key: str
    names: tuple[str, ...]
    shown: Mapping[str, JsonValue] | None
    findings: tuple[str, ...] = ()
    authority_key: str = ""
    renewed_by: str = ""
    is_stuck: bool = False
    is_used: bool = True
    more: Mapping[str, JsonValue] | None = None

    @property
    def name(self) -> str:
        """For people."""
        return self.names[0]


def presented(endpoint: tls.Summary) -> Sighting:
    """What an endpoint presented."""
    return Sighting(
        key=key_of(endpoint),
        names=(endpoint.server_name or endpoint.host,),
        shown=_shown(endpoint) if endpoint.reached else None,
        findings=tuple(endpoint.findings),
        authority_key=endpoint.authority_key,
    )


def stored(found: certificate.Certificate, connection: str) -> Sighting:
    """What a store or a file holds, as a connection listed it."""
    own = found.id if len(found.id) <= LONGEST_KEY else f"{found.id[:300]}... {_digest(found.id)}"
    # What stands first in a certificate's list is a wildcard more often than a name that people know.
    names = sorted(found.names, key=lambda name: (name.startswith("*."), name))
    return Sighting(
        key=f"{own} in {connection}",
        names=tuple(names) or (own,),
        shown=_shown(found) if found.serial else None,
        findings=tuple(found.findings),
        authority_key=found.authority_key,
        renewed_by=f"{connection}, by itself" if found.renewed_by == "source" else "",
        is_stuck=found.renewal in {"failed", "waits_for_proof"},
        is_used=found.is_used,
        more={"kept_as": found.state, "renewal": found.renewal, "used_by": list(found.used_by[:MOST_USERS])},
    )


def key_of(endpoint: tls.Summary) -> str:
    """How the inventory names an endpoint: by the name that is asked for, and where if that is another host."""
    if endpoint.server_name in {"", endpoint.host}:
        return f"{endpoint.host}:{endpoint.port}"
    return f"{endpoint.server_name} at {endpoint.host}:{endpoint.port}"


def _shown(found: tls.Summary | certificate.Certificate) -> dict[str, JsonValue]:
    return {
        "serial": found.serial,
        "issuer": found.issuer,
        "not_before": _iso(found.not_before),
        "not_after": _iso(found.not_after),
    }


def _iso(moment: datetime | None) -> str | None:
    """The same moment in the same letters, whoever tells it."""
    return moment.astimezone(UTC).isoformat() if moment else None


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:16]
