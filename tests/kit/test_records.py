"""Records as people and servers write them."""

from __future__ import annotations

import dns.rdata
import pytest
from hypothesis import given
from hypothesis import strategies as st

from regie.core.errors import InvalidInput
from regie.kit.records import LONGEST_TEXT, meant, octal_name, plain, written, zone_of

texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=700)


@given(texts)
def test_a_zone_file_reads_back_what_was_meant(text: str) -> None:
    zone_file = dns.rdata.from_text("IN", "TXT", written("TXT", text))
    assert b"".join(zone_file.strings) == text.encode()  # type: ignore[attr-defined]  # a TXT record's own
    assert meant("TXT", zone_file.to_text()) == text
    assert all(len(piece) <= 255 for piece in zone_file.strings)  # type: ignore[attr-defined]  # a TXT record's own


@given(texts)
def test_route_53_reads_back_what_was_meant(text: str) -> None:
    assert meant("TXT", written("TXT", text, 8), 8) == text
    assert written("TXT", text, 8).isascii()


def test_octal_and_decimal_are_told_apart() -> None:
    assert written("TXT", "exämple", 8) == '"ex\\303\\244mple"'
    assert written("TXT", "exämple") == '"ex\\195\\164mple"'


def test_a_long_text_is_cut_into_pieces_and_any_pieces_mean_the_same() -> None:
    assert written("TXT", "a" * 300) == f'"{"a" * 255}" "{"a" * 45}"'
    assert meant("TXT", '"ab" "c d"') == meant("TXT", 'abc" d"') == "abc d"
    assert written("TXT", "") == '""'
    with pytest.raises(InvalidInput):
        written("TXT", "a" * (LONGEST_TEXT + 1))


@pytest.mark.parametrize(
    ("kind", "value", "writes"),
    [
        ("A", "192.0.2.1", "192.0.2.1"),
        ("AAAA", "2001:DB8:0::1", "2001:db8::1"),
        ("CNAME", "Target.Example.com", "Target.Example.com."),
        ("CNAME", "straße.example", "xn--strae-oqa.example."),
    ],
)
def test_a_value_is_written_as_servers_do(kind: str, value: str, writes: str) -> None:
    assert written(kind, value) == writes  # type: ignore[arg-type]  # from a table
    assert meant(kind, value) == meant(kind, writes)  # type: ignore[arg-type]  # from a table


@pytest.mark.parametrize(
    ("kind", "value"),
    [("A", "2001:db8::1"), ("AAAA", "192.0.2.1"), ("AAAA", "fe80::1%eth0"), ("A", "x"), ("CNAME", "a..b")],
)
def test_what_no_record_can_have_is_refused(kind: str, value: str) -> None:
    with pytest.raises(InvalidInput):
        written(kind, value)  # type: ignore[arg-type]  # from a table


def test_the_longest_zone_counts_and_only_whole_labels() -> None:
    zones = ["example.com", "Shop.example.com.", "ample.com"]
    assert zone_of("_acme-challenge.www.SHOP.example.com", zones) == "Shop.example.com."
    assert zone_of("example.com", zones) == "example.com"
    assert zone_of("myshop.example.com", zones) == "example.com"
    assert zone_of("example.org", zones) is None
    assert zone_of("bücher.example", ["xn--bcher-kva.example"]) == "xn--bcher-kva.example"


def test_names_are_compared_without_case_and_dot() -> None:
    assert plain("WWW.Bücher.example.") == "www.xn--bcher-kva.example"
    assert plain("*.example.com") == "*.example.com"


def test_names_of_route_53_are_read() -> None:
    assert plain(octal_name("\\052.Example.com.")) == "*.example.com"
    assert plain(octal_name("_acme-challenge.example.com.")) == "_acme-challenge.example.com"
