"""AWS Certificate Manager: what it has, who uses it, and certificates of ours handed to it."""

# ruff: noqa: ARG002, D102 - arguments and docstrings of observe, plan, apply ... are those of the kit's contract.

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from typing import Any

from regie.core.capabilities import certificate
from regie.core.effect import Repeat
from regie.core.errors import NotFound, Refused
from regie.core.plan import Change, NoChange, Receipt
from regie.kit.aws import Aws
from regie.kit.connector import Connector, Read, Seen, Write, provides
from regie.kit.keys import Keys, Material, Part

_READS = ["acm:DescribeCertificate", "acm:ListCertificates"]
_PAGE = 20
"""Certificates on a page: each of them is looked up by itself, ten a second, and a question should end in seconds."""
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


class Acm(Connector):
    """A certificate is known by its ARN."""

    @provides(certificate.LIST, permissions=_READS)
    class ListCertificates(Read[certificate.Source, certificate.Inventory]):
        """A page of certificates. The identifier of the authority's key is not among what ACM tells."""

        async def read(self, want: certificate.Source) -> certificate.Inventory:
            begin = {"NextToken": want.cursor} if want.cursor else {}
            page = await self.aws.call("acm", "ListCertificates", MaxItems=_PAGE, Includes=_ALL_KINDS, **begin)
            found = []
            for each in page["CertificateSummaryList"]:
                try:
                    found.append(await _find(self.aws, self.keys, str(each["CertificateArn"])))
                except NotFound:
                    continue  # taken away since the page was read
            found.sort(key=lambda each: each.id)
            return certificate.Inventory(certificates=found, cursor=str(page.get("NextToken") or ""))

    @provides(certificate.FIND, permissions=["acm:DescribeCertificate"])
    class FindCertificate(Read[certificate.CertificateQuery, certificate.Certificate]):
        """Look a certificate up by its ARN."""

        async def read(self, want: certificate.CertificateQuery) -> certificate.Certificate:
            return await _find(self.aws, self.keys, want.certificate)

    @provides(certificate.IMPORT, permissions=["acm:ImportCertificate", *_READS], undo=certificate.IMPORT)
    class ImportCertificate(Write[certificate.Importing, certificate.Certificate]):
        """Hand a kept certificate over: in the place of another, whose ARN and uses stay, or as a new one."""

        repeat = Repeat.OBSERVABLE
        settle_s = 10.0

        async def observe(self, want: certificate.Importing, marker: str) -> Seen:
            kept = await self.keys.get(want.certificate)
            if want.replaces:
                detail = await _detail(self.aws, want.replaces)
                if detail["Type"] != "IMPORTED":
                    raise Refused(
                        f"{want.replaces} was not imported, so nothing can be imported in its place",
                        status=0,
                        code="not-imported",
                    )
                return _seen(kept, await _told(self.keys, detail))
            return _seen(kept, await self._with_serial(kept))

        def plan(self, want: certificate.Importing, seen: Seen) -> NoChange | Change:
            target = f"certificate:{want.replaces or want.certificate}"
            if seen["serial"] == seen["wanted"]:
                return self.no_change(target, "ACM has that certificate")
            return self.change(target, "Certificate in ACM", ("serial", seen["serial"], seen["wanted"]))

        async def apply(self, want: certificate.Importing, change: Change, marker: str) -> Receipt:
            place = {"CertificateArn": want.replaces} if want.replaces else {}
            answer = await self.aws.call(
                "acm",
                "ImportCertificate",
                Certificate=Material(want.certificate, Part.CERTIFICATE),
                CertificateChain=Material(want.certificate, Part.INTERMEDIATES),
                PrivateKey=Material(want.certificate, Part.PRIVATE_KEY),
                **place,
            )
            return Receipt(request_id=str(answer["request_id"]), remote_id=str(answer["CertificateArn"]))

        async def confirm(self, want: certificate.Importing, receipt: Receipt, marker: str) -> Seen:
            if not receipt.remote_id:
                return await self.observe(want, marker)
            kept = await self.keys.get(want.certificate)
            return _seen(kept, await _find(self.aws, self.keys, receipt.remote_id))

        def foreseen(self, change: Change, seen: Seen) -> Seen:
            return {**seen, "serial": seen["wanted"], "certificate": seen["then"]}

        def gives(self, want: certificate.Importing, seen: Seen) -> certificate.Certificate:
            return certificate.Certificate.model_validate(seen["certificate"] or seen["then"])

        async def _with_serial(self, kept: certificate.KeptCertificate) -> certificate.Certificate | None:
            """The imported certificate that is this very one, if ACM has it already."""
            async for each in _imported(self.aws):
                # The list tells no serials; what does not end at the same second is another one.
                ends = each.get("NotAfter")
                if ends is None or ends == kept.not_after:
                    found = await _find(self.aws, self.keys, str(each["CertificateArn"]))
                    if found.serial == kept.serial:
                        return found
            return None


