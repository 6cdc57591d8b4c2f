"""What authorities say about revocation, and when that counts."""

from __future__ import annotations

from datetime import timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509 import ocsp
from cryptography.x509.oid import ExtendedKeyUsageOID
from hypothesis import given, settings
from hypothesis import strategies as st

from regie.kit.tls.certificates import parse
from regie.kit.tls.revocation import (
    SKEW,
    NotCredible,
    crl_addresses,
    is_short_lived,
    ocsp_addresses,
    ocsp_question,
    read_crl,
    read_ocsp,
)
from regie_sandbox.authority import BORN, Issued, Wanted, issue, ocsp_answer, revoked_list

NOW = BORN + timedelta(days=100)
HOUR = timedelta(hours=1)
OCSP, CRL = "http://ocsp.example.test", "http://crl.example.test/1.crl"
ROOT = issue(Wanted("Root", is_authority=True))
LEAF = issue(Wanted("leaf", ("www.example.test",), ocsp=OCSP, crl=CRL), ROOT)
SIBLING = issue(Wanted("sibling"), ROOT)
OTHER = issue(Wanted("Root", is_authority=True))
"""Another authority with the same name."""
SIGNER = Wanted("signer", usage=(ExtendedKeyUsageOID.OCSP_SIGNING,))
REVOKED = ocsp.OCSPCertStatus.REVOKED


def read(answer: bytes, of: Issued = LEAF) -> str:
    try:
        verdict = read_ocsp(answer, parse(of.der), parse(of.signer.der), NOW)
    except NotCredible as error:
        return error.cause
    return f"{verdict.state} {verdict.reason}".rstrip()


def listed(content: bytes, of: Issued = LEAF, address: str = CRL) -> str:
    try:
        verdict = read_crl(content, address, parse(of.signer.der), NOW).verdict(parse(of.der))
    except NotCredible as error:
        return error.cause
    return f"{verdict.state} {verdict.reason}".rstrip()


def test_where_to_ask() -> None:
    assert ocsp_addresses(parse(LEAF.der)) == [OCSP]
    assert crl_addresses(parse(LEAF.der)) == [CRL]
    assert ocsp_addresses(parse(ROOT.der)) == crl_addresses(parse(ROOT.der)) == []
    elsewhere = issue(Wanted("leaf", ocsp="https://ocsp.example.test", crl="ldap://crl.example.test"), ROOT)
    assert ocsp_addresses(parse(elsewhere.der)) == crl_addresses(parse(elsewhere.der)) == []


def test_a_question_names_the_certificate() -> None:
    asked = ocsp.load_der_ocsp_request(ocsp_question(parse(LEAF.der), parse(ROOT.der)))
    assert asked.serial_number == LEAF.certificate.serial_number


def test_what_a_responder_says() -> None:
    assert read(ocsp_answer(LEAF, now=NOW)) == "good"
    assert read(ocsp_answer(LEAF, now=NOW, status=REVOKED)) == "revoked"
    held = ocsp_answer(LEAF, now=NOW, status=REVOKED, reason=x509.ReasonFlags.certificate_hold)
    assert read(held) == "revoked certificateHold"
    assert read(ocsp_answer(LEAF, now=NOW, status=ocsp.OCSPCertStatus.UNKNOWN)) == "unknown_to_authority"
    refusal = ocsp.OCSPResponseBuilder.build_unsuccessful(ocsp.OCSPResponseStatus.TRY_LATER)
    assert read(refusal.public_bytes(Encoding.DER)) == "refused"


def test_whose_answer_counts() -> None:
    signer = issue(SIGNER, ROOT)
    assert read(ocsp_answer(LEAF, now=NOW, signed_by=signer, delegate=signer)) == "good"
    assert read(ocsp_answer(LEAF, now=NOW, signed_by=signer)) == "signature"
    assert read(ocsp_answer(LEAF, now=NOW, signed_by=OTHER, delegate=OTHER)) == "signature"
    not_for_it = issue(Wanted("leaf"), ROOT)
    assert read(ocsp_answer(LEAF, now=NOW, signed_by=not_for_it, delegate=not_for_it)) == "signature"
    by_another = issue(SIGNER, OTHER)
    assert read(ocsp_answer(LEAF, now=NOW, signed_by=by_another, delegate=by_another)) == "signature"
    past = issue(Wanted("signer", usage=SIGNER.usage, lifetime=timedelta(days=9)), ROOT)
    assert read(ocsp_answer(LEAF, now=NOW, signed_by=past, delegate=past)) == "signature"


