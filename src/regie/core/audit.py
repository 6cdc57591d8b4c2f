"""What a leaf of the audit log is: event words, fields, bytes. The store writes leaves, the notary logs them.

Encoding: JCS (RFC 8785) over a closed profile: keys `[a-z][a-z0-9_]*`, strings in NFC, integers within +-(2^53-1), no
floats, no nulls; times are RFC 3339 in UTC. A leaf's hash is SHA-256 over a zero byte and the leaf (RFC 6962, 2.1).
"""

from __future__ import annotations

import hashlib
import re
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import StrEnum
from functools import cached_property, lru_cache
from typing import Literal, NamedTuple

import orjson
from pydantic import BaseModel, ConfigDict, JsonValue

from regie.core.errors import AuditBroken

LEAF_LIMIT = 65_535
"""Most bytes of one leaf."""
SAFE_INTEGER = 2**53 - 1
"""Largest integer that every JSON reader keeps exact (RFC 7493, 2.2)."""

PERSON = "person:"
"""What a person is called in a leaf begins so: a commitment follows, never an address. See `subject`."""

_KEY = re.compile(r"[a-z][a-z0-9_]*")


class Event(StrEnum):
    """What happened: `noun:past_verb`."""

    RELEASE_LOADED = "release:loaded"
    ACCOUNT_ADDED = "account:added"
    ACCOUNT_CHANGED = "account:changed"
    """The identity provider tells another address, name or groups than before."""
    ACCOUNT_DEACTIVATED = "account:deactivated"
    ACCOUNT_ACTIVATED = "account:activated"
    ACCOUNT_REMOVED = "account:removed"
    GROUP_CHANGED = "group:changed"
    GROUP_REMOVED = "group:removed"
    SESSION_BEGUN = "session:begun"
    TOKEN_MADE = "token:made"  # noqa: S105  a word of the log
    TOKEN_REVOKED = "token:revoked"  # noqa: S105  same
    AUTHENTICATOR_ADDED = "authenticator:added"
    AUTHENTICATOR_REMOVED = "authenticator:removed"
    TRIGGER_ACCEPTED = "trigger:accepted"
    TRIGGER_REPEATED = "trigger:repeated"
    TRIGGER_REFUSED = "trigger:refused"
    TRIGGER_MISSED = "trigger:missed"
    """Nobody was there at a scheduled time, and it has no run of its own."""
    POLL_FAILED = "poll:failed"
    POLL_RECOVERED = "poll:recovered"
    RUN_STARTED = "run:started"
    RUN_CANCELLED = "run:cancelled"
    RUN_PAUSED = "run:paused"
    RUN_RESUMED = "run:resumed"
    RUN_REPEATED = "run:repeated"
    """A new run repeats this one from some step on."""
    RUN_WOKEN = "run:woken"
    """It was made ready again, by a person after mending or by a worker that found it asleep for ever."""
    RUN_SET_ASIDE = "run:set_aside"
    """Nobody can go on with the run as it is stored: a person must mend it."""
    RUN_CLOSED = "run:closed"
    RUN_EMPTIED = "run:emptied"
    """Its inputs and outputs are no longer kept."""
    INPUTS_VIEWED = "inputs:viewed"
    """Somebody looked at the inputs and outputs of a run whose domain holds personal or financial data."""
    EVENT_RECEIVED = "event:received"
    EVENT_REPEATED = "event:repeated"
    EVENT_PUBLISHED = "event:published"
    EVENT_SET_ASIDE = "event:set_aside"
    """What is kept of it cannot be opened: it reaches nobody."""
    STEP_FINISHED = "step:finished"
    STEP_FAILED = "step:failed"
    STEP_RETRIED = "step:retried"
    APPROVAL_REQUESTED = "approval:requested"
    APPROVAL_ESCALATED = "approval:escalated"
    APPROVAL_REMINDED = "approval:reminded"
    APPROVAL_GRANTED = "approval:granted"
    APPROVAL_REFUSED = "approval:refused"
    APPROVAL_EXPIRED = "approval:expired"
    APPROVAL_WITHDRAWN = "approval:withdrawn"
    EFFECT_INTENDED = "effect:intended"
    EFFECT_RECEIVED = "effect:received"
    EFFECT_UNCHANGED = "effect:unchanged"
    EFFECT_REFUSED = "effect:refused"
    EFFECT_LOST = "effect:lost"
    """The outcome of a write stayed unknown: a person must settle it."""
    CAPABILITY_DENIED = "capability:denied"
    REQUEST_DENIED = "request:denied"
    """Somebody asked for something that the policies deny them."""
    SUBJECT_ERASED = "subject:erased"
    """Nobody can tell any more whom leaves of this log mean by a commitment."""
    DATA_KEY_ROTATED = "data_key:rotated"
    """What is sealed for this tenant in this domain from here on is sealed under a new key."""
    LOG_KEY_ROTATED = "log_key:rotated"
    """The notary signs with a new key from here on; the old one has signed this."""

    @property
    def noun(self) -> str:
        """What it happened to."""
        return self.value.partition(":")[0]

    @property
    def past_verb(self) -> str:
        """What happened to it."""
        return self.value.partition(":")[2]


