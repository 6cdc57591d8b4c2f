"""How protocols that begin in clear change to TLS, spoken with a script in the server's place."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from regie.core.capabilities.tls import StartTls
from regie.kit.tls.starttls import NotOffered, NotSpoken, start


class Script:
    """Says its lines, one after each of the client's; cut into pieces, as a network does."""

    def __init__(self, *lines: bytes, piece: int = 1000, greets: bool = False) -> None:
        self._lines = list(lines)
        self._piece = piece
        self._said = self._lines.pop(0) if greets else b""
        self.heard: list[bytes] = []

    async def send(self, content: bytes) -> None:
        self.heard.append(content)
        if self._lines:
            self._said += self._lines.pop(0)

    async def receive(self) -> bytes:
        said, self._said = self._said[: self._piece], self._said[self._piece :]
        return said


SMTP = (b"220-mail.example.test\r\n220 ESMTP\r\n", b"250-mail\r\n250-SIZE 1\r\n250 STARTTLS\r\n", b"220 go\r\n")
IMAP = (b"* OK ready\r\n", b"* CAPABILITY IMAP4rev1 STARTTLS AUTH=PLAIN\r\na1 OK\r\n", b"a2 OK begin\r\n")
POP3 = (b"+OK ready\r\n", b"+OK begin\r\n")
LDAP = (b"\x30\x0c\x02\x01\x01\x78\x07\x0a\x01\x00\x04\x00\x04\x00",)
LDAP_LONG = (b"\x30\x84\x00\x00\x00\x10\x02\x01\x01\x78\x84\x00\x00\x00\x07\x0a\x01\x00\x04\x00\x04\x00",)
POSTGRES = (b"S",)
XMPP_FEATURES = (
    b"<?xml version='1.0'?><stream:stream from='example.test'><stream:features>"
    b"<starttls xmlns='urn:ietf:params:xml:ns:xmpp-tls'><required/></starttls></stream:features>"
)
XMPP = (XMPP_FEATURES, b"<proceed xmlns='urn:ietf:params:xml:ns:xmpp-tls'/>")
TALKS: dict[StartTls, tuple[bytes, ...]] = {
    "smtp": SMTP,
    "imap": IMAP,
    "pop3": POP3,
    "ldap": LDAP,
    "postgres": POSTGRES,
    "xmpp": XMPP,
}
GREETS = {"smtp", "imap", "pop3"}


@pytest.mark.parametrize("piece", [1, 7, 1000])
@pytest.mark.parametrize("protocol", TALKS)
async def test_a_server_that_offers_it(protocol: StartTls, piece: int) -> None:
    script = Script(*TALKS[protocol], piece=piece, greets=protocol in GREETS)
    await start(protocol, script, "mail.example.test")
    assert script.heard


async def test_ldap_with_long_lengths() -> None:
    await start("ldap", Script(*LDAP_LONG), "ldap.example.test")


@pytest.mark.parametrize(
    ("protocol", "script"),
    [
        ("smtp", Script(SMTP[0], b"250-mail\r\n250 SIZE 1\r\n", greets=True)),
        ("smtp", Script(SMTP[0], b"250 XSTARTTLS\r\n", greets=True)),
        ("smtp", Script(*SMTP[:2], b"454 TLS not available\r\n", greets=True)),
        ("imap", Script(IMAP[0], b"* CAPABILITY IMAP4rev1\r\na1 OK\r\n", greets=True)),
        ("imap", Script(*IMAP[:2], b"a2 BAD\r\n", greets=True)),
        ("pop3", Script(POP3[0], b"-ERR what?\r\n", greets=True)),
        ("ldap", Script(LDAP[0].replace(b"\x0a\x01\x00", b"\x0a\x01\x02"))),
        ("postgres", Script(b"N")),
        ("xmpp", Script(b"<stream:stream><stream:features/>")),
        ("xmpp", Script(XMPP[0], b"<failure xmlns='urn:ietf:params:xml:ns:xmpp-tls'/>")),
    ],
)
async def test_a_server_that_does_not_offer_it(protocol: StartTls, script: Script) -> None:
    with pytest.raises(NotOffered):
        await start(protocol, script, "mail.example.test")


@pytest.mark.parametrize("protocol", TALKS)
@pytest.mark.parametrize("said", [b"", b"HTTP/1.1 400 Bad Request\r\n\r\n", b"\x16\x03\x01\x00\x01\x00", b"x" * 99_999])
async def test_a_server_that_speaks_something_else(protocol: StartTls, said: bytes) -> None:
    with pytest.raises(NotSpoken):
        await start(protocol, Script(said, said, said, greets=True), "mail.example.test")


@pytest.mark.parametrize("protocol", TALKS)
async def test_what_is_said_in_clear_behind_the_last_word_in_clear_is_refused(protocol: StartTls) -> None:
    *before, last = TALKS[protocol]
    script = Script(*before, last + b"250 this passes for something secured\r\n", greets=protocol in GREETS)
    with pytest.raises(NotSpoken):
        await start(protocol, script, "mail.example.test")


async def test_an_endless_reply_ends() -> None:
    with pytest.raises(NotSpoken):
        await start("smtp", Script(b"220-more\r\n" * 5000, greets=True), "mail.example.test")


@settings(deadline=None)
@given(st.sampled_from(sorted(TALKS)), st.lists(st.binary(max_size=200), max_size=4), st.integers(1, 50))
async def test_any_server_is_understood_or_refused(protocol: StartTls, said: list[bytes], piece: int) -> None:
    with contextlib.suppress(NotOffered, NotSpoken):
        await start(protocol, Script(b"", *said, piece=piece, greets=True), "mail.example.test")
