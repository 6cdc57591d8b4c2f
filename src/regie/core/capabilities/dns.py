"""Capabilities about DNS records: one value of one name, set and taken away again."""

from __future__ import annotations

from typing import Literal

from regie.core.capability import Capability, Effect, Record

RecordType = Literal["TXT", "CNAME", "A", "AAAA"]


class RecordValue(Record):
    """One value of a name. Other values of the same name and kind are somebody else's and stay as they are.

    Attributes:
        name: Full name without a dot at its end, such as `_acme-challenge.www.example.com`.
        value: As people write it: the text of a TXT record without quotes, an address, a name.
        connection: Whose zone it lies in; the only connection that serves it when empty.
    """

    name: str
    kind: RecordType = "TXT"
    value: str
    connection: str = ""


class RecordState(Record):
    """Whether every authoritative server of the zone answers with the value."""

    name: str
    kind: RecordType
    value: str
    present: bool


SET_RECORD = Capability("dns.set_record", Effect.WRITE, RecordValue, RecordState, "Give a DNS name a value.")
REMOVE_RECORD = Capability(
    "dns.remove_record", Effect.DESTRUCTIVE, RecordValue, RecordState, "Take a value of a DNS name away."
)
