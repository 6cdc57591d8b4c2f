"""Reading certificates: from DER, PEM or PKCS #7 bytes to what we say about them. Pure."""

from __future__ import annotations

import base64
import contextlib
import re
import warnings
from dataclasses import dataclass
from functools import cached_property

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import dsa, ec, ed448, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding, pkcs7
from cryptography.utils import CryptographyDeprecationWarning
from cryptography.x509.oid import NameOID
from OpenSSL.crypto import (
    TYPE_DSA,
    TYPE_EC,
    TYPE_RSA,
    X509,
    X509Store,
    X509StoreContext,
    X509StoreContextError,
    X509StoreFlags,
)
from OpenSSL.crypto import Error as OpenSSLError

from regie.core.capabilities.tls import PresentedCertificate
from regie.core.errors import InvalidInput

LARGEST_FILE = 4 * 1024 * 1024
"""Bytes of a file that is read; the bundles of all public authorities together have about 0.25 MB."""
MOST_CERTIFICATES = 1000
"""Certificates that are read of one file."""
_PEM = re.compile(rb"-----BEGIN ([A-Z0-9 ]{1,40})-----([A-Za-z0-9+/=\s]*)-----END \1-----")
_CERTIFICATE = {b"CERTIFICATE", b"X509 CERTIFICATE"}
_BAG = {b"PKCS7", b"CMS"}


UNREADABLE = (
    ValueError,
    TypeError,
    UnsupportedAlgorithm,
    x509.InvalidVersion,
    x509.DuplicateExtension,
    x509.UnsupportedGeneralNameType,
)
"""What `cryptography` raises at bytes that it cannot read. Most of these have no class in common."""


class Unreadable(ValueError):
    """These bytes are no certificate that can be read."""


@dataclass(frozen=True)
class Parsed:
    """A certificate, with what the library makes of it.

    Attributes:
        der: The certificate's bytes.
        x509: The library's view.
    """

    der: bytes
    x509: x509.Certificate

    @cached_property
    def facts(self) -> PresentedCertificate:
        """What we say about it.

        Raises:
            Unreadable: A part of it has a form that nobody can read.
        """
        return _facts(self.x509)

    @property
    def is_authority(self) -> bool:
        """Whether it says that it may sign others."""
        try:
            return self.x509.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
        except x509.ExtensionNotFound:
            return False

    @property
    def issuer_name(self) -> str:
        """Common name of who signed it; the whole name where there is none."""
        found = self.x509.issuer.get_attributes_for_oid(NameOID.COMMON_NAME)
        return str(found[0].value) if found else self.facts.issuer

    @property
    def is_self_issued(self) -> bool:
        """Whether it names itself as its issuer."""
        return self.x509.subject == self.x509.issuer and bool(self.x509.subject.rdns)


def parse(der: bytes) -> Parsed:
    """Read one certificate.

    Raises:
        Unreadable: The bytes are no certificate, or one that the library cannot read.
    """
    try:
        with warnings.catch_warnings():
            # Certificates with faults that are common in the field are read all the same: they are what we look for.
            warnings.simplefilter("ignore", CryptographyDeprecationWarning)
            parsed = Parsed(der, x509.load_der_x509_certificate(der))
            _ = parsed.facts
    except UNREADABLE as error:
        raise Unreadable("these bytes are no certificate that can be read") from error
    return parsed


def parse_file(content: bytes) -> list[Parsed]:
    """Read every certificate of a file in PEM (keys and other parts are passed over), DER or PKCS #7.

    Raises:
        InvalidInput: There is no certificate in it, or one of them cannot be read.
    """
    if len(content) > LARGEST_FILE:
        raise InvalidInput(f"The file has more than {LARGEST_FILE} bytes, so it is no file of certificates.")
    try:
        found = _parse_pem(content) if b"-----BEGIN " in content else _parse_binary(content)
    except UNREADABLE:
        found = []
    if not found:
        raise InvalidInput(
            "There is no certificate in the file that can be read.", hint="PEM, DER and PKCS #7 are read"
        )
    return found[:MOST_CERTIFICATES]