def test_an_answer_about_another_certificate() -> None:
    assert read(ocsp_answer(SIBLING, now=NOW)) == "other_certificate"
    same_serial = Issued(LEAF.certificate, LEAF.key, OTHER)
    assert read(ocsp_answer(same_serial, now=NOW)) == "other_certificate"


@settings(deadline=None)
@given(st.timedeltas(min_value=timedelta(days=-30), max_value=timedelta(days=30)))
def test_an_answer_counts_while_it_holds(age: timedelta) -> None:
    holds = timedelta(days=3)
    made = NOW - timedelta(seconds=int(age.total_seconds()))
    expected = "good" if NOW - holds <= made <= NOW + SKEW else "outdated"
    assert read(ocsp_answer(LEAF, now=made, holds_for=holds)) == expected
    assert listed(revoked_list(ROOT, [], now=made, holds_for=holds)) == expected


def test_an_answer_without_an_end_is_kept_for_a_while() -> None:
    answer = ocsp_answer(LEAF, now=NOW - HOUR, holds_for=None)
    assert NOW < read_ocsp(answer, parse(LEAF.der), parse(ROOT.der), NOW).until <= NOW + HOUR


def test_what_a_list_says() -> None:
    assert listed(revoked_list(ROOT, [SIBLING], now=NOW)) == "good"
    assert listed(revoked_list(ROOT, [SIBLING, LEAF], now=NOW)) == "revoked keyCompromise"
    as_text = x509.load_der_x509_crl(revoked_list(ROOT, [LEAF], now=NOW)).public_bytes(Encoding.PEM)
    assert listed(as_text) == "revoked keyCompromise"


def test_whose_list_counts() -> None:
    assert listed(revoked_list(ROOT, [], now=NOW, signed_with=OTHER)) == "signature"
    assert listed(revoked_list(SIBLING, [], now=NOW)) == "other_issuer"


def test_a_part_of_a_list_says_nothing_of_the_others() -> None:
    assert listed(revoked_list(ROOT, [], now=NOW, covers=CRL)) == "good"
    assert listed(revoked_list(ROOT, [], now=NOW, covers="http://crl.example.test/2.crl")) == "partial"


@settings(deadline=None)
@given(st.binary(max_size=400))
def test_any_bytes_are_an_answer_or_do_not_count(content: bytes) -> None:
    assert read(content) == "unreadable"
    assert listed(content) == "unreadable"


GOOD, LIST = ocsp_answer(LEAF, now=NOW), revoked_list(ROOT, [], now=NOW)


def signed_in_answer(content: bytes) -> tuple[bytes, bytes]:
    answer = ocsp.load_der_ocsp_response(content)
    return answer.tbs_response_bytes, answer.signature


def signed_in_list(content: bytes) -> tuple[bytes, bytes]:
    found = x509.load_der_x509_crl(content)
    return found.tbs_certlist_bytes, found.signature


# A changed length of a name is remarked on by the library that reads it.
@pytest.mark.filterwarnings("ignore:Attribute's length must be")
@settings(deadline=None)
@given(st.integers(min_value=0), st.integers(1, 255))
def test_a_changed_answer_never_says_good(place: int, change: int) -> None:
    for content, how, signed in ((GOOD, read, signed_in_answer), (LIST, listed, signed_in_list)):
        changed = bytearray(content)
        changed[place % len(content)] ^= change
        if how(bytes(changed)) == "good":
            # As where a bit string says how many bits of its last byte count: that is neither signed nor the signature.
            assert signed(bytes(changed)) == signed(content)


def test_short_lives() -> None:
    assert is_short_lived(parse(issue(Wanted("short", lifetime=timedelta(days=6)), ROOT).der))
    assert not is_short_lived(parse(issue(Wanted("long", lifetime=timedelta(days=45)), ROOT).der))
