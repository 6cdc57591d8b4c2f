"""The program that `aws` starts: moto's server, mended where it does not do what AWS does."""

from __future__ import annotations

import itertools
import os
from collections import Counter
from collections.abc import Callable
from typing import Any

from moto.acm.models import CertBundle, acm_backends
from moto.acm.responses import AWSCertificateManagerResponse
from moto.core.responses import ActionResult
from moto.elbv2.exceptions import ELBClientError
from moto.elbv2.models import ELBv2Backend
from moto.elbv2.responses import ELBV2Response
from moto.iam.access_control import IAMRequestBase
from moto.route53.exceptions import InvalidChangeBatch
from moto.route53.models import route53_backends
from moto.route53.responses import Route53
from moto.server import main

PENDING = int(os.environ.get("ROUTE53_PENDING", "0"))  # noqa: TID251  a program of its own
"""How often Route 53 says that a change is on its way before it says that it is done."""
LISTED_UNASKED = ("RSA_1024", "RSA_2048")
"""Kinds of keys that ACM lists when nothing is said (API reference, ListCertificates, Includes)."""

Function = Callable[..., Any]


def with_serials(describe: Function) -> Function:
    """Serials as pairs of hexadecimal digits (API reference, CertificateDetail); moto writes decimal numbers."""

    def described(bundle: Any) -> Any:
        found = describe(bundle)
        number = int(found["Certificate"]["Serial"])
        digits = number.to_bytes((number.bit_length() + 7) // 8, "big").hex(":")
        return {"Certificate": {**found["Certificate"], "Serial": digits}}

    return described


def when_proven(check: Function) -> Function:
    """ACM issues what was asked for once its proof is in the zone (User Guide, DNS validation); moto after a time."""

    def checked(bundle: Any) -> None:
        if bundle.status == "PENDING_VALIDATION":
            zones = route53_backends[bundle.arn.split(":")[4]]["aws"].zones.values()
            there = {each.name for zone in zones for each in zone.rrsets}
            wanted = bundle.describe()["Certificate"]["DomainValidationOptions"]
            if not there.issuperset(each["ResourceRecord"]["Name"] for each in wanted):
                return
        check(bundle)

    return checked


def with_pages(list_certificates: Function) -> Function:
    """Pages, of twenty at most, and only the kinds of keys asked for; moto gives all at once, and tells too much."""

    def listed(response: Any) -> ActionResult:
        found = list_certificates(response).result["CertificateSummaryList"]
        kinds = (response._get_param("Includes") or {}).get("keyTypes") or LISTED_UNASKED
        fitting = [_summary(each) for each in found if each["KeyAlgorithm"] in kinds]
        start = int(response._get_param("NextToken") or 0)
        end = start + min(int(response._get_param("MaxItems") or 100), 20)
        page: dict[str, Any] = {"CertificateSummaryList": fitting[start:end]}
        return ActionResult({**page, "NextToken": str(end)} if end < len(fitting) else page)

    return listed


def _summary(certificate: dict[str, Any]) -> dict[str, Any]:
    """What the list tells of a certificate: neither its serial nor its issuer."""
    names = certificate["SubjectAlternativeNames"]
    hidden = {"Serial", "Issuer", "Subject", "SubjectAlternativeNames"}
    return {**{k: v for k, v in certificate.items() if k not in hidden}, "SubjectAlternativeNameSummaries": names}


def strictly(change: Function) -> Function:
    """All of a batch or nothing: what is deleted must be there exactly so, what is created must not be there (API
    reference, ChangeResourceRecordSets); moto looks at whether it ever was."""

    def changed(response: Any) -> Any:
        zone = response.backend.get_hosted_zone(response._get_param("HostedZoneId"))
        there = {
            (each.name.lower(), each.type, each.set_identifier): (each.ttl, sorted(each.records))
            for each in zone.rrsets
        }
        for part in response._get_param("ChangeBatch.Changes"):
            wanted = part["ResourceRecordSet"]
            key = (f"{wanted['Name'].rstrip('.').lower()}.", wanted["Type"], wanted.get("SetIdentifier"))
            value = (wanted.get("TTL"), sorted(each["Value"] for each in wanted.get("ResourceRecords", [])))
            if part["Action"] == "CREATE" and key in there:
                raise InvalidChangeBatch
            if part["Action"] == "DELETE" and there.pop(key, None) != value:
                raise InvalidChangeBatch
        return change(response)

    return changed


def with_time(change: Function, look: Function) -> tuple[Function, Function]:
    """Changes that take their time and have names of their own; moto's are done at once."""
    numbers = itertools.count(1)
    asked: Counter[str] = Counter()

    def told(found: Any, name: str) -> ActionResult:
        asked[name] += 1
        status = "PENDING" if asked[name] <= PENDING else "INSYNC"
        return ActionResult({"ChangeInfo": {**found.result["ChangeInfo"], "Id": f"/change/{name}", "Status": status}})

    return (
        lambda response: told(change(response), f"C{next(numbers):013}"),
        lambda response: told(look(response), str(response._get_param("Id")).removeprefix("/change/")),
    )


def keeping_its_list(modify: Function) -> Function:
    """The default certificate is replaced and the list stays (API reference, ModifyListener); moto empties it."""

    def modified(backend: Any, arn: str, *arguments: Any) -> Any:
        [listener] = backend.describe_listeners(load_balancer_arn=None, listener_arns=[arn])
        listed = listener.certificates[1:]
        found = modify(backend, arn, *arguments)
        found.certificates = [*found.certificates[:1], *listed]
        return found

    return modified


def once_each(add: Function) -> Function:
    """What is listed is not listed again, and only what there is (API reference, AddListenerCertificates)."""

    def added(backend: Any, arn: str, certificates: list[dict[str, Any]]) -> Any:
        [listener] = backend.describe_listeners(load_balancer_arn=None, listener_arns=[arn])
        asked = [each["CertificateArn"] for each in certificates]
        if not all(backend._certificate_exists(certificate_arn=each) for each in asked):
            raise ELBClientError("CertificateNotFound", "There is no such certificate")
        return add(backend, arn, [{"CertificateArn": each} for each in asked if each not in listener.certificates[1:]])

    return added


def from_its_list(backend: Any, arn: str, certificates: list[dict[str, Any]]) -> None:
    """The default certificate stays where it is (API reference, RemoveListenerCertificates); moto takes it away too."""
    [listener] = backend.describe_listeners(load_balancer_arn=None, listener_arns=[arn])
    gone = {each["CertificateArn"] for each in certificates}
    listener.certificates[1:] = [each for each in listener.certificates[1:] if each not in gone]


def noting_use(change: Function) -> Function:
    """ACM tells what uses a certificate (API reference, CertificateDetail); moto notes it for new listeners only."""

    def changed(backend: Any, arn: str, *arguments: Any) -> Any:
        [listener] = backend.describe_listeners(load_balancer_arn=None, listener_arns=[arn])
        before = set(listener.certificates)
        found = change(backend, arn, *arguments)
        known = acm_backends[backend.account_id][backend.region_name]._certificates
        for each in before ^ set(listener.certificates):
            users = {*known[each].in_use_by} - {arn} if each in before else {*known[each].in_use_by, arn}
            known[each].in_use_by = sorted(users)
        return found

    return changed


def listeners_pages(describe: Function) -> Function:
    """A page at a time, of two at most, so that every test meets more than one; moto gives all at once."""

    def described(response: Any) -> ActionResult:
        found = describe(response).result["Certificates"]
        start = int(response._get_param("Marker") or 0)
        end = start + 2
        return ActionResult(
            {"Certificates": found[start:end], **({"NextMarker": str(end)} if end < len(found) else {})}
        )

    return described


def without_a_body(request: Function) -> Function:
    """A GET is signed over its address; moto takes its parameters for a body that was signed."""

    def made(asked: Any) -> Any:
        if asked._method == "GET":
            asked._data = {}
        return request(asked)

    return made


MENDED: list[tuple[type, dict[str, Function]]] = [
    (CertBundle, {"describe": with_serials(CertBundle.describe), "check": when_proven(CertBundle.check)}),
    (
        AWSCertificateManagerResponse,
        {"list_certificates": with_pages(AWSCertificateManagerResponse.list_certificates)},
    ),
    (
        Route53,
        dict(
            zip(
                ("change_resource_record_sets", "get_change"),
                with_time(strictly(Route53.change_resource_record_sets), Route53.get_change),
                strict=True,
            )
        ),
    ),
    (
        ELBv2Backend,
        {
            "modify_listener": noting_use(keeping_its_list(ELBv2Backend.modify_listener)),
            "add_listener_certificates": noting_use(once_each(ELBv2Backend.add_listener_certificates)),
            "remove_listener_certificates": noting_use(from_its_list),
        },
    ),
    (
        ELBV2Response,
        {"describe_listener_certificates": listeners_pages(ELBV2Response.describe_listener_certificates)},
    ),
    (IAMRequestBase, {"_create_aws_request": without_a_body(IAMRequestBase._create_aws_request)}),
]

if __name__ == "__main__":
    for place, functions in MENDED:
        for name, function in functions.items():
            setattr(place, name, function)
    main()
