"""Keys are made once, stay in the vault, and only what fits them is kept."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from regie.core.errors import Denied, InvalidInput, NotFound, Refused
from regie.core.tenant import SecretRef
from regie.gateway.keyring import Keyring
from regie.gateway.vault import VaultFile
from regie.kit.keys import Material, Part, SigningRequest
from regie.store.database import Database
from regie_sandbox.servers.authority import Authority

pytestmark = pytest.mark.slow

ORDER = "https://acme.example/order/1"
NAMES = ["www.example.test", "example.test"]


@pytest.fixture
def vault(tmp_path: Path) -> VaultFile:
    return VaultFile.create(tmp_path / "vault")


@pytest.fixture
def keyring(gateway_database: Database, vault: VaultFile) -> Keyring:
    return Keyring(gateway_database, vault, tenant="acme", domain="certificates")


class Signer(Authority):
    """Signs requests, as an authority does."""

    def sign(self, request: SigningRequest) -> str:
        asked = x509.load_der_x509_csr(request.der)
        now = datetime.now(UTC)  # noqa: TID251  certificates are of now
        issued = (
            x509.CertificateBuilder()
            .subject_name(asked.subject)
            .issuer_name(self.certificate.subject)
            .public_key(asked.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - timedelta(days=1))
            .not_valid_after(now + timedelta(days=89))
            .add_extension(asked.extensions.get_extension_for_class(x509.SubjectAlternativeName).value, critical=False)
            .sign(self._key, hashes.SHA256())
        )
        return issued.public_bytes(serialization.Encoding.PEM).decode() + self.pem


async def test_one_order_has_one_key_whoever_asks(database: Database, vault: VaultFile, tmp_path: Path) -> None:
    rings = [Keyring(database, VaultFile(vault.path), tenant="acme", domain="certificates") for _ in range(4)]
    asked = await asyncio.gather(*(ring.request(ORDER, NAMES, "ec-p256") for ring in rings))
    found = {
        x509.load_der_x509_csr(each.der)
        .public_key()
        .public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
        for each in asked
    }
    assert len(found) == 1
    assert len({each.certificate for each in asked}) == 1
    assert len(vault.names()) == 1


async def test_a_request_names_what_was_asked_for(keyring: Keyring) -> None:
    request = x509.load_der_x509_csr((await keyring.request(ORDER, NAMES, "ec-p384")).der)
    names = request.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.DNSName) == NAMES
    assert request.is_signature_valid
    key = request.public_key()
    assert isinstance(key, ec.EllipticCurvePublicKey)
    assert key.curve.name == "secp384r1"
    with pytest.raises(InvalidInput):
        await keyring.request(ORDER, ["łódź.example.test"], "ec-p256")


async def test_what_was_issued_is_kept_and_given_out_part_by_part(keyring: Keyring, vault: VaultFile) -> None:
    request = await keyring.request(ORDER, NAMES, "ec-p256")
    chain = Signer().sign(request)
    kept = await keyring.keep(request.certificate, chain, NAMES)
    assert kept == await keyring.keep(request.certificate, chain, NAMES) == await keyring.get(request.certificate)
    assert kept == await keyring.with_serial(kept.serial)
    assert kept.names == sorted(NAMES)
    assert kept.key == "ec-p256"

    async def part(which: Part) -> bytes:
        return await keyring.resolve(Material(kept.certificate, which))

    assert await part(Part.CHAIN) == chain.encode()
    assert await part(Part.CERTIFICATE) + await part(Part.INTERMEDIATES) == chain.encode()
    key = await part(Part.PRIVATE_KEY)
    assert key.startswith(b"-----BEGIN PRIVATE KEY-----")
    assert await part(Part.EVERYTHING) == chain.encode() + key
    assert (
        key.decode()
        == (await vault.get("acme", SecretRef(domain="certificates", name=_name(kept.certificate)))).reveal()
    )
    assert key.decode().splitlines()[1] not in repr((kept, request, keyring.__dict__))


async def test_a_wrong_chain_is_refused_and_nothing_is_kept(keyring: Keyring) -> None:
    request = await keyring.request(ORDER, NAMES, "ec-p256")
    other = await keyring.request(ORDER + "2", NAMES, "ec-p256")
    good = Signer().sign(request)
    certificate = good[: good.index("-----BEGIN", 10)]
    wrong = {
        "for another key": Signer().sign(other),
        "not led to the authority": certificate + Signer().pem,
        "in another order": Signer().pem + certificate,
        "no certificates": "hello",
        "nothing": "",
    }
    for chain in wrong.values():
        with pytest.raises(Refused):
            await keyring.keep(request.certificate, chain, NAMES)
        with pytest.raises(NotFound):
            await keyring.get(request.certificate)


async def test_a_certificate_for_other_names_is_refused(keyring: Keyring) -> None:
    request = await keyring.request(ORDER, NAMES, "ec-p256")
    for names in (NAMES[:1], [*NAMES, "more.example.test"], []):
        with pytest.raises(Refused):
            await keyring.keep(request.certificate, Signer().sign(request), names)


@pytest.mark.parametrize("part", [Part.EVERYTHING, Part.PRIVATE_KEY])
async def test_a_key_that_does_not_fit_any_more_is_not_handed_out(
    keyring: Keyring, vault: VaultFile, part: Part
) -> None:
    request = await keyring.request(ORDER, NAMES, "ec-p256")
    kept = await keyring.keep(request.certificate, Signer().sign(request), NAMES)
    other = await keyring.request(ORDER + "2", NAMES, "rsa-2048")
    secret = await vault.get("acme", SecretRef(domain="certificates", name=_name(other.certificate)))
    vault.put("acme", SecretRef(domain="certificates", name=_name(kept.certificate)), secret.reveal())
    with pytest.raises(Refused, match="another key"):
        await keyring.resolve(Material(kept.certificate, part))


async def test_a_second_certificate_for_an_order_is_refused(keyring: Keyring) -> None:
    request = await keyring.request(ORDER, NAMES, "ec-p256")
    signer = Signer()
    kept = await keyring.keep(request.certificate, signer.sign(request), NAMES)
    with pytest.raises(Refused):
        await keyring.keep(request.certificate, signer.sign(request), NAMES)
    assert await keyring.get(request.certificate) == kept


async def test_nobody_reaches_another_tenant_domain_or_secret(
    keyring: Keyring, database: Database, vault: VaultFile
) -> None:
    request = await keyring.request(ORDER, NAMES, "ec-p256")
    kept = await keyring.keep(request.certificate, Signer().sign(request), NAMES)
    vault.put("acme", SecretRef(domain="certificates", name="aws-key"), "a secret that is no certificate")
    for tenant, domain in (("globex", "certificates"), ("acme", "identity")):
        other = Keyring(database, vault, tenant=tenant, domain=domain)
        assert await other.with_serial(kept.serial) is None
        with pytest.raises(NotFound):
            await other.resolve(Material(kept.certificate, Part.PRIVATE_KEY))
    for reference in ("secret://certificates/aws-key", "secret://identity/certificate-1", "../vault", ""):
        with pytest.raises(NotFound):
            await keyring.resolve(Material(reference, Part.PRIVATE_KEY))


async def test_a_connection_without_an_account_has_no_thumbprint(keyring: Keyring) -> None:
    with pytest.raises(Denied):
        await keyring.thumbprint()


def _name(reference: str) -> str:
    return reference.rpartition("/")[2]
