"""Whether a certificate was revoked, as its authority says: OCSP (RFC 6960) and lists (RFC 5280). Pure.

What an authority says counts only if its signature is right, it is about this certificate, and it is not too old.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Literal

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519, padding, rsa
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509 import ocsp
from cryptography.x509.oid import AuthorityInformationAccessOID, ExtendedKeyUsageOID

from regie.kit.tls.certificates import UNREADABLE, Parsed, Unreadable, parse, signed_by

SKEW = timedelta(minutes=5)
"""How far an authority's clock may be ahead of ours."""
WITHOUT_AN_END = timedelta(hours=1)
"""How long an answer is kept that does not say when the next one comes."""
SHORT_LIVED = timedelta(days=10)
"""Lifetime up to which an authority need not offer revocation (CA/Browser Forum baseline requirements, 4.9)."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """What an authority says of one certificate.

    Attributes:
        state: Whether it is revoked.
        until: From when on a newer answer should be asked for.
        reason: Why it was revoked, such as `keyCompromise`, where the authority says so.
    """

    state: Literal["good", "revoked"]
    until: datetime
    reason: str = ""


class NotCredible(Exception):
    """An answer that does not count. `cause` is a stable word for why."""

    def __init__(self, cause: str) -> None:
        super().__init__(cause)
        self.cause = cause


@contextmanager
def _readable() -> Iterator[None]:
    """Whatever the library cannot read inside the block does not count."""
    try:
        yield
    except UNREADABLE as error:
        raise NotCredible("unreadable") from error


def is_short_lived(certificate: Parsed) -> bool:
    """Whether it ends too soon for revocation to matter."""
    return certificate.x509.not_valid_after_utc - certificate.x509.not_valid_before_utc <= SHORT_LIVED


def ocsp_addresses(certificate: Parsed) -> list[str]:
    """Where its authority can be asked about it, over plain HTTP."""
    try:
        access = certificate.x509.extensions.get_extension_for_class(x509.AuthorityInformationAccess).value
    except x509.ExtensionNotFound:
        return []
    return _http(each.access_location for each in access if each.access_method == AuthorityInformationAccessOID.OCSP)


def crl_addresses(certificate: Parsed) -> list[str]:
    """Where its authority publishes the list that it would be on, over plain HTTP."""
    try:
        points = certificate.x509.extensions.get_extension_for_class(x509.CRLDistributionPoints).value
    except x509.ExtensionNotFound:
        return []
    # A list for some reasons only, or by somebody else, would not say that the certificate is good.
    whole = [each for each in points if each.reasons is None and not each.crl_issuer]
    return _http(name for point in whole for name in point.full_name or [])


def _http(names: Iterable[x509.GeneralName]) -> list[str]:
    found = [each.value for each in names if isinstance(each, x509.UniformResourceIdentifier)]
    return [each for each in found if each.lower().startswith("http://")]


def ocsp_question(certificate: Parsed, issuer: Parsed) -> bytes:
    """The request (RFC 6960, 4.1) for one certificate, without a nonce, so that responders can answer from a cache."""
    # Responders for the public know certificates by SHA-1 alone (RFC 5019, 2.1.1); nothing is secured by it here.
    sha1 = hashes.SHA1()  # noqa: S303  see above
    built = ocsp.OCSPRequestBuilder().add_certificate(certificate.x509, issuer.x509, sha1).build()
    return built.public_bytes(Encoding.DER)


def read_ocsp(answer: bytes, certificate: Parsed, issuer: Parsed, now: datetime) -> Verdict:
    """What a responder says of a certificate.

    Raises:
        NotCredible: `unreadable`, `refused`, `other_certificate`, `signature`, `outdated`, or `unknown_to_authority`.
    """
    with _readable():
        response = ocsp.load_der_ocsp_response(answer)
        if response.response_status is not ocsp.OCSPResponseStatus.SUCCESSFUL:
            raise NotCredible("refused")
        single = _about(response, certificate, issuer)
        if not _is_signed_for(response, issuer, now):
            raise NotCredible("signature")
        until = _until(single.this_update_utc, single.next_update_utc, now)
        status, reason = single.certificate_status, single.revocation_reason
    if status is ocsp.OCSPCertStatus.UNKNOWN:
        raise NotCredible("unknown_to_authority")
    if status is ocsp.OCSPCertStatus.REVOKED:
        return Verdict("revoked", until, reason.value if reason else "")
    return Verdict("good", until)


def _about(response: ocsp.OCSPResponse, certificate: Parsed, issuer: Parsed) -> ocsp.OCSPSingleResponse:
    for single in response.responses:
        asked = ocsp.OCSPRequestBuilder().add_certificate(certificate.x509, issuer.x509, single.hash_algorithm).build()
        if (single.serial_number, single.issuer_name_hash, single.issuer_key_hash) == (
            asked.serial_number,
            asked.issuer_name_hash,
            asked.issuer_key_hash,
        ):
            return single
    raise NotCredible("other_certificate")


def _is_signed_for(response: ocsp.OCSPResponse, issuer: Parsed, now: datetime) -> bool:
    """Whether the issuer signed, or somebody whom it has made a certificate for just that (RFC 6960, 4.2.2.2)."""
    if _has_signed(issuer.x509, response):
        return True
    return any(
        _has_signed(each, response) and _is_delegate(each, issuer, now)
        for each in response.certificates[:_MOST_SIGNERS]
    )


_MOST_SIGNERS = 5
"""Certificates beside an answer that are tried; one is usual."""


def _is_delegate(certificate: x509.Certificate, issuer: Parsed, now: datetime) -> bool:
    try:
        used_for = certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
        parsed = parse(certificate.public_bytes(Encoding.DER))
    except (x509.ExtensionNotFound, Unreadable):
        return False
    in_time = certificate.not_valid_before_utc - SKEW <= now <= certificate.not_valid_after_utc
    return ExtendedKeyUsageOID.OCSP_SIGNING in used_for and in_time and signed_by(parsed, issuer)


def _has_signed(certificate: x509.Certificate, response: ocsp.OCSPResponse) -> bool:
    signature, said = response.signature, response.tbs_response_bytes
    try:
        key, used = certificate.public_key(), response.signature_hash_algorithm
        match key:
            case rsa.RSAPublicKey() if used is not None:
                key.verify(signature, said, padding.PKCS1v15(), used)
            case ec.EllipticCurvePublicKey() if used is not None:
                key.verify(signature, said, ec.ECDSA(used))
            case ed25519.Ed25519PublicKey() | ed448.Ed448PublicKey():
                key.verify(signature, said)
            case _:
                return False
    except (InvalidSignature, UnsupportedAlgorithm, ValueError):
        return False
    return True


def _until(this_update: datetime, next_update: datetime | None, now: datetime) -> datetime:
    if this_update > now + SKEW or (next_update is not None and next_update < now):
        raise NotCredible("outdated")
    return next_update if next_update is not None else now + WITHOUT_AN_END


@dataclass(frozen=True, slots=True)
class RevokedList:
    """A list of revoked certificates whose signature is right.

    Attributes:
        crl: The list.
        size: Its bytes.
        until: When it is too old.
    """

    crl: x509.CertificateRevocationList
    size: int
    until: datetime

    def verdict(self, certificate: Parsed) -> Verdict:
        """What the list says of a certificate that it would be on."""
        entry = self.crl.get_revoked_certificate_by_serial_number(certificate.x509.serial_number)
        if entry is None:
            return Verdict("good", self.until)
        try:
            reason = entry.extensions.get_extension_for_class(x509.CRLReason).value.reason.value
        except (x509.ExtensionNotFound, *UNREADABLE):
            reason = ""
        return Verdict("revoked", self.until, reason)


def read_crl(content: bytes, address: str, issuer: Parsed, now: datetime) -> RevokedList:
    """A list that an issuer publishes at an address.

    Raises:
        NotCredible: `unreadable`, `other_issuer`, `signature`, `outdated`, or `partial` where it covers only a part.
    """
    with _readable():
        is_text = content.lstrip().startswith(b"-----")
        crl = x509.load_pem_x509_crl(content) if is_text else x509.load_der_x509_crl(content)
        if crl.issuer != issuer.x509.subject:
            raise NotCredible("other_issuer")
        if not _is_signed_list(crl, issuer):
            raise NotCredible("signature")
        if not _covers(crl, address):
            raise NotCredible("partial")
        until = _until(crl.last_update_utc, crl.next_update_utc, now)
    return RevokedList(crl, len(content), until)


def _is_signed_list(crl: x509.CertificateRevocationList, issuer: Parsed) -> bool:
    key = issuer.x509.public_key()
    if not isinstance(
        key, rsa.RSAPublicKey | ec.EllipticCurvePublicKey | ed25519.Ed25519PublicKey | ed448.Ed448PublicKey
    ):
        return False
    return crl.is_signature_valid(key)


def _covers(crl: x509.CertificateRevocationList, address: str) -> bool:
    """Whether what is not on the list was not revoked: it must not be a part of a list that lies elsewhere."""
    try:
        point = crl.extensions.get_extension_for_class(x509.IssuingDistributionPoint).value
    except x509.ExtensionNotFound:
        return True
    if point.indirect_crl or point.only_some_reasons or point.only_contains_attribute_certs:
        return False
    names = [each.value for each in point.full_name or [] if isinstance(each, x509.UniformResourceIdentifier)]
    return not names or address in names
