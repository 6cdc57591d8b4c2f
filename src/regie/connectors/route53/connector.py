"""Route 53: a record is one value of a record set, which has the values of everybody and is written as a whole."""

# ruff: noqa: ARG002 - arguments and docstrings of observe, plan, apply ... are those of the kit's contract.

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any

from pydantic import JsonValue

from regie.core.capabilities import dns
from regie.core.errors import Denied, Refused, Unavailable
from regie.core.plan import Change, Pending, Receipt
from regie.kit.connector import Connector, Seen, provides
from regie.kit.one_record import OneRecord
from regie.kit.records import meant, octal_name, plain, written, zone_of

_MAY = [
    "route53:ChangeResourceRecordSets",
    "route53:GetChange",
    "route53:ListHostedZones",
    "route53:ListResourceRecordSets",
]
_AGAIN_S = 10.0
"""Seconds between questions whether a change has reached every server; it usually takes some thirty."""
_MOVED = {"InvalidChangeBatch", "InvalidInput"}

RecordSet = Mapping[str, Any]


class _Value(OneRecord):
    """Have a value among those of a record set, or not among them."""

    async def observe(self, want: dns.RecordValue, marker: str) -> Seen:
        zone = await self._zone(want.name)
        found = await self._record_set(zone, want)
        return {"present": bool(found and _like(want, _values(found)))}

    async def apply(self, want: dns.RecordValue, change: Change, marker: str) -> Receipt | Pending:
        zone = await self._zone(want.name)
        found = await self._record_set(zone, want)
        before = _values(found) if found else []
        after = self._after(want, before)
        # What is there is taken away exactly as it is, or the whole batch is refused: nobody's value can get lost.
        changes = [{"Action": "DELETE", "ResourceRecordSet": found}] if found else []
        if after:
            ttl_s = found["TTL"] if found else self.settings["ttl_s"]
            changes.append(
                {
                    "Action": "CREATE",
                    "ResourceRecordSet": {
                        "Name": found["Name"] if found else plain(want.name),
                        "Type": want.kind,
                        "TTL": ttl_s,
                        "ResourceRecords": [{"Value": value} for value in after],
                    },
                }
            )
        if not changes:
            return Receipt()
        try:
            answer = await self.aws.call(
                "route53", "ChangeResourceRecordSets", HostedZoneId=zone, ChangeBatch={"Changes": changes}
            )
        except Refused as error:
            if error.code in _MOVED and await self._record_set(zone, want) != found:
                raise Unavailable(f"{want.name} was changed by somebody else at the same moment") from None
            raise
        return _progress(answer)

    async def resume(self, want: dns.RecordValue, handle: JsonValue) -> Receipt | Pending:
        return _progress(await self.aws.call("route53", "GetChange", Id=str(handle)))

    @abstractmethod
    def _after(self, want: dns.RecordValue, before: Sequence[str]) -> list[str]:
        """The values of the record set afterwards."""

    async def _zone(self, name: str) -> str:
        """The id of the zone in which a name lies: the longest one of those that the connection may change."""
        listed = self.settings["hosted_zones"]
        named = [str(each) for each in listed] if isinstance(listed, list) else []
        ids: dict[str, list[str]] = {}
        async for zone in self.aws.entries(
            "route53", "ListHostedZones", of="HostedZones", follow={"Marker": "NextMarker"}
        ):
            own = str(zone["Id"]).removeprefix("/hostedzone/")
            is_private = bool(zone.get("Config", {}).get("PrivateZone"))
            if own in named or (not named and not is_private):
                ids.setdefault(plain(octal_name(zone["Name"])), []).append(own)
        found = zone_of(name, ids)
        if found is None:
            which = "those that the connection names" if named else "the account's public zones"
            raise Denied(f"{name} lies in none of {which}: {', '.join(sorted(ids)) or 'there are none'}.")
        if len(ids[found]) > 1:
            raise Denied(
                f"{found} is the name of several hosted zones: {', '.join(sorted(ids[found]))}.",
                hint="Name the one that is meant in the setting hosted_zones.",
            )
        return ids[found][0]

    async def _record_set(self, zone: str, want: dns.RecordValue) -> RecordSet | None:
        """The record set of a name and kind, as it is written; none when there is none.

        Raises:
            Refused: It is an alias or has a routing policy: such a set is no list of values.
        """
        name = plain(want.name)
        # The zone's list, begun there: its first entry is what is looked for, or there is none.
        answer = await self.aws.call(
            "route53",
            "ListResourceRecordSets",
            HostedZoneId=zone,
            StartRecordName=name,
            StartRecordType=want.kind,
            MaxItems="1",
        )
        found: RecordSet | None = next(iter(answer["ResourceRecordSets"]), None)
        if found is None or (plain(octal_name(found["Name"])), found["Type"]) != (name, want.kind):
            return None
        if "SetIdentifier" in found or not found.get("ResourceRecords"):
            raise Refused(
                f"the {want.kind} records of {want.name} are an alias or follow a routing policy",
                status=0,
                code="routing-policy",
            )
        return found


class Route53(Connector):
    """A record is a value in a record set."""

    @provides(dns.SET_RECORD, permissions=_MAY, undo=dns.REMOVE_RECORD)
    class SetRecord(_Value):
        """Add the value to the record set, which is made if there is none."""

        has = True

        def _after(self, want: dns.RecordValue, before: Sequence[str]) -> list[str]:
            if _like(want, before):
                return list(before)
            if want.kind == "CNAME" and before:
                raise Refused(
                    f"{want.name} stands for {before[0]} already, and can stand for one name only",
                    status=0,
                    code="alias",
                )
            return [*before, written(want.kind, want.value, 8)]

    @provides(dns.REMOVE_RECORD, permissions=_MAY, undo=dns.SET_RECORD)
    class RemoveRecord(_Value):
        """Take the value out of the record set, and the set away with its last value."""

        has = False

        def _after(self, want: dns.RecordValue, before: Sequence[str]) -> list[str]:
            gone = _like(want, before)
            return [each for each in before if each not in gone]


def _values(found: RecordSet) -> list[str]:
    return [str(each["Value"]) for each in found["ResourceRecords"]]


def _like(want: dns.RecordValue, values: Sequence[str]) -> list[str]:
    """Those values that mean what is wanted, as they are written."""
    wanted = meant(want.kind, written(want.kind, want.value))
    return [each for each in values if meant(want.kind, each, 8) == wanted]


def _progress(answer: Mapping[str, Any]) -> Receipt | Pending:
    """Whether a change has reached every server."""
    change = answer["ChangeInfo"]
    receipt = Receipt(request_id=answer["request_id"], remote_id=str(change["Id"]))
    if change["Status"] == "INSYNC":
        return receipt
    return Pending(handle=str(change["Id"]), again_after_s=_AGAIN_S, receipt=receipt)
