"""Private keys and the certificates issued for them: made, used and kept here, in the gateway's process and its vault.

Implementations name them through `kit.keys.Keys`; what they pass on unread is filled in by `resolve`.
"""

from __future__ import annotations

import asyncio
import hashlib
import itertools
from collections.abc import Sequence

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.asymmetric.types import CertificatePublicKeyTypes

from regie.core.capabilities.certificate import KeptCertificate, KeyKind
from regie.core.errors import Denied, InvalidInput, NotFound, Refused
from regie.core.tenant import SecretRef
from regie.gateway.acme_account import AccountKey
from regie.gateway.vault import SecretMaker, SecretText
from regie.kit.keys import Material, Part, SigningRequest
from regie.kit.tls.certificates import parse
from regie.store import certificates
from regie.store.database import Database

_PLANNED = "certificate-planned"
PrivateKey = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey
_CURVES = {"ec-p256": ec.SECP256R1, "ec-p384": ec.SECP384R1}
_SIZES = {"rsa-2048": 2048, "rsa-3072": 3072, "rsa-4096": 4096}


class Keyring:
    """The keys of one tenant in one domain; see `kit.keys.Keys`.

    Args:
        account: The key of the connection's ACME account; none where it has no account.
    """

    def __init__(
        self,
        database: Database,
        vault: SecretMaker,
        *,
        tenant: str,
        domain: str,
        account: AccountKey | None = None,
    ) -> None:
        self._database = database
        self._vault = vault
        self._tenant = tenant
        self._domain = domain
        self._account = account

    async def reference(self, order: str) -> str:
        """The reference of an order's certificate. See `kit.keys.Keys`."""
        if not order:
            return str(SecretRef(domain=self._domain, name=_PLANNED))
        return str(
            SecretRef(domain=self._domain, name=f"certificate-{hashlib.sha256(order.encode()).hexdigest()[:32]}")
        )

    async def request(self, order: str, names: Sequence[str], kind: KeyKind) -> SigningRequest:
        """Have a key sign a request. See `kit.keys.Keys`."""
        certificate = await self.reference(order)
        value = await self._vault.make(self._tenant, self._own(certificate), lambda: _to_pem(_new_key(kind)))
        return SigningRequest(certificate, await asyncio.to_thread(_signed_request, value, names))

    async def keep(self, certificate: str, chain_pem: str, names: Sequence[str]) -> KeptCertificate:
        """Keep an issued chain. See `kit.keys.Keys`."""
        key = await self._key(certificate)
        chain = read_chain(chain_pem)
        _check_chain(chain, key, names)
        found = certificates.Certificate(
            tenant=self._tenant,
            domain=self._domain,
            reference=certificate,
            serial=serial_of(chain[0]),
            chain=_pem(chain),
            not_after=chain[0].not_valid_after_utc,
        )
        async with self._database.transaction(self._tenant) as tx:
            kept = await certificates.keep(tx, found)
        if kept.serial != found.serial:
            raise Refused("another certificate is kept for that order already", status=409, code="kept")
        return _described(kept)

    async def get(self, certificate: str) -> KeptCertificate:
        """A kept certificate. See `kit.keys.Keys`."""
        if self._own(certificate).name == _PLANNED:
            return KeptCertificate(certificate=certificate, serial="planned", names=[])
        return _described(await self._kept(certificate))

    async def with_serial(self, serial: str) -> KeptCertificate | None:
        """The kept certificate with a serial. See `kit.keys.Keys`."""
        async with self._database.reading(self._tenant) as tx:
            found = await certificates.with_serial(tx, self._tenant, self._domain, serial)
        return _described(found) if found else None

    async def thumbprint(self) -> str:
        """Of the account key. See `kit.keys.Keys`."""
        if self._account is None:
            raise Denied("the connection has no account at an authority")
        return (await self._account.key()).thumbprint

    async def resolve(self, material: Material) -> bytes:
        """The bytes that a material stands for. For accesses only, which are on the gateway's side.

        Raises:
            NotFound: No such certificate is kept.
            Refused: The key in the vault does not fit the certificate any more.
        """
        kept = await self._kept(material.certificate)
        chain = read_chain(kept.chain)
        match material.part:
            case Part.CERTIFICATE:
                return _pem(chain[:1]).encode()
            case Part.INTERMEDIATES:
                return _pem(chain[1:]).encode()
            case Part.CHAIN:
                return kept.chain.encode()
            case Part.PRIVATE_KEY:
                return (await self._fitting_key(material.certificate, chain)).encode()
            case Part.EVERYTHING:
                return kept.chain.encode() + (await self._fitting_key(material.certificate, chain)).encode()

    async def _fitting_key(self, certificate: str, chain: Sequence[x509.Certificate]) -> str:
        """The private key as PEM.

        A pair that does not fit is not for a server to find out, be it in one file or in two: nginx 1.22 loads an EC
        certificate with an RSA key, and then no handshake comes about.
        """
        key = await self._key(certificate)
        _check_chain(chain, key, _names(chain[0]))
        return _to_pem(key)

    async def _kept(self, certificate: str) -> certificates.Certificate:
        self._own(certificate)
        async with self._database.reading(self._tenant) as tx:
            found = await certificates.find(tx, self._tenant, self._domain, certificate)
        if found is None:
            raise NotFound(f"no certificate is kept as {certificate}")
        return found

    async def _key(self, certificate: str) -> PrivateKey:
        return _read_key(await self._vault.get(self._tenant, self._own(certificate)))

    def _own(self, certificate: str) -> SecretRef:
        """The reference of a certificate of this domain; another domain's, or another secret, is nobody's to name."""
        try:
            found = SecretRef.parse(certificate)
        except ValueError:
            found = None
        if (
            not isinstance(found, SecretRef)
            or found.domain != self._domain
            or not found.name.startswith("certificate-")
        ):
            raise NotFound(f"{certificate!r} names no certificate of the domain {self._domain}")
        return found


