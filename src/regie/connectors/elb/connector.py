"""AWS load balancers: a listener serves a certificate of ACM by its ARN. Only the gateway constructs it.

Contract: docs.aws.amazon.com/elasticloadbalancing/latest/APIReference, `DescribeListenerCertificates`,
`ModifyListener`, `AddListenerCertificates` and `RemoveListenerCertificates`. No key passes here: ACM has it already.
"""

# ruff: noqa: ARG002, D102 - arguments and docstrings of observe, plan, apply ... are those of the kit's contract.

from __future__ import annotations

from datetime import UTC, datetime
from typing import Self

from pydantic import AwareDatetime, model_validator

from regie.core.capabilities.certificate import (
    DEPLOY,
    FIND_DEPLOYED,
    NOTHING,
    Certificate,
    DeployedState,
    Deployment,
    Target,
)
from regie.core.capability import Record
from regie.core.effect import Repeat
from regie.core.errors import NotFound, Refused
from regie.core.plan import Change, NoChange, Receipt
from regie.core.server_name import is_for
from regie.kit.acm import find, find_imported
from regie.kit.aws import Aws
from regie.kit.connector import Connector, Read, Seen, Settings, Write, provides
from regie.kit.keys import Keys
from regie.kit.targets import entry_of, refuse_other_names
from regie.kit.tls.names import ascii_name

_LOOKING = ["acm:DescribeCertificate", "elasticloadbalancing:DescribeListenerCertificates"]
_PUTTING = [
    *_LOOKING,
    "acm:ListCertificates",
    "elasticloadbalancing:AddListenerCertificates",
    "elasticloadbalancing:ModifyListener",
    "elasticloadbalancing:RemoveListenerCertificates",
]
_PAGE = 100
_PLANNED = "planned"
"""What stands in a dry run for a certificate that is not made, and for its ARN."""


class TargetEntry(Record):
    """Where a target is served.

    Attributes:
        listener: ARN of a listener that speaks HTTPS or TLS.
        server_name: The name that is asked for (SNI); a certificate that is put in place must be for it.
        listed: Whether it stands in the listener's list, for those who ask for its name; else it is the default one,
            for all who ask for no name of the list.
    """

    listener: str
    server_name: str = ""
    listed: bool = False

    @property
    def balancer(self) -> str:
        """Its name: `.../app/NAME/ID/ID`."""
        return self.listener.split("/")[-3]

    @model_validator(mode="after")
    def _is_whole(self) -> Self:
        if len(self.listener.split("/")) < 4:
            raise ValueError("that is no ARN of a listener")
        if self.listed and not self.server_name:
            raise ValueError("in a list a certificate is found by its name")
        return self


class Wanted(Record):
    """What a target is to serve.

    Attributes:
        arn: ACM's name of it, or `nothing`; empty where a reference is asked for, whose serial says which one is meant.
    """

    arn: str = ""
    reference: str = ""
    serial: str = ""
    not_after: AwareDatetime | None = None

    def is_it(self, found: Certificate) -> bool:
        """Whether this is the one."""
        return found.id == self.arn if self.arn else found.serial == self.serial