class Actor(BaseModel):
    """Who did it. `id` is an address, a process name, the id of a program's token or a vendor's name for the caller."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    type: Literal["person", "program", "operator", "worker", "gateway", "web", "engine", "ticket_system", "notary"]
    id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Fact:
    """Something that happened, before it gets its place in the log.

    `detail` holds further leaf fields of the profile (`capability`, `approval`, `change`, `workflow`, digests ...).
    It carries references, digests and the ids of outside systems, never an input, an output or a secret.
    """

    event: Event
    actor: Actor
    detail: dict[str, JsonValue] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Circumstances:
    """Where and when facts come into the log: what all leaves have in common that are written about one run at a time.

    Attributes:
        at: RFC 3339 UTC from the database clock.
        corr: Correlation id shared by ticket, run and outside change.
    """

    at: str
    tenant: str
    domain: str
    corr: str = ""
    ticket: str = ""
    run: str = ""

    @cached_property
    def fields(self) -> dict[str, JsonValue]:
        """What every leaf says of it: the time, and whatever is not empty."""
        texts = {
            "tenant": self.tenant,
            "domain": self.domain,
            "corr": self.corr,
            "ticket": self.ticket,
            "run": self.run,
        }
        return {"at": self.at, **{name: _text(value) for name, value in texts.items() if value}}


class Position(NamedTuple):
    """What tells a leaf from every other.

    Attributes:
        entry_id: Chosen by the writer, so that a repeated write after an unknown commit is recognised.
        nonce: 16 random bytes in hexadecimal: neighbours in a proof must not be guessable.
        run_seq, run_prev: Position within the run (from 1) and hash of its leaf before; none for facts outside a run.
    """

    entry_id: str
    nonce: str
    run_seq: int = 0
    run_prev: str = ""


def encode_leaf(fact: Fact, circumstances: Circumstances, position: Position) -> bytes:
    """Write a leaf.

    Raises:
        AuditBroken: The fact does not fit the profile or the size.
    """
    if fact.actor.type == "person" and not fact.actor.id.startswith(PERSON):
        raise AuditBroken("a leaf names a person by a commitment only")
    fields: dict[str, JsonValue] = {
        "v": 1,
        "event": fact.event.value,
        "actor": {"type": fact.actor.type, "id": _text(fact.actor.id)},
        "entry_id": position.entry_id,
        "nonce": position.nonce,
        **circumstances.fields,
    }
    if position.run_seq:
        fields["run_seq"] = position.run_seq
    if position.run_prev:
        fields["run_prev"] = position.run_prev
    if not fields.keys().isdisjoint(fact.detail):
        raise AuditBroken(f"a fact may not set the leaf fields {sorted(fields.keys() & fact.detail.keys())}")
    fields.update(_of_profile(fact.detail, ("leaf",)))
    try:
        leaf = orjson.dumps(fields, option=orjson.OPT_SORT_KEYS)
    except orjson.JSONEncodeError as error:
        raise AuditBroken(f"a leaf cannot be written: {error}") from error
    if len(leaf) > LEAF_LIMIT:
        raise AuditBroken(f"a leaf of {len(leaf)} bytes is over the limit of {LEAF_LIMIT}")
    return leaf


def written(at: datetime) -> str:
    """A moment as leaves have it: RFC 3339 in UTC, to the microsecond."""
    return at.astimezone(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")


def leaf_hash(leaf: bytes) -> bytes:
    """RFC 6962 leaf hash: 32 bytes."""
    return hashlib.sha256(b"\x00" + leaf).digest()


def _of_profile(fields: Mapping[str, JsonValue], where: tuple[str, ...]) -> dict[str, JsonValue]:
    """Bring fields into the profile, or say which cannot be and why."""
    brought = {}
    for key, value in fields.items():
        if not _is_key(key):
            raise AuditBroken(f"{'.'.join(where)}: key {key!r} is not lower_case")
        # Nearly all are plain text, and every leaf waits for this.
        brought[key] = value if type(value) is str and value.isascii() else _profile(value, (*where, key))
    return brought


def _profile(value: JsonValue, where: tuple[str, ...]) -> JsonValue:
    match value:
        case str():
            return _text(value)
        case bool():
            return value
        case int() if abs(value) <= SAFE_INTEGER:
            return value
        case list():
            return [_profile(item, (*where, str(index))) for index, item in enumerate(value)]
        case dict():
            return _of_profile(value, where)
        case _:
            path = ".".join(where)
            raise AuditBroken(f"{path}: {value!r} has no place in a leaf (no floats, no nulls, no unsafe integers)")


def _text(value: str) -> str:
    return value if value.isascii() else unicodedata.normalize("NFC", value)


@lru_cache(maxsize=4096)
def _is_key(key: str) -> bool:
    """Whether it may be a key. The same ones come in every leaf."""
    return _KEY.fullmatch(key) is not None
