"""What is known after a storm: what was asked for, what Regie recorded, and what the outside world counted itself."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any

from regie.core import canonical
from regie.core.audit import Event
from regie.core.effect import EffectState
from regie.core.status import RunStatus


class Wish(StrEnum):
    """What the people who are asked will say to a request."""

    APPROVE = "approve"
    REFUSE = "refuse"
    SILENT = "silent"


@dataclass(frozen=True)
class Request:
    """Somebody's wish to have somebody offboarded.

    Attributes:
        name: The ticket's key, or the Idempotency-Key of a request through the API.
        ticket: Its key again; empty for requests through the API.
        person: Address of whoever leaves.
        groups: Ids of the groups that the person was in.
        answered: Id of the run that the API answered with; empty for tickets.
    """

    name: str
    ticket: str
    person: str
    person_id: str
    groups: tuple[str, ...]
    wish: Wish
    answered: str = ""


@dataclass(frozen=True)
class LeafSeen:
    """What a leaf says that matters here; empty text where it says nothing."""

    event: Event
    at: datetime
    capability: str = ""
    target_sha256: str = ""
    change_sha256: str = ""
    attempt_key: str = ""
    approval: str = ""

    @classmethod
    def of(cls, fields: Mapping[str, Any]) -> LeafSeen:
        """Read a leaf's fields."""
        approval = fields.get("approval")
        return cls(
            event=Event(fields["event"]),
            at=datetime.fromisoformat(fields["at"]),
            approval=str(approval["id"]) if isinstance(approval, dict) else "",
            **{name: str(fields.get(name, "")) for name in ("capability", "change_sha256", "attempt_key")},
            target_sha256=str(fields.get("target_sha256", "")),
        )


@dataclass(frozen=True)
class EffectSeen:
    """A row of Regie's effect ledger."""

    attempt_key: str
    capability: str
    target: str
    state: EffectState


@dataclass(frozen=True)
class ApprovalSeen:
    """An approval as it ended."""

    id: str
    status: str
    requester: str
    decided_by: str
    decided_at: datetime | None
    changes: frozenset[str]


@dataclass(frozen=True)
class RunSeen:
    """A run as Regie recorded it.

    Attributes:
        person: Address of whom it is about.
        failure: Class of the error it ended with; empty when it did not.
        chain_faults: What `store.audit.verify` finds wrong with its leaves.
    """

    id: str
    tenant: str
    ticket: str
    person: str
    status: RunStatus
    failure: str = ""
    leaves: tuple[LeafSeen, ...] = ()
    chain_faults: tuple[str, ...] = ()
    effects: tuple[EffectSeen, ...] = ()
    approvals: tuple[ApprovalSeen, ...] = ()

    @property
    def is_approved(self) -> bool:
        """Whether somebody has said yes."""
        return any(approval.status == "approved" for approval in self.approvals)


_WRITES = (
    ("PATCH", r"/graph/v1\.0/users/([^/]+)", "identity.disable_account", "user:{0}"),
    ("POST", r"/graph/v1\.0/users/([^/]+)/revokeSignInSessions", "identity.revoke_sessions", "user:{0}"),
    (
        "DELETE",
        r"/graph/v1\.0/groups/([^/]+)/members/([^/]+)/\$ref",
        "identity.remove_from_group",
        "group:{0}/user:{1}",
    ),
    ("POST", r"/jira/rest/api/3/issue/([^/]+)/comment", "ticket.comment", "ticket:{0}"),
    ("POST", r"/jira/rest/api/3/issue/([^/]+)/transitions", "ticket.close", "ticket:{0}"),
)
"""Which capability makes which request, and how Regie calls what it is about."""


@dataclass(frozen=True)
class Write:
    """A write that an outside system took, from its own ledger.

    Attributes:
        about: `person` or `ticket`.
        whose: Address of the person, or key of the ticket.
    """

    seq: int
    at: datetime
    about: str
    whose: str
    method: str
    path: str
    after: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def of(cls, entry: Mapping[str, Any]) -> Write:
        """Read an entry of the imaginary world's ledger."""
        return cls(
            seq=entry["seq"],
            at=datetime.fromisoformat(entry["at"]),
            whose=entry["target"],
            **{name: entry[name] for name in ("about", "method", "path", "after")},
        )

    @property
    def meant(self) -> tuple[str, str]:
        """The capability that makes such a request and its target in Regie's words; empty texts for none of ours."""
        for method, path, capability, target in _WRITES:
            if method == self.method and (found := re.fullmatch(path, self.path)):
                return capability, target.format(*found.groups())
        return "", ""

    @property
    def marker(self) -> str:
        """Regie's mark in a comment; empty where there is none."""
        found = re.search(r"regie-[0-9a-f]{20}", canonical.encode(dict(self.after)).decode())
        return found[0] if found else ""


@dataclass(frozen=True)
class PersonSeen:
    """Somebody's account as the directory has it in the end."""

    is_enabled: bool
    has_live_session: bool
    groups: frozenset[str]


@dataclass(frozen=True)
class Evidence:
    """All of it. `people` by address."""

    requests: tuple[Request, ...]
    runs: tuple[RunSeen, ...]
    writes: tuple[Write, ...]
    people: Mapping[str, PersonSeen]