class Elb(Connector):
    """A target is the default certificate of a listener, or the one of its list that is for a name."""

    @provides(FIND_DEPLOYED, permissions=_LOOKING)
    class FindDeployed(Read[Target, DeployedState]):
        """Look which certificate a listener serves for a target."""

        async def read(self, want: Target) -> DeployedState:
            found = await _in_place(self.aws, self.keys, _entry(self.settings, want.target))
            return await _state(self.keys, want.target, want.connection, found)

    @provides(DEPLOY, permissions=_PUTTING, undo=DEPLOY)
    class Deploy(Write[Deployment, DeployedState]):
        """Have a listener serve a certificate that ACM has. In a list the new one comes before the former goes."""

        repeat = Repeat.OBSERVABLE

        async def observe(self, want: Deployment, marker: str) -> Seen:
            entry = _entry(self.settings, want.target)
            wanted = await self._wanted(entry, want)
            found = await _in_place(self.aws, self.keys, entry)
            others = [each for each in found if not wanted.is_it(each)]
            if len(others) > 1:
                raise Refused(
                    f"{len(others)} certificates of the listener's list are for {entry.server_name}",
                    status=0,
                    code="several",
                    hint=f"Leave the one that is to be replaced: {', '.join(each.id for each in others)}",
                )
            state = await _state(self.keys, want.target, want.connection, found)
            return {
                "state": state.model_dump(mode="json"),
                "wanted": wanted.model_dump(mode="json"),
                "is_there": wanted.arn == NOTHING or len(found) > len(others),
                "former": others[0].model_dump(mode="json") if others else None,
            }

        def plan(self, want: Deployment, seen: Seen) -> NoChange | Change:
            entry, wanted, former = _entry(self.settings, want.target), _wanted_in(seen), _former_in(seen)
            title = f"{entry.server_name or want.target} at the load balancer {entry.balancer}"
            # One deployment at a time at a listener: in a list it is more than one call.
            target = f"listener:{entry.listener}"
            if seen["is_there"] and former is None:
                return self.no_change(target, f"{title} is as wanted already")
            # An attempt that was cut off leaves the former beside the new one: that is the same change.
            if wanted.reference:
                before = former.serial if former else ""
                return self.change(target, title, (f"serial of {want.target}", before, wanted.serial))
            return self.change(
                target, title, (f"certificate of {want.target}", former.id if former else NOTHING, wanted.arn)
            )

        async def apply(self, want: Deployment, change: Change, marker: str) -> Receipt:
            entry = _entry(self.settings, want.target)
            seen = await self.observe(want, marker)
            wanted, former = _wanted_in(seen), _former_in(seen)
            receipt = Receipt()
            if not seen["is_there"]:
                operation = "AddListenerCertificates" if entry.listed else "ModifyListener"
                receipt = await self._call(operation, entry, wanted.arn or await self._stored(wanted))
            if entry.listed and former is not None:
                receipt = await self._call("RemoveListenerCertificates", entry, former.id)
            return receipt

        def foreseen(self, change: Change, seen: Seen) -> Seen:
            wanted = _wanted_in(seen)
            state = DeployedState.model_validate(seen["state"]).model_copy(
                update={
                    "serial": wanted.serial,
                    "installed": wanted.serial,
                    "certificate": wanted.reference,
                    "restore": wanted.reference or wanted.arn,
                    "not_after": wanted.not_after,
                }
            )
            return {**seen, "state": state.model_dump(mode="json"), "is_there": True, "former": None}

        def gives(self, want: Deployment, seen: Seen) -> DeployedState:
            return DeployedState.model_validate(seen["state"])

        async def _wanted(self, entry: TargetEntry, want: Deployment) -> Wanted:
            """What is to be served.

            Raises:
                NotFound: Nobody keeps it, or ACM has none.
                Refused: The listener cannot serve it for the target.
            """
            if not want.certificate:
                raise NotFound(
                    f"nobody keeps what the listener of {want.target} served before",
                    hint="certificate.find_deployed tells it beforehand, as `restore`.",
                )
            if want.certificate == NOTHING:
                if not entry.listed:
                    raise Refused("a listener cannot be without a default certificate", status=0, code="needs-one")
                return Wanted(arn=NOTHING)
            if want.certificate == _PLANNED:
                return Wanted(arn=_PLANNED)
            if want.certificate.startswith("arn:"):
                stored = await _stored(self.aws, self.keys, want.certificate)
                if stored.state not in {"issued", "imported"}:
                    raise Refused(
                        f"{stored.id} is {stored.state}, so no listener serves it", status=0, code="not-issued"
                    )
                refuse_other_names(stored.id, stored.names, entry.server_name, want.target)
                return Wanted(arn=stored.id, serial=stored.serial, not_after=stored.not_after)
            kept = await self.keys.get(want.certificate)
            refuse_other_names(kept.serial, kept.names, entry.server_name, want.target)
            return Wanted(reference=want.certificate, serial=kept.serial, not_after=kept.not_after)

        async def _stored(self, wanted: Wanted) -> str:
            """The ARN of a kept certificate.

            Raises:
                Refused: ACM does not have it.
            """
            found = await find_imported(self.aws, self.keys, await self.keys.get(wanted.reference))
            if found is None:
                raise Refused(
                    f"ACM does not have the certificate {wanted.serial} in this account and region",
                    status=0,
                    code="not-stored",
                    hint="Hand it over before: certificate.import, or `stores` of a managed certificate.",
                )
            return found.id

        async def _call(self, operation: str, entry: TargetEntry, arn: str) -> Receipt:
            answer = await self.aws.call(
                "elbv2", operation, ListenerArn=entry.listener, Certificates=[{"CertificateArn": arn}]
            )
            return Receipt(request_id=str(answer["request_id"]), remote_id=arn)


def _entry(settings: Settings, target: str) -> TargetEntry:
    return entry_of(settings, target, TargetEntry, "{ listener: ARN, server_name: NAME, listed: true or false }")


def _wanted_in(seen: Seen) -> Wanted:
    return Wanted.model_validate(seen["wanted"])


def _former_in(seen: Seen) -> Certificate | None:
    return Certificate.model_validate(seen["former"]) if seen["former"] else None


async def _in_place(aws: Aws, keys: Keys, entry: TargetEntry) -> list[Certificate]:
    """What a listener serves for a target, the newest first: one, or in a list none or several.

    Raises:
        NotFound: There is no such listener, or it serves no TLS.
    """
    listed = aws.entries(
        "elbv2",
        "DescribeListenerCertificates",
        of="Certificates",
        follow={"Marker": "NextMarker"},
        ListenerArn=entry.listener,
        PageSize=_PAGE,
    )
    try:
        arns = [str(each["CertificateArn"]) async for each in listed if bool(each.get("IsDefault")) is not entry.listed]
    except NotFound:
        raise NotFound(f"there is no listener {entry.listener} in this account and region") from None
    if not entry.listed and not arns:
        raise NotFound(f"the listener {entry.listener} has no certificate: does it speak HTTPS or TLS?")
    found = [await _stored(aws, keys, arn) for arn in arns]
    if entry.listed:
        found = [each for each in found if is_for(each.names, ascii_name(entry.server_name))]
    return sorted(found, key=lambda each: (each.not_before or datetime.min.replace(tzinfo=UTC), each.id), reverse=True)


async def _stored(aws: Aws, keys: Keys, arn: str) -> Certificate:
    """A certificate by its ARN. What IAM keeps, as it did before there was ACM, is known by its ARN alone."""
    if arn.split(":")[2] != "acm":
        return Certificate(id=arn, names=[])
    return await find(aws, keys, arn)


async def _state(keys: Keys, target: str, connection: str, found: list[Certificate]) -> DeployedState:
    if not found:
        return DeployedState(target=target, connection=connection, serial="", restore=NOTHING)
    newest = found[0]
    kept = await keys.with_serial(newest.serial) if newest.serial else None
    return DeployedState(
        target=target,
        connection=connection,
        serial=newest.serial,
        installed=newest.serial,
        certificate=kept.certificate if kept else "",
        restore=newest.id,
        not_after=newest.not_after,
    )
