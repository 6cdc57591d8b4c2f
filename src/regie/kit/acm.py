"""AWS Certificate Manager in our words, for the connectors that list it, hand certificates to it, and use what it has.

Contract: docs.aws.amazon.com/acm/latest/APIReference, `ListCertificates` and `DescribeCertificate`.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from typing import Any

from regie.core.capabilities.certificate import Certificate, KeptCertificate
from regie.core.errors import NotFound
from regie.kit.aws import Aws
from regie.kit.keys import Keys

_KINDS = {
    "RSA_1024": "rsa-1024",
    "RSA_2048": "rsa-2048",
    "RSA_3072": "rsa-3072",
    "RSA_4096": "rsa-4096",
    "EC_prime256v1": "ec-p256",
    "EC_secp384r1": "ec-p384",
    "EC_secp521r1": "ec-p521",
}
_ALL_KINDS = {"keyTypes": list(_KINDS)}
"""Without it only RSA keys of up to 2048 bits are listed (API reference, ListCertificates, Includes)."""
_STATES = {
    "ISSUED": "issued",
    "PENDING_VALIDATION": "pending",
    "EXPIRED": "expired",
    "REVOKED": "revoked",
    "INACTIVE": "failed",
    "VALIDATION_TIMED_OUT": "failed",
    "FAILED": "failed",
}
_RENEWALS = {
    "PENDING_AUTO_RENEWAL": "pending",
    "PENDING_VALIDATION": "waits_for_proof",
    "SUCCESS": "done",
    "FAILED": "failed",
}


async def find(aws: Aws, keys: Keys, arn: str) -> Certificate:
    """A certificate by its ARN.

    Raises:
        NotFound: ACM has none.
    """
    return await told(keys, await detail(aws, arn))


async def arns(aws: Aws) -> list[str]:
    """The ARNs of all certificates, sorted."""
    return sorted([str(each["CertificateArn"]) async for each in _listed(aws)])


async def detail(aws: Aws, arn: str) -> Mapping[str, Any]:
    """The same in ACM's words (API reference, CertificateDetail). Raises what `find` raises."""
    try:
        answer = await aws.call("acm", "DescribeCertificate", CertificateArn=arn)
    except NotFound:
        raise NotFound(f"ACM has no certificate {arn} in this account and region") from None
    found: Mapping[str, Any] = answer["Certificate"]
    return found


async def find_imported(aws: Aws, keys: Keys, kept: KeptCertificate) -> Certificate | None:
    """The imported certificate that is this very one, if ACM has it."""
    async for each in _listed(aws):
        if each.get("Type", "IMPORTED") != "IMPORTED":
            continue
        # The list tells no serials; what does not end at the same second is another one.
        ends = each.get("NotAfter")
        if ends is None or ends == kept.not_after:
            found = await find(aws, keys, str(each["CertificateArn"]))
            if found.serial == kept.serial:
                return found
    return None


async def told(keys: Keys, found: Mapping[str, Any]) -> Certificate:
    """A certificate in our words; one that is not issued yet has neither serial nor times."""
    serial = str(found.get("Serial", "")).replace(":", "").lower().lstrip("0")
    state = _STATES.get(str(found["Status"]), "failed")
    renewal = found.get("RenewalSummary", {})
    used_by = sorted(found.get("InUseBy", []))
    algorithm = str(found.get("KeyAlgorithm", "")).replace("-", "_")
    return Certificate(
        id=str(found["CertificateArn"]),
        names=sorted({str(name).lower() for name in found.get("SubjectAlternativeNames") or [found["DomainName"]]}),
        serial=serial,
        issuer=str(found.get("Issuer", "")),
        not_before=found.get("NotBefore"),
        not_after=found.get("NotAfter"),
        key=_KINDS.get(algorithm, algorithm.lower()),
        state="imported" if found["Type"] == "IMPORTED" and state == "issued" else state,
        renewed_by=await _renewed_by(keys, found, serial),
        renewal=_RENEWALS.get(str(renewal.get("RenewalStatus", "")), ""),
        used_by=used_by,
        is_used=bool(used_by),
        findings=_findings(state, renewal),
    )


def _findings(state: str, renewal: Mapping[str, Any]) -> list[str]:
    found = [state] if state in {"expired", "revoked"} else []
    if renewal.get("RenewalStatus") == "FAILED":
        cause = str(renewal.get("RenewalStatusReason", "")).lower()
        found.append(f"renewal_failed:{cause}" if cause else "renewal_failed")
    return found


def _listed(aws: Aws) -> AsyncIterator[Mapping[str, Any]]:
    """Every certificate, page by page, as the list tells of it."""
    return aws.entries(
        "acm",
        "ListCertificates",
        of="CertificateSummaryList",
        follow={"NextToken": "NextToken"},
        Includes=_ALL_KINDS,
        MaxItems=1000,
    )


async def _renewed_by(keys: Keys, found: Mapping[str, Any], serial: str) -> str:
    """ACM renews what it has issued as long as something uses it; what was imported, nobody there does."""
    if found["Type"] != "IMPORTED":
        return "source" if found.get("RenewalEligibility") == "ELIGIBLE" else "nobody"
    return "regie" if serial and await keys.with_serial(serial) else "nobody"