def _imported(aws: Aws) -> AsyncIterator[Mapping[str, Any]]:
    """What was imported, page by page, as the list tells of it."""
    listed = aws.entries(
        "acm",
        "ListCertificates",
        of="CertificateSummaryList",
        follow={"NextToken": "NextToken"},
        Includes=_ALL_KINDS,
        MaxItems=1000,
    )
    return (each async for each in listed if each.get("Type", "IMPORTED") == "IMPORTED")


def _seen(kept: certificate.KeptCertificate, found: certificate.Certificate | None) -> Seen:
    """What is there, what is wanted, and what would be there then."""
    then = certificate.Certificate(
        id=found.id if found else "planned",
        names=kept.names,
        serial=kept.serial,
        issuer=kept.issuer,
        not_before=kept.not_before,
        not_after=kept.not_after,
        key=kept.key,
        state="imported",
        renewed_by="regie",
        used_by=found.used_by if found else [],
    )
    return {
        "serial": found.serial if found else "",
        "wanted": kept.serial,
        "certificate": found.model_dump(mode="json") if found else None,
        "then": then.model_dump(mode="json"),
    }


async def _find(aws: Aws, keys: Keys, arn: str) -> certificate.Certificate:
    return await _told(keys, await _detail(aws, arn))


async def _detail(aws: Aws, arn: str) -> Mapping[str, Any]:
    try:
        answer = await aws.call("acm", "DescribeCertificate", CertificateArn=arn)
    except NotFound:
        raise NotFound(f"ACM has no certificate {arn} in this account and region") from None
    found: Mapping[str, Any] = answer["Certificate"]
    return found


async def _told(keys: Keys, found: Mapping[str, Any]) -> certificate.Certificate:
    """A certificate in our words; one that is not issued yet has neither serial nor times."""
    serial = str(found.get("Serial", "")).replace(":", "").lower().lstrip("0")
    state = _STATES.get(str(found["Status"]), "failed")
    algorithm = str(found.get("KeyAlgorithm", "")).replace("-", "_")
    return certificate.Certificate(
        id=str(found["CertificateArn"]),
        names=sorted({str(name).lower() for name in found.get("SubjectAlternativeNames") or [found["DomainName"]]}),
        serial=serial,
        issuer=str(found.get("Issuer", "")),
        not_before=found.get("NotBefore"),
        not_after=found.get("NotAfter"),
        key=_KINDS.get(algorithm, algorithm.lower()),
        state="imported" if found["Type"] == "IMPORTED" and state == "issued" else state,
        renewed_by=await _renewed_by(keys, found, serial),
        used_by=sorted(found.get("InUseBy", [])),
    )


async def _renewed_by(keys: Keys, found: Mapping[str, Any], serial: str) -> str:
    """ACM renews what it has issued as long as something uses it; what was imported, nobody there does."""
    if found["Type"] != "IMPORTED":
        return "source" if found.get("RenewalEligibility") == "ELIGIBLE" else "nobody"
    return "regie" if serial and await keys.with_serial(serial) else "nobody"