def read_chain(pem: str) -> list[x509.Certificate]:
    """The certificates of a chain, in order.

    Raises:
        Refused: It is no chain.
    """
    try:
        return x509.load_pem_x509_certificates(pem.encode())
    except ValueError:
        raise Refused("what was issued is no chain of certificates", status=200, code="wrong-chain") from None


def serial_of(certificate: x509.Certificate) -> str:
    """Its serial as we write serials."""
    return f"{certificate.serial_number:x}"


def _new_key(kind: KeyKind) -> PrivateKey:
    if kind in _CURVES:
        return ec.generate_private_key(_CURVES[kind]())
    return rsa.generate_private_key(public_exponent=65537, key_size=_SIZES[kind])


def _to_pem(key: PrivateKey) -> str:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    ).decode()


def _read_key(value: SecretText) -> PrivateKey:
    key = serialization.load_pem_private_key(value.reveal().encode(), password=None)
    if not isinstance(key, ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey):
        raise Refused("a kept key is of a kind that we do not make", status=0, code="wrong-key")
    return key


def _signed_request(value: SecretText, names: Sequence[str]) -> bytes:
    try:
        names_in = x509.SubjectAlternativeName([x509.DNSName(name) for name in names])
        # No common name: the names count, and one longer than 64 characters does not fit into it.
        builder = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([])).add_extension(names_in, False)
        return builder.sign(_read_key(value), hashes.SHA256()).public_bytes(serialization.Encoding.DER)
    except ValueError:
        raise InvalidInput("one of the names cannot stand in a certificate") from None


def _check_chain(chain: Sequence[x509.Certificate], key: PrivateKey, names: Sequence[str]) -> None:
    """Refuse a chain that could not be served for the names.

    Raises:
        Refused: Its first certificate is for another key or other names, or one is not signed by the next.
    """
    if _spki(chain[0].public_key()) != _spki(key.public_key()):
        raise Refused("what was issued is for another key than ours", status=200, code="wrong-chain")
    if set(_names(chain[0])) != {name.lower() for name in names}:
        raise Refused("what was issued is for other names than those asked for", status=200, code="wrong-names")
    for lower, upper in itertools.pairwise(chain):
        try:
            lower.verify_directly_issued_by(upper)
        except (InvalidSignature, ValueError, TypeError):
            raise Refused(
                "what was issued is no chain: one does not lead to the next", status=200, code="wrong-chain"
            ) from None


def _spki(key: CertificatePublicKeyTypes) -> bytes:
    return key.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)


def _pem(chain: Sequence[x509.Certificate]) -> str:
    return "".join(each.public_bytes(serialization.Encoding.PEM).decode() for each in chain)


def _described(kept: certificates.Certificate) -> KeptCertificate:
    own = parse(read_chain(kept.chain)[0].public_bytes(serialization.Encoding.DER))
    return KeptCertificate(
        certificate=kept.reference,
        serial=kept.serial,
        names=sorted(_names(own.x509)),
        issuer=own.issuer_name,
        authority_key=own.facts.authority_key,
        not_before=own.facts.not_before,
        not_after=own.facts.not_after,
        key=own.facts.key,
    )


def _names(certificate: x509.Certificate) -> list[str]:
    try:
        found = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName)
    except x509.ExtensionNotFound:
        return []
    return [name.lower() for name in found.value.get_values_for_type(x509.DNSName)]
