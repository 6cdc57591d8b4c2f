"""Names of servers, as they are asked for."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from regie.core.errors import InvalidInput
from regie.kit.tls.names import ascii_name


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
