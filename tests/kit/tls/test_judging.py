"""What certificates say, and what is wrong with them."""

from __future__ import annotations

import base64
import contextlib
from datetime import datetime, timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import dsa, ec, ed448, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding, pkcs7
from cryptography.x509.oid import ExtendedKeyUsageOID
from hypothesis import given, settings
from hypothesis import strategies as st
from OpenSSL import crypto

from regie.core.capabilities.tls import Code, Endpoint, Severity
from regie.core.errors import InvalidInput
from regie.kit.tls.certificates import LARGEST_FILE, Parsed, Unreadable, parse, parse_file
from regie.kit.tls.judging import found, inspection, judge, summed_up, worst_first
from regie.kit.tls.trust import Roots
from regie_sandbox.authority import BORN, LIFETIME, Issued, Key, Wanted, issue

NOW = BORN + timedelta(days=100)
NAME = "www.example.test"
NAMES = (NAME,)
ROOT = issue(Wanted("Root", is_authority=True))
MIDDLE = issue(Wanted("Middle", is_authority=True), ROOT)
LEAF = issue(Wanted("leaf", (NAME, "192.0.2.7", "*.example.test", "xn--bcher-kva.example.test")), MIDDLE)


def codes(*presented: Issued, wanted: str = NAME, now: datetime = NOW, protocol: str = "TLSv1.3") -> list[str]:
    certificates = [parse(each.der) for each in presented]
    path = Roots([parse(ROOT.der)]).path(certificates, now)
    found = judge(certificates, path, wanted=wanted, protocol=protocol, now=now)
    return [f"{each.code}/{each.certificate}" for each in worst_first(found)]


def weakly_signed(issued: Issued, digest: str) -> Parsed:
    """The same certificate with a signature that `cryptography` makes no more."""
    certificate = crypto.X509.from_cryptography(issued.certificate)
    signer = crypto.PKey.from_cryptography_key(issued.signer.key)
    with pytest.deprecated_call():  # it can do what nobody should
        certificate.sign(signer, digest)
    return parse(crypto.dump_certificate(crypto.FILETYPE_ASN1, certificate))


def test_a_certificate_in_our_words() -> None:
    facts = parse(LEAF.der).facts
    assert facts.subject == "CN=leaf"
    assert facts.issuer == "CN=Middle"
    assert facts.serial == f"{LEAF.certificate.serial_number:x}"
    assert facts.sha256 == LEAF.certificate.fingerprint(hashes.SHA256()).hex()
    assert facts.names == [NAME, "192.0.2.7", "*.example.test", "xn--bcher-kva.example.test"]
    assert (facts.not_before, facts.not_after) == (BORN, BORN + LIFETIME)
    assert facts.model_dump(mode="json")["not_after"] == "2035-12-30T00:00:00Z"
    assert (facts.key, facts.signature) == ("ec-p256", "ecdsa-with-SHA256")
    own = MIDDLE.certificate.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
    assert facts.authority_key == own.digest.hex()


KEYS: dict[str, tuple[Key, bool]] = {
    "rsa-2048": (rsa.generate_private_key(65537, 2048), False),
    "rsa-1024": (rsa.generate_private_key(65537, 1024), True),  # noqa: S505  it shall be found
    "ec-p224": (ec.generate_private_key(ec.SECP224R1()), False),
    "ec-p384": (ec.generate_private_key(ec.SECP384R1()), False),
    "ec-p521": (ec.generate_private_key(ec.SECP521R1()), False),
    "ec-256": (ec.generate_private_key(ec.SECP256K1()), False),
    "ed25519": (ed25519.Ed25519PrivateKey.generate(), False),
    "ed448": (ed448.Ed448PrivateKey.generate(), False),
    "dsa-2048": (dsa.generate_private_key(2048), True),
}


@pytest.mark.parametrize("kind", KEYS)
def test_kinds_of_keys(kind: str) -> None:
    key, is_weak = KEYS[kind]
    leaf = issue(Wanted("leaf", NAMES, key=key), MIDDLE)
    assert parse(leaf.der).facts.key == kind
    assert codes(leaf, MIDDLE) == (["weak_key/0"] if is_weak else [])


def test_nothing_is_wrong() -> None:
    assert codes(LEAF, MIDDLE) == []
    assert codes(LEAF, MIDDLE, wanted="192.0.2.7") == []
    assert codes(LEAF, MIDDLE, wanted="") == []
    assert codes(issue(Wanted("leaf", NAMES, usage=()), MIDDLE), MIDDLE) == []


@pytest.mark.parametrize(
    ("moment", "expected"),
    [
        (BORN - timedelta(seconds=1), ["not_yet_valid/0"]),
        (BORN, []),
        (BORN + LIFETIME, []),
        (BORN + LIFETIME + timedelta(seconds=1), ["expired/0"]),
    ],
)
def test_lifetimes(moment: datetime, expected: list[str]) -> None:
    assert codes(LEAF, MIDDLE, now=moment) == expected


def test_names() -> None:
    assert codes(LEAF, MIDDLE, wanted="www.example.com") == ["name_mismatch/0"]
    assert codes(LEAF, MIDDLE, wanted="192.0.2.8") == ["name_mismatch/0"]
    # The common name counts for no client of today.
    assert codes(issue(Wanted(NAME), MIDDLE), MIDDLE) == ["name_mismatch/0"]


