"""An imaginary certificate authority: certificates of every quality, lists, OCSP answers.

For tests and for the farm of TLS endpoints. Its keys exist in memory only.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from itertools import count

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import dsa, ec, ed448, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509 import ocsp
from cryptography.x509.oid import AuthorityInformationAccessOID, ExtendedKeyUsageOID, NameOID

Key = (
    ec.EllipticCurvePrivateKey
    | rsa.RSAPrivateKey
    | dsa.DSAPrivateKey
    | ed25519.Ed25519PrivateKey
    | ed448.Ed448PrivateKey
)
Hash = hashes.SHA256 | hashes.SHA384 | None

BORN = datetime(2026, 1, 1, tzinfo=UTC)
"""When lifetimes begin, unless said otherwise."""
LIFETIME = timedelta(days=3650)
_SERIALS = count(0x1000)


def new_key() -> ec.EllipticCurvePrivateKey:
    """A key of the kind that is cheapest to use."""
    return ec.generate_private_key(ec.SECP256R1())


@dataclass(frozen=True)
class Issued:
    """A certificate and its key.

    Attributes:
        certificate: What was issued.
        key: Its private key.
        issuer: Whose key signed it; none when it signed itself.
    """

    certificate: x509.Certificate
    key: Key
    issuer: Issued | None = field(default=None, repr=False)

    @property
    def der(self) -> bytes:
        """The certificate in DER."""
        return self.certificate.public_bytes(Encoding.DER)

    @property
    def pem(self) -> bytes:
        """The certificate in PEM."""
        return self.certificate.public_bytes(Encoding.PEM)

    @property
    def key_pem(self) -> bytes:
        """The private key in PEM, in clear: it opens nothing but a test."""
        return self.key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())

    @property
    def signer(self) -> Issued:
        """Whose key signed it."""
        return self.issuer or self


@dataclass(frozen=True)
class Wanted:
    """How a certificate shall be.

    Attributes:
        name: Common name.
        names: DNS names and addresses that it is for.
        born: Start of its lifetime.
        lifetime: Its length.
        key: Its key; a new one when none is given.
        digest: What is signed; none for keys that need none.
        is_authority: Whether it may sign others.
        path_length: How many authorities may come below it; any number when none.
        ocsp: Where its authority can be asked about it.
        crl: Where the list is.
        usage: What it is for; for servers unless said otherwise, for nothing in particular when empty.
        permitted: Names that whatever is below it must end in.
    """

    name: str
    names: tuple[str, ...] = ()
    born: datetime = BORN
    lifetime: timedelta = LIFETIME
    key: Key | None = None
    digest: Hash = field(default_factory=hashes.SHA256)
    is_authority: bool = False
    path_length: int | None = None
    ocsp: str = ""
    crl: str = ""
    usage: tuple[x509.ObjectIdentifier, ...] = (ExtendedKeyUsageOID.SERVER_AUTH,)
    permitted: tuple[str, ...] = ()


def issue(wanted: Wanted, issuer: Issued | None = None) -> Issued:
    """Make a certificate; it signs itself without an issuer."""
    key = wanted.key or new_key()
    subject = _name(wanted.name)
    signer = issuer.key if issuer else key
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer.certificate.subject if issuer else subject)
        .public_key(key.public_key())
        .serial_number(next(_SERIALS))
        .not_valid_before(wanted.born)
        .not_valid_after(wanted.born + wanted.lifetime)
        .add_extension(x509.BasicConstraints(wanted.is_authority, wanted.path_length), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(signer.public_key()), critical=False)
    )
    for extension in _extensions(wanted):
        builder = builder.add_extension(extension, critical=False)
    return Issued(builder.sign(signer, wanted.digest), key, issuer)


def _name(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])


def _extensions(wanted: Wanted) -> Iterable[x509.ExtensionType]:
    if wanted.names:
        yield x509.SubjectAlternativeName([_general(name) for name in wanted.names])
    if wanted.usage and not wanted.is_authority:
        yield x509.ExtendedKeyUsage(wanted.usage)
    if wanted.ocsp:
        place = x509.UniformResourceIdentifier(wanted.ocsp)
        yield x509.AuthorityInformationAccess([x509.AccessDescription(AuthorityInformationAccessOID.OCSP, place)])
    if wanted.crl:
        place = x509.UniformResourceIdentifier(wanted.crl)
        yield x509.CRLDistributionPoints([x509.DistributionPoint([place], None, None, None)])
    if wanted.permitted:
        yield x509.NameConstraints([x509.DNSName(name) for name in wanted.permitted], None)


def _general(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)


def revoked_list(
    issuer: Issued,
    revoked: Iterable[Issued],
    *,
    now: datetime,
    reason: x509.ReasonFlags = x509.ReasonFlags.key_compromise,
    holds_for: timedelta = timedelta(days=1),
    signed_with: Issued | None = None,
    covers: str = "",
) -> bytes:
    """A list in DER.

    Args:
        issuer: In whose name.
        revoked: What is on it.
        now: When it is made.
        reason: Why they were revoked.
        holds_for: When the next one comes.
        signed_with: Whose key signs; the issuer's unless said otherwise.
        covers: The address of the only part of the list that this is.
    """
    builder = (
        x509.CertificateRevocationListBuilder()
        .issuer_name(issuer.certificate.subject)
        .last_update(now)
        .next_update(now + holds_for)
    )
    for each in revoked:
        entry = x509.RevokedCertificateBuilder().serial_number(each.certificate.serial_number).revocation_date(now)
        builder = builder.add_revoked_certificate(entry.add_extension(x509.CRLReason(reason), critical=False).build())
    if covers:
        place = [x509.UniformResourceIdentifier(covers)]
        point = x509.IssuingDistributionPoint(place, None, False, False, None, False, False)
        builder = builder.add_extension(point, critical=True)
    return builder.sign((signed_with or issuer).key, hashes.SHA256()).public_bytes(Encoding.DER)


def ocsp_answer(
    certificate: Issued,
    *,
    now: datetime,
    status: ocsp.OCSPCertStatus = ocsp.OCSPCertStatus.GOOD,
    holds_for: timedelta | None = timedelta(hours=8),
    signed_by: Issued | None = None,
    delegate: Issued | None = None,
    reason: x509.ReasonFlags | None = None,
) -> bytes:
    """What a responder says of a certificate, in DER.

    Args:
        certificate: Which one.
        now: When it says so.
        status: What it says.
        holds_for: When the next answer comes; it does not say without one.
        signed_by: Whose key signs; the issuer's unless said otherwise.
        delegate: Whose certificate goes along.
        reason: Why it was revoked.
    """
    issuer = certificate.signer
    signer = signed_by or issuer
    is_revoked = status is ocsp.OCSPCertStatus.REVOKED
    builder = ocsp.OCSPResponseBuilder().add_response(
        cert=certificate.certificate,
        issuer=issuer.certificate,
        algorithm=hashes.SHA1(),  # noqa: S303  by which responders know certificates (RFC 5019)
        cert_status=status,
        this_update=now,
        next_update=now + holds_for if holds_for is not None else None,
        revocation_time=now if is_revoked else None,
        revocation_reason=reason if is_revoked else None,
    )
    builder = builder.responder_id(ocsp.OCSPResponderEncoding.HASH, signer.certificate)
    if delegate is not None:
        builder = builder.certificates([delegate.certificate])
    return builder.sign(signer.key, hashes.SHA256()).public_bytes(Encoding.DER)
