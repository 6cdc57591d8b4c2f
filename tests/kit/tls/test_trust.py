"""Where a presented chain leads."""

from __future__ import annotations

from datetime import timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from regie.core.capabilities.tls import Code
from regie.kit.tls.certificates import Parsed, parse
from regie.kit.tls.trust import LONGEST_PATH, Roots
from regie_sandbox.authority import BORN, Issued, Wanted, issue

NOW = BORN + timedelta(days=100)
NAMES = ("www.example.test",)

ROOT = issue(Wanted("Root", is_authority=True))
OTHER_ROOT = issue(Wanted("Other root", is_authority=True))
MIDDLE = issue(Wanted("Middle", is_authority=True), ROOT)
LEAF = issue(Wanted("leaf", NAMES), MIDDLE)


def parsed(*issued: Issued) -> list[Parsed]:
    return [parse(each.der) for each in issued]


def roots(*issued: Issued) -> Roots:
    return Roots(parsed(*issued))


def chain_of(depth: int) -> list[Issued]:
    """A root, so many authorities below it, and a leaf; the leaf first."""
    found = [issue(Wanted("Root of many", is_authority=True))]
    for number in range(depth):
        found.insert(0, issue(Wanted(f"Authority {number}", is_authority=True), found[0]))
    return [issue(Wanted("leaf", NAMES), found[0]), *found]


CHAINS = {depth: chain_of(depth) for depth in range(6)}
STRANGERS = [issue(Wanted(f"Stranger {number}", is_authority=number % 2 == 0)) for number in range(3)]


@settings(deadline=None)
@given(st.data(), st.sampled_from(sorted(CHAINS)), st.sampled_from([0, 1]))
def test_a_chain_is_followed_in_whatever_order_it_is_presented(data: st.DataObject, depth: int, kept: int) -> None:
    leaf, *rest = CHAINS[depth]
    authorities = rest[: len(rest) - kept]  # with the root, or without it
    presented = [leaf, *data.draw(st.permutations([*authorities, *STRANGERS]))]
    path = roots(rest[-1], OTHER_ROOT).path(parsed(*presented), NOW)
    assert path.fault is None
    assert [each.der for each in path.certificates] == [each.der for each in CHAINS[depth]]


@settings(deadline=None)
@given(st.data(), st.sampled_from([depth for depth in CHAINS if depth]))
def test_a_chain_without_one_of_its_authorities_leads_nowhere(data: st.DataObject, depth: int) -> None:
    leaf, *rest = CHAINS[depth]
    missing = data.draw(st.integers(0, depth - 1))
    presented = [leaf, *rest[:missing], *rest[missing + 1 : -1]]
    path = roots(rest[-1]).path(parsed(*presented), NOW)
    assert path.fault is (Code.CHAIN_INCOMPLETE if missing == 0 else Code.UNTRUSTED_ROOT)
    assert [each.der for each in path.certificates] == [each.der for each in [leaf, *rest[:missing]]]


def test_a_root_that_nobody_trusts() -> None:
    path = roots(OTHER_ROOT).path(parsed(LEAF, MIDDLE, ROOT), NOW)
    assert (path.fault, path.culprit) == (Code.UNTRUSTED_ROOT, parsed(ROOT)[0])


def test_an_authority_of_the_customer_may_be_trusted_without_its_root() -> None:
    assert roots(MIDDLE).path(parsed(LEAF), NOW).fault is None


def test_a_certificate_that_signed_itself() -> None:
    alone = issue(Wanted("alone", NAMES))
    assert roots(ROOT).path(parsed(alone), NOW).fault is Code.SELF_SIGNED
    assert roots(ROOT, alone).path(parsed(alone), NOW).fault is None


def test_the_time_of_the_leaf_is_another_question() -> None:
    for now in (BORN - timedelta(days=9), BORN + timedelta(days=9000)):
        assert roots(ROOT).path(parsed(LEAF, MIDDLE), now).fault is None


def test_an_authority_out_of_its_time() -> None:
    short = issue(Wanted("Short", is_authority=True, lifetime=timedelta(days=10)), ROOT)
    leaf = issue(Wanted("leaf", NAMES), short)
    path = roots(ROOT).path(parsed(leaf, short), NOW)
    assert (path.fault, path.culprit) == (Code.EXPIRED, parsed(short)[0])
    later = issue(Wanted("Later", is_authority=True, born=NOW + timedelta(days=1)), ROOT)
    path = roots(ROOT).path(parsed(issue(Wanted("leaf", NAMES), later), later), NOW)
    assert path.fault is Code.NOT_YET_VALID


def test_who_may_not_sign() -> None:
    wrong = {
        "no authority": issue(Wanted("No authority"), ROOT),
        "other names": issue(Wanted("Elsewhere", is_authority=True, permitted=("elsewhere.test",)), ROOT),
    }
    for middle in wrong.values():
        path = roots(ROOT).path(parsed(issue(Wanted("leaf", NAMES), middle), middle), NOW)
        assert path.fault is Code.CHAIN_INVALID
        assert path.cause.startswith("openssl-")
    last = issue(Wanted("Last", is_authority=True, path_length=0), ROOT)
    below = issue(Wanted("Below", is_authority=True), last)
    path = roots(ROOT).path(parsed(issue(Wanted("leaf", NAMES), below), below, last), NOW)
    assert path.fault is Code.CHAIN_INVALID


def test_a_forged_signature() -> None:
    pretender = Issued(MIDDLE.certificate, issue(Wanted("x")).key)
    forged = issue(Wanted("leaf", NAMES), pretender)
    path = roots(ROOT).path(parsed(forged, MIDDLE), NOW)
    assert path.fault in {Code.CHAIN_INVALID, Code.CHAIN_INCOMPLETE}


def test_authorities_in_a_circle_end() -> None:
    one = issue(Wanted("One", is_authority=True), OTHER_ROOT)
    ring = [one]
    for number in range(LONGEST_PATH + 3):
        ring.append(issue(Wanted(f"Ring {number}", is_authority=True), ring[-1]))
    path = roots(ROOT).path(parsed(*reversed(ring)), NOW)
    assert path.fault is not None
    assert len(path.certificates) == LONGEST_PATH


@pytest.mark.parametrize("count", [1, 2])
def test_the_same_certificate_twice_does_not_confuse(count: int) -> None:
    assert roots(ROOT).path(parsed(LEAF, *[LEAF, MIDDLE] * count), NOW).fault is None


def test_a_chain_is_judged_for_its_own_moment_whatever_was_judged_before() -> None:
    trusted = roots(ROOT)
    later = issue(Wanted("later", NAMES, NOW + timedelta(days=10), timedelta(days=90)), MIDDLE)
    assert trusted.path(parsed(LEAF, MIDDLE), NOW).fault is None
    assert trusted.path(parsed(later, MIDDLE), NOW + timedelta(days=11)).fault is None
    short = issue(Wanted("Short", is_authority=True, lifetime=timedelta(days=150)), ROOT)
    long = issue(Wanted("long", NAMES, lifetime=timedelta(days=300)), short)
    assert trusted.path(parsed(long, short), NOW).fault is None
    assert trusted.path(parsed(long, short), NOW + timedelta(days=100)).fault is Code.EXPIRED
