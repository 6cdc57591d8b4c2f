"""Capabilities about records: what a domain keeps about a thing of a customer from run to run, by kind and key.

The gateway serves them itself, from the database: no connection is needed, and nothing outside changes. A step reaches
the records of its own tenant and domain only.
"""

from __future__ import annotations

from typing import Annotated

from pydantic import AwareDatetime, Field, JsonValue, StringConstraints

from regie.core.capability import Capability, Effect, Record

MOST_RECORDS = 500
"""Records of one question."""
LARGEST_VALUE = 16_384
"""Bytes of one record's value, as JSON."""

Kind = Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9_]{0,38}$")]
Key = Annotated[str, StringConstraints(min_length=1, max_length=500)]
State = Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9_]{0,38}$|^$")]


class NewRecord(Record):
    """What to keep about one thing.

    Attributes:
        key: What tells it from others of its kind.
        state: One word that lists are filtered by; it is stored in clear, so it names nobody.
        due_at: When somebody has to have done something about it; in clear as well.
        value: Everything else; sealed.
    """

    key: Key
    state: State = ""
    due_at: AwareDatetime | None = None
    value: dict[str, JsonValue] = {}


class KeptRecord(NewRecord):
    """A record as it is kept.

    Attributes:
        first_at: When there was none under its key and one was put.
        put_at: When it was put last.
    """

    first_at: AwareDatetime
    put_at: AwareDatetime


class Putting(Record):
    """Records to keep, each in place of what is kept under its key."""

    kind: Kind
    records: Annotated[list[NewRecord], Field(max_length=MOST_RECORDS)]


class PutRecord(Record):
    """What was put. `former` is what was there before this step; a repeat of the step tells the same."""

    key: str
    former: KeptRecord | None = None


class PutRecords(Record):
    """What was put, in the order given. `at` is the time of the database."""

    at: AwareDatetime
    records: list[PutRecord]


class RecordQuery(Record):
    """Which records: those of a kind under some keys."""

    kind: Kind
    keys: Annotated[list[Key], Field(max_length=MOST_RECORDS)]


class FoundRecords(Record):
    """Those of them that there are, by key. `at` is the time of the database."""

    at: AwareDatetime
    records: list[KeptRecord]


class RecordPage(Record):
    """Where to list: a page of a kind, perhaps of one state only. The first page begins at the empty cursor."""

    kind: Kind
    state: State = ""
    cursor: str = ""


class ListedRecords(Record):
    """A page of records. `cursor` is where the next page begins, empty after the last one."""

    at: AwareDatetime
    records: list[KeptRecord]
    cursor: str = ""


class RemovedRecords(Record):
    """How many there were and are gone."""

    removed: int


PUT = Capability("record.put", Effect.READ, Putting, PutRecords, "Keep what is known about things, by kind and key.")
FIND = Capability("record.find", Effect.READ, RecordQuery, FoundRecords, "Look up what is kept under some keys.")
LIST = Capability("record.list", Effect.READ, RecordPage, ListedRecords, "List what is kept of a kind, in pages.")
REMOVE = Capability("record.remove", Effect.READ, RecordQuery, RemovedRecords, "Forget what is kept under some keys.")
SERVED_HERE = frozenset({PUT.name, FIND.name, LIST.name, REMOVE.name})
"""Capabilities that the gateway serves without a connection."""
