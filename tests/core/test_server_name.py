"""Whom a certificate is for."""

from __future__ import annotations

import ipaddress

from hypothesis import given, settings
from hypothesis import strategies as st

from regie.core.server_name import is_for

LABEL = st.from_regex(r"[a-z0-9]([a-z0-9-]{0,10}[a-z0-9])?", fullmatch=True)
NAME = st.lists(LABEL, min_size=1, max_size=4).map(lambda labels: ".".join([*labels, "example"]))
ADDRESS = st.ip_addresses().map(str)


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