def _parse_pem(content: bytes) -> list[Parsed]:
    found: list[Parsed] = []
    for label, text in _PEM.findall(content):
        if label in _CERTIFICATE:
            found.append(parse(base64.b64decode(text)))
        elif label in _BAG:
            found.extend(_parse_bag(base64.b64decode(text)))
    return found


def _parse_binary(content: bytes) -> list[Parsed]:
    try:
        return [parse(content)]
    except Unreadable:
        return _parse_bag(content)


def _parse_bag(der: bytes) -> list[Parsed]:
    with warnings.catch_warnings():
        # BER instead of DER is common in the field; the library warns and reads it.
        warnings.simplefilter("ignore")
        return [parse(each.public_bytes(Encoding.DER)) for each in pkcs7.load_der_pkcs7_certificates(der)]


def signed_by(certificate: Parsed, issuer: Parsed) -> bool:
    """Whether the issuer has the name that the certificate tells, and its key made the certificate's signature."""
    if certificate.x509.issuer != issuer.x509.subject:
        return False
    try:
        certificate.x509.verify_directly_issued_by(issuer.x509)
    except InvalidSignature:
        return False
    except (ValueError, TypeError, UnsupportedAlgorithm):
        return _signed_in_old_ways(certificate, issuer)
    return True


def _signed_in_old_ways(certificate: Parsed, issuer: Parsed) -> bool:
    """The same where `cryptography` refuses to look, as at SHA-1: OpenSSL is asked to trust the issuer alone."""
    store = X509Store()
    store.set_flags(X509StoreFlags.PARTIAL_CHAIN)
    store.add_cert(X509.from_cryptography(issuer.x509))
    store.set_time(max(certificate.x509.not_valid_before_utc, issuer.x509.not_valid_before_utc))
    try:
        X509StoreContext(store, X509.from_cryptography(certificate.x509)).verify_certificate()
    except X509StoreContextError:
        return False
    return True


def _facts(certificate: x509.Certificate) -> PresentedCertificate:
    return PresentedCertificate(
        subject=certificate.subject.rfc4514_string(),
        issuer=certificate.issuer.rfc4514_string(),
        serial=f"{certificate.serial_number:x}",
        sha256=certificate.fingerprint(hashes.SHA256()).hex(),
        names=_names(certificate),
        not_before=certificate.not_valid_before_utc,
        not_after=certificate.not_valid_after_utc,
        key=_key(certificate),
        signature=_signature(certificate),
        authority_key=_authority_key(certificate),
    )


def _names(certificate: x509.Certificate) -> list[str]:
    try:
        found = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return []
    return [str(name.value) for name in found if isinstance(name, x509.DNSName | x509.IPAddress)]


def _authority_key(certificate: x509.Certificate) -> str:
    try:
        found = certificate.extensions.get_extension_for_class(x509.AuthorityKeyIdentifier).value
    except x509.ExtensionNotFound:
        return ""
    return (found.key_identifier or b"").hex()


_CURVES = {"secp256r1": "p256", "secp384r1": "p384", "secp521r1": "p521", "secp224r1": "p224"}
"""The names of NIST for the curves that have one."""
_OPENSSL_KINDS = {TYPE_RSA: "rsa", TYPE_DSA: "dsa", TYPE_EC: "ec"}


def _kind_and_size(certificate: x509.Certificate) -> tuple[str, int | str]:  # noqa: PLR0911  a table
    """Kind of a key, and its bits or the name of its curve; 0 where the kind says all."""
    try:
        key = certificate.public_key()
    except (ValueError, UnsupportedAlgorithm):
        # `cryptography` refuses what is very weak or rare; OpenSSL can tell its size.
        asked = X509.from_cryptography(certificate).get_pubkey()
        return _OPENSSL_KINDS.get(asked.type(), "other"), asked.bits()
    match key:
        case rsa.RSAPublicKey():
            return "rsa", key.key_size
        case ec.EllipticCurvePublicKey():
            return "ec", _CURVES.get(key.curve.name, key.curve.key_size)
        case dsa.DSAPublicKey():
            return "dsa", key.key_size
        case ed25519.Ed25519PublicKey():
            return "ed25519", 0
        case ed448.Ed448PublicKey():
            return "ed448", 0
        case _:
            return "other", 0