def test_chains() -> None:
    assert codes(LEAF) == ["chain_incomplete/0"]
    assert codes(issue(Wanted("leaf", NAMES))) == ["self_signed/0"]
    other = issue(Wanted("Other", is_authority=True))
    assert codes(issue(Wanted("leaf", NAMES), other), other) == ["untrusted_root/1"]
    short = issue(Wanted("Short", is_authority=True, lifetime=timedelta(days=1)), ROOT)
    assert codes(issue(Wanted("leaf", NAMES), short), short) == ["expired/1"]


def test_purposes() -> None:
    for_clients = Wanted("leaf", NAMES, usage=(ExtendedKeyUsageOID.CLIENT_AUTH,))
    assert codes(issue(for_clients, MIDDLE), MIDDLE) == ["wrong_purpose/0"]
    for_all = Wanted("leaf", NAMES, usage=(ExtendedKeyUsageOID.ANY_EXTENDED_KEY_USAGE,))
    assert codes(issue(for_all, MIDDLE), MIDDLE) == []


@pytest.mark.parametrize("protocol", ["TLSv1", "TLSv1.1", "SSLv3"])
def test_old_protocols(protocol: str) -> None:
    assert codes(LEAF, MIDDLE, protocol=protocol) == ["old_protocol/None"]
    assert codes(LEAF, MIDDLE, protocol="TLSv1.2") == []


@pytest.mark.parametrize("digest", ["md5", "sha1"])
def test_weak_signatures(digest: str) -> None:
    root = issue(Wanted("Weak root", is_authority=True, key=KEYS["rsa-2048"][0]))
    leaf = weakly_signed(issue(Wanted("leaf", NAMES), root), digest)
    self_made = weakly_signed(root, digest)
    presented = [leaf, self_made]
    path = Roots([self_made]).path(presented, NOW)
    assert path.fault is None
    told = judge(presented, path, wanted=NAME, protocol="", now=NOW)
    # The signature that a root made over itself says nothing.
    assert [(each.code, each.certificate, each.cause) for each in told] == [
        (Code.WEAK_SIGNATURE, 0, f"{digest}WithRSAEncryption")
    ]
    # An old signature does not hide whose it is.
    assert len(Roots([]).path(presented, NOW).certificates) == 2


def test_every_code_has_its_severity_and_the_worst_comes_first() -> None:
    order: list[Severity] = ["high", "medium", "low", "info"]
    told = worst_first([found(code, "text") for code in reversed(Code)])
    assert [each.code for each in told] == list(Code)
    ranks = [order.index(each.severity) for each in told]
    assert ranks == sorted(ranks)


def test_a_summary_is_small_and_says_the_worst() -> None:
    certificates = [parse(LEAF.der), parse(MIDDLE.der)]
    told = [found(Code.OLD_PROTOCOL, "text", cause="TLSv1"), found(Code.EXPIRED, "text"), found(Code.EXPIRED, "text")]
    inspected = inspection(Endpoint(host="192.0.2.7"), told, certificates, address="192.0.2.7", protocol="TLSv1")
    assert inspected.server_name == "192.0.2.7"
    assert [each.serial for each in inspected.chain] == [each.facts.serial for each in certificates]
    summary = summed_up(inspected)
    assert summary.findings == ["expired", "old_protocol:TLSv1"]
    assert (summary.severity, summary.serial) == ("high", certificates[0].facts.serial)
    assert len(summary.model_dump_json()) < 500


PKCS7 = pkcs7.serialize_certificates([LEAF.certificate, MIDDLE.certificate], Encoding.DER)


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (LEAF.der, [LEAF]),
        (LEAF.pem, [LEAF]),
        (b"Some words.\r\n" + LEAF.pem.replace(b"\n", b"\r\n") + LEAF.key_pem + MIDDLE.pem + b"more", [LEAF, MIDDLE]),
        (LEAF.pem.replace(b"CERTIFICATE", b"X509 CERTIFICATE"), [LEAF]),
        (PKCS7, [LEAF, MIDDLE]),
        (pkcs7.serialize_certificates([LEAF.certificate, MIDDLE.certificate], Encoding.PEM), [LEAF, MIDDLE]),
    ],
)
def test_forms_of_files(content: bytes, expected: list[Issued]) -> None:
    assert {each.der for each in parse_file(content)} == {each.der for each in expected}


@pytest.mark.parametrize(
    "content",
    [
        b"",
        LEAF.key_pem,
        LEAF.der[:-1],
        PKCS7[:-1],
        b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----",
        b"-----BEGIN CERTIFICATE-----\n" + base64.b64encode(LEAF.der)[:-9] + b"\n-----END CERTIFICATE-----",
        b"-----BEGIN CERTIFICATE-----",
        b" " * (LARGEST_FILE + 1),
    ],
)
def test_files_without_a_certificate_are_refused(content: bytes) -> None:
    with pytest.raises(InvalidInput):
        parse_file(content)


@settings(deadline=None)
@given(st.binary(max_size=300) | st.binary(max_size=100).map(lambda some: LEAF.der[:100] + some + LEAF.der[200:]))
def test_any_bytes_are_a_certificate_or_refused(content: bytes) -> None:
    with contextlib.suppress(Unreadable):
        parse(content)
    with contextlib.suppress(InvalidInput):
        parse_file(content)


@settings(deadline=None)
@given(st.integers(0, len(LEAF.der) - 1), st.integers(1, 255))
def test_a_changed_certificate_is_read_or_refused_and_never_the_same(place: int, change: int) -> None:
    changed = bytearray(LEAF.der)
    changed[place] ^= change
    try:
        read = parse(bytes(changed))
    except Unreadable:
        return
    assert read.facts.sha256 != parse(LEAF.der).facts.sha256
    path = Roots([parse(ROOT.der)]).path([read, parse(MIDDLE.der)], NOW)
    assert path.fault is not None
