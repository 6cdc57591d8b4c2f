"""A certificate authority of one's own: for the servers beside it, and for certificates of any age and kind."""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

DAY = timedelta(days=1)


@dataclass(frozen=True)
class Issued:
    """A certificate with its key, as PEM; the chain leads to the authority, without it."""

    chain: str
    key: str

    @property
    def serial(self) -> str:
        """Lower-case hexadecimal."""
        return f"{x509.load_pem_x509_certificate(self.chain.encode()).serial_number:x}"

    def write(self, folder: Path, name: str) -> tuple[Path, Path]:
        """Write both as files."""
        chain, key = folder / f"{name}.pem", folder / f"{name}.key"
        chain.write_text(self.chain)
        key.write_text(self.key)
        key.chmod(0o600)
        return chain, key

    def write_bundle(self, folder: Path, name: str) -> Path:
        """Write both as one file."""
        pem_file = folder / f"{name}.pem"
        pem_file.write_text(self.chain + self.key)
        pem_file.chmod(0o600)
        return pem_file


class Authority:
    """Signs whatever a test asks for.

    Args:
        revoked_at: Address of its list of what it has revoked, for certificates to name; none without.
    """

    def __init__(
        self, name: str = "Authority of a test", key: ec.EllipticCurvePrivateKey | None = None, revoked_at: str = ""
    ) -> None:
        self._key = key or ec.generate_private_key(ec.SECP256R1())
        self._revoked_at = revoked_at
        self._name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        now = datetime.now(UTC)  # noqa: TID251  certificates are of now
        self.certificate = (
            x509.CertificateBuilder()
            .subject_name(self._name)
            .issuer_name(self._name)
            .public_key(self._key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - 3650 * DAY)
            .not_valid_after(now + 3650 * DAY)
            .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(self._key.public_key()), critical=False)
            .add_extension(_usage(signs=True), critical=True)
            .sign(self._key, hashes.SHA256())
        )

    @classmethod
    def kept(cls, file: Path, name: str, *, revoked_at: str = "") -> Authority:
        """The authority whose key is in a file; another certificate, of the same key and name, each time."""
        if not file.exists():
            file.write_text(_pem(ec.generate_private_key(ec.SECP256R1())))
            file.chmod(0o600)
        key = serialization.load_pem_private_key(file.read_bytes(), None)
        if not isinstance(key, ec.EllipticCurvePrivateKey):
            raise TypeError(f"{file} holds another kind of key.")
        return cls(name, key, revoked_at)

    @property
    def pem(self) -> str:
        """The authority's own certificate."""
        return self.certificate.public_bytes(serialization.Encoding.PEM).decode()

    def issue(
        self, names: Sequence[str], *, lifetime: timedelta = 90 * DAY, age: timedelta = timedelta(minutes=5)
    ) -> Issued:
        """Issue a certificate for names and addresses.

        Args:
            age: How long ago it was issued; longer than `lifetime`, and it has expired.
        """
        key = ec.generate_private_key(ec.SECP256R1())
        start = datetime.now(UTC) - age  # noqa: TID251  certificates are of now
        unsigned = (
            x509.CertificateBuilder()
            .subject_name(x509.Name([]))
            .issuer_name(self._name)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(start)
            .not_valid_after(start + lifetime)
            .add_extension(x509.SubjectAlternativeName([_general(name) for name in names]), critical=True)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
            .add_extension(_usage(signs=False), critical=True)
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key()), critical=False)
        )
        if self._revoked_at:
            place = x509.DistributionPoint([x509.UniformResourceIdentifier(self._revoked_at)], None, None, None)
            unsigned = unsigned.add_extension(x509.CRLDistributionPoints([place]), critical=False)
        signed = unsigned.sign(self._key, hashes.SHA256())
        return Issued(signed.public_bytes(serialization.Encoding.PEM).decode(), _pem(key))

    def revoked(self) -> bytes:
        """Its list of what it has revoked, which is nothing, in DER; good for a month."""
        now = datetime.now(UTC)  # noqa: TID251  lists are of now
        builder = x509.CertificateRevocationListBuilder().issuer_name(self._name)
        return (
            builder.last_update(now - DAY)
            .next_update(now + 30 * DAY)
            .sign(self._key, hashes.SHA256())
            .public_bytes(serialization.Encoding.DER)
        )


def _pem(key: ec.EllipticCurvePrivateKey) -> str:
    plain = serialization.NoEncryption()
    return key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, plain).decode()


def _general(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)


def _usage(*, signs: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=True,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=signs,
        crl_sign=signs,
        encipher_only=False,
        decipher_only=False,
    )
