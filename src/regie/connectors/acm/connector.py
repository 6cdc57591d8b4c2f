"""AWS Certificate Manager: what it has, who uses it, and certificates of ours handed to it."""

# ruff: noqa: ARG002, D102 - arguments and docstrings of observe, plan, apply ... are those of the kit's contract.

from __future__ import annotations

from regie.core.capabilities import certificate
from regie.core.effect import Repeat
from regie.core.errors import NotFound, Refused
from regie.core.plan import Change, NoChange, Receipt
from regie.kit.acm import arns, detail, find, find_imported, told
from regie.kit.connector import Connector, Read, Seen, Write, provides
from regie.kit.keys import Material, Part
from regie.kit.paging import page_after, pages_of

_READS = ["acm:DescribeCertificate", "acm:ListCertificates"]
_PAGE = 20
"""Certificates on a page: each of them is looked up by itself, ten a second, and a question should end in seconds."""


class Acm(Connector):
    """A certificate is known by its ARN."""

    @provides(certificate.LIST, permissions=_READS)
    class ListCertificates(Read[certificate.Source, certificate.Inventory]):
        """A page of certificates, by their ARN. The identifier of the authority's key is not among what ACM tells."""

        async def read(self, want: certificate.Source) -> certificate.Inventory:
            page, cursor = page_after(await arns(self.aws), want.cursor, _PAGE)
            listed = []
            for arn in page:
                try:
                    listed.append(await find(self.aws, self.keys, arn))
                except NotFound:
                    continue  # taken away since the list was read
            return certificate.Inventory(certificates=listed, cursor=cursor)

    @provides(certificate.LIST_PAGES, permissions=["acm:ListCertificates"])
    class ListPages(Read[certificate.CertificateList, certificate.Pages]):
        """Count them."""

        async def read(self, want: certificate.CertificateList) -> certificate.Pages:
            found = await arns(self.aws)
            return certificate.Pages(cursors=pages_of(found, _PAGE), certificates=len(found))

    @provides(certificate.FIND, permissions=["acm:DescribeCertificate"])
    class FindCertificate(Read[certificate.CertificateQuery, certificate.Certificate]):
        """Look a certificate up by its ARN."""

        async def read(self, want: certificate.CertificateQuery) -> certificate.Certificate:
            return await find(self.aws, self.keys, want.certificate)

    @provides(certificate.IMPORT, permissions=["acm:ImportCertificate", *_READS], undo=certificate.IMPORT)
    class ImportCertificate(Write[certificate.Importing, certificate.Certificate]):
        """Hand a kept certificate over: in the place of another, whose ARN and uses stay, or as a new one."""

        repeat = Repeat.OBSERVABLE
        settle_s = 10.0

        async def observe(self, want: certificate.Importing, marker: str) -> Seen:
            kept = await self.keys.get(want.certificate)
            if want.replaces:
                former = await detail(self.aws, want.replaces)
                if former["Type"] != "IMPORTED":
                    raise Refused(
                        f"{want.replaces} was not imported, so nothing can be imported in its place",
                        status=0,
                        code="not-imported",
                    )
                return _seen(kept, await told(self.keys, former))
            return _seen(kept, await find_imported(self.aws, self.keys, kept))

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
            return _seen(kept, await find(self.aws, self.keys, receipt.remote_id))

        def foreseen(self, change: Change, seen: Seen) -> Seen:
            return {**seen, "serial": seen["wanted"], "certificate": seen["then"]}

        def gives(self, want: certificate.Importing, seen: Seen) -> certificate.Certificate:
            return certificate.Certificate.model_validate(seen["certificate"] or seen["then"])


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
