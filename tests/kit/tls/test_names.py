"""Names of servers, and whom a certificate is for."""

from __future__ import annotations

import ipaddress

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from regie.core.errors import InvalidInput
from regie.kit.tls.names import ascii_name, is_for

LABEL = st.from_regex(r"[a-z0-9]([a-z0-9-]{0,10}[a-z0-9])?", fullmatch=True)
NAME = st.lists(LABEL, min_size=1, max_size=4).map(lambda labels: ".".join([*labels, "example"]))
ADDRESS = st.ip_addresses().map(str)


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("Example.COM.", "example.com"),
        ("bücher.example", "xn--bcher-kva.example"),
        ("BÜCHER.example", "xn--bcher-kva.example"),
        ("例え.テスト", "xn--r8jz45g.xn--zckzah"),
        ("_sip._tls.example.com", "_sip._tls.example.com"),
        ("intranet", "intranet"),
        ("192.0.2.7", "192.0.2.7"),
        ("[2001:DB8::1]", "2001:db8::1"),
    ],
)
def test_a_name_is_written_as_dns_writes_it(written: str, meant: str) -> None:
    assert ascii_name(written) == meant


@pytest.mark.parametrize(
    "written",
    ["", ".", "a..b", "a b.example", "exam/ple.com", "x" * 64 + ".example", "a." * 130, "\u2066.example", "a\r\nb"],
)
def test_what_is_no_name_is_refused(written: str) -> None:
    with pytest.raises(InvalidInput):
        ascii_name(written)


@settings(deadline=None)
@given(st.text(max_size=80))
def test_any_text_is_a_name_or_refused(text: str) -> None:
    try:
        found = ascii_name(text)
    except InvalidInput:
        return
    assert found.isascii()
    assert ascii_name(found) == found


@settings(deadline=None)
@given(NAME)
def test_a_certificate_is_for_its_own_name(name: str) -> None:
    assert is_for([name], name)
    assert is_for(["other.example", name.upper()], name)
    assert not is_for([], name)
    assert not is_for([f"x{name}"], name)


@settings(deadline=None)
@given(LABEL, NAME)
def test_a_wildcard_stands_for_exactly_one_label(first: str, rest: str) -> None:
    assert is_for([f"*.{rest}"], f"{first}.{rest}")
    assert not is_for([f"*.{rest}"], rest)
    assert not is_for([f"*.{rest}"], f"a.{first}.{rest}")
    assert not is_for([f"{first[0]}*.{rest}"], f"{first}.{rest}") or first[0] == "*"


def test_a_wildcard_is_not_for_everybody() -> None:
    assert not is_for(["*.com", "*", "*."], "example.com")
    assert not is_for(["*.*.com"], "www.example.com")


@settings(deadline=None)
@given(ADDRESS, NAME)
def test_an_address_is_met_by_an_address_only(address: str, name: str) -> None:
    assert is_for([name, address], address)
    assert is_for([ipaddress.ip_address(address).exploded], address)
    assert not is_for([f"*.{address.partition('.')[2]}", name], address)
    assert not is_for([address], name)