def _key(certificate: x509.Certificate) -> str:
    try:
        kind, size = _kind_and_size(certificate)
    except OpenSSLError:
        return "other"
    return f"{kind}-{size}" if size and kind != "other" else kind


def _signature(certificate: x509.Certificate) -> str:
    """The algorithm's usual name; for RSA-PSS, whose hash is a parameter, with that hash."""
    oid = certificate.signature_algorithm_oid
    name = _SIGNATURES.get(oid, oid.dotted_string)
    if oid == x509.SignatureAlgorithmOID.RSASSA_PSS:
        with contextlib.suppress(UnsupportedAlgorithm, ValueError):
            used = certificate.signature_hash_algorithm
            return f"{name}-{used.name}" if used else name
    return name


_OIDS = x509.SignatureAlgorithmOID
_OLD_RSA_WITH_SHA1 = x509.ObjectIdentifier("1.3.14.3.2.29")
"""A second identifier of the same, from OIW; old tools for Windows write it."""
_SIGNATURES = {
    _OIDS.RSA_WITH_MD5: "md5WithRSAEncryption",
    _OIDS.RSA_WITH_SHA1: "sha1WithRSAEncryption",
    _OLD_RSA_WITH_SHA1: "sha1WithRSAEncryption",
    _OIDS.RSA_WITH_SHA224: "sha224WithRSAEncryption",
    _OIDS.RSA_WITH_SHA256: "sha256WithRSAEncryption",
    _OIDS.RSA_WITH_SHA384: "sha384WithRSAEncryption",
    _OIDS.RSA_WITH_SHA512: "sha512WithRSAEncryption",
    _OIDS.RSASSA_PSS: "rsassaPss",
    _OIDS.ECDSA_WITH_SHA1: "ecdsa-with-SHA1",
    _OIDS.ECDSA_WITH_SHA224: "ecdsa-with-SHA224",
    _OIDS.ECDSA_WITH_SHA256: "ecdsa-with-SHA256",
    _OIDS.ECDSA_WITH_SHA384: "ecdsa-with-SHA384",
    _OIDS.ECDSA_WITH_SHA512: "ecdsa-with-SHA512",
    _OIDS.DSA_WITH_SHA1: "dsa-with-SHA1",
    _OIDS.DSA_WITH_SHA224: "dsa-with-SHA224",
    _OIDS.DSA_WITH_SHA256: "dsa-with-SHA256",
    _OIDS.ED25519: "ed25519",
    _OIDS.ED448: "ed448",
}
"""By object identifier: the names that OpenSSL prints too."""


def is_weakly_signed(certificate: Parsed) -> bool:
    """Whether its issuer signed it over MD5 or SHA-1, for which others can find the same digest."""
    return certificate.facts.signature in _WEAK_SIGNATURES


_WEAK_SIGNATURES = {
    "md5WithRSAEncryption",
    "sha1WithRSAEncryption",
    "ecdsa-with-SHA1",
    "dsa-with-SHA1",
    "rsassaPss-md5",
    "rsassaPss-sha1",
}

LEAST_RSA_BITS = 2048
"""NIST SP 800-57 part 1, table 2 (112 bits of strength); CA/Browser Forum baseline requirements, 6.1.5."""
LEAST_EC_BITS = 224
"""For the same 112 bits of strength."""


def has_weak_key(certificate: Parsed) -> bool:
    """Whether its key can be found out, or will be soon."""
    kind, _, size = certificate.facts.key.partition("-")
    if kind == "dsa":
        return True
    return size.isdigit() and int(size) < {"rsa": LEAST_RSA_BITS, "ec": LEAST_EC_BITS}[kind]
