"""How protocols that begin in clear change to TLS. Each speaks over a wire: anything that sends and receives bytes."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Mapping
from typing import Protocol

from regie.core.capabilities.tls import StartTls

LONGEST_LINE = 8192
"""Bytes of a line; RFC 5321 and its kin allow 1,000 or fewer."""
MOST_LINES = 100
"""Lines of one reply."""
LONGEST_STANZA = 65536
"""Bytes of what an XMPP server tells about itself."""


class Wire(Protocol):
    """A connection in clear. What comes in is read no further than asked, so that nothing of TLS is lost."""

    async def send(self, content: bytes) -> None:
        """Send all of it."""
        ...

    async def receive(self) -> bytes:
        """One or more bytes; none at the end."""
        ...


class NotOffered(Exception):
    """The other side speaks the protocol and does not want to change to TLS."""


class NotSpoken(Exception):
    """The other side does not speak the protocol."""


class _Talk:
    """Reads from a wire by lines, by count, or up to a pattern."""

    def __init__(self, wire: Wire) -> None:
        self._wire = wire
        self._kept = bytearray()

    async def send(self, content: bytes) -> None:
        # What came before we asked for it is no answer to it (CVE-2011-0411 and its kin).
        if self._kept:
            raise NotSpoken
        await self._wire.send(content)

    async def exactly(self, count: int) -> bytes:
        while len(self._kept) < count:
            await self._more()
        return self._take(count)

    async def line(self) -> bytes:
        while b"\n" not in self._kept:
            if len(self._kept) > LONGEST_LINE:
                raise NotSpoken
            await self._more()
        return self._take(self._kept.index(b"\n") + 1).rstrip(b"\r\n")

    async def up_to(self, pattern: re.Pattern[bytes]) -> bytes:
        while (found := pattern.search(self._kept)) is None:
            if len(self._kept) > LONGEST_STANZA:
                raise NotSpoken
            await self._more()
        return self._take(found.end())

    def finish(self) -> None:
        """Refuse what was sent in clear behind the last word in clear: it would pass for something secured."""
        if self._kept:
            raise NotSpoken

    async def _more(self) -> None:
        received = await self._wire.receive()
        if not received:
            raise NotSpoken
        self._kept += received

    def _take(self, count: int) -> bytes:
        taken = bytes(self._kept[:count])
        del self._kept[:count]
        return taken


async def start(protocol: StartTls, wire: Wire, server_name: str) -> None:
    """Bring a fresh connection to where TLS begins.

    Args:
        protocol: What is spoken there.
        wire: The connection.
        server_name: In ASCII; XMPP asks for a domain by it.

    Raises:
        NotOffered: The other side does not want to.
        NotSpoken: It speaks something else.
    """
    talk = _Talk(wire)
    await _PROTOCOLS[protocol](talk, server_name)
    talk.finish()


async def _none(talk: _Talk, server_name: str) -> None:
    """TLS begins at once."""


async def _smtp(talk: _Talk, server_name: str) -> None:  # noqa: ARG001  all have the same form
    """RFC 3207. We name ourselves with a name that RFC 2606 keeps for nobody."""
    await _smtp_reply(talk, b"220")
    await talk.send(b"EHLO regie.invalid\r\n")
    offered = await _smtp_reply(talk, b"250")
    if not any(line.strip().upper() == b"STARTTLS" for line in offered):
        raise NotOffered
    await talk.send(b"STARTTLS\r\n")
    if (await _smtp_lines(talk))[0] != b"220":
        raise NotOffered


async def _smtp_reply(talk: _Talk, wanted: bytes) -> list[bytes]:
    code, lines = await _smtp_lines(talk)
    if code != wanted:
        raise NotSpoken
    return lines


async def _smtp_lines(talk: _Talk) -> tuple[bytes, list[bytes]]:
    """A reply of one or more lines (RFC 5321, 4.2.1): its code and the texts."""
    texts: list[bytes] = []
    for _ in range(MOST_LINES):
        line = await talk.line()
        if not re.fullmatch(rb"[2-5][0-9]{2}([ -].*)?", line):
            raise NotSpoken
        texts.append(line[4:])
        if line[3:4] != b"-":
            return line[:3], texts
    raise NotSpoken


async def _imap(talk: _Talk, server_name: str) -> None:  # noqa: ARG001  all have the same form
    """RFC 9051, 6.2.1."""
    if not (await talk.line()).upper().startswith(b"* OK"):
        raise NotSpoken
    await talk.send(b"a1 CAPABILITY\r\n")
    told = await _imap_lines(talk, b"a1 ")
    if not any(b"STARTTLS" in line.upper().split() for line in told):
        raise NotOffered
    await talk.send(b"a2 STARTTLS\r\n")
    if not (await _imap_lines(talk, b"a2 "))[-1].upper().startswith(b"A2 OK"):
        raise NotOffered


async def _imap_lines(talk: _Talk, tag: bytes) -> list[bytes]:
    lines: list[bytes] = []
    for _ in range(MOST_LINES):
        lines.append(await talk.line())
        if lines[-1].startswith(tag):
            return lines
    raise NotSpoken


async def _pop3(talk: _Talk, server_name: str) -> None:  # noqa: ARG001  all have the same form
    """RFC 2595, 4."""
    if not (await talk.line()).startswith(b"+OK"):
        raise NotSpoken
    await talk.send(b"STLS\r\n")
    answer = await talk.line()
    if answer.startswith(b"-ERR"):
        raise NotOffered
    if not answer.startswith(b"+OK"):
        raise NotSpoken


_LDAP_STARTTLS = b"\x30\x1d\x02\x01\x01\x77\x18\x80\x161.3.6.1.4.1.1466.20037"
"""An extended request with the identifier of StartTLS (RFC 4511, 4.14.1), message 1."""


async def _ldap(talk: _Talk, server_name: str) -> None:  # noqa: ARG001  all have the same form
    """RFC 4511, 4.14. Of the answer only its result code is read: tag 10, one byte, in the first place."""
    await talk.send(_LDAP_STARTTLS)
    tag, size = await talk.exactly(2)
    if tag != 0x30:
        raise NotSpoken
    if size & 0x80:
        count = size & 0x7F
        if not 1 <= count <= 4:  # Active Directory writes all lengths with four bytes
            raise NotSpoken
        size = int.from_bytes(await talk.exactly(count))
    if size > LONGEST_LINE:
        raise NotSpoken
    answer = await talk.exactly(size)
    found = re.match(rb"\x02\x01\x01\x78(?:[\x00-\x7f]|\x81.|\x82..|\x84....)\x0a\x01(.)", answer, re.DOTALL)
    if found is None:
        raise NotSpoken
    if found.group(1) != b"\x00":
        raise NotOffered


async def _postgres(talk: _Talk, server_name: str) -> None:  # noqa: ARG001  all have the same form
    """PostgreSQL: Frontend/Backend Protocol, SSLRequest."""
    await talk.send(b"\x00\x00\x00\x08\x04\xd2\x16\x2f")
    match await talk.exactly(1):
        case b"S":
            return
        case b"N":
            raise NotOffered
        case _:
            raise NotSpoken


async def _xmpp(talk: _Talk, server_name: str) -> None:
    """RFC 6120, 5.4."""
    await talk.send(
        b"<?xml version='1.0'?><stream:stream to='%s' version='1.0' xmlns='jabber:client' "
        b"xmlns:stream='http://etherx.jabber.org/streams'>" % server_name.encode("ascii")
    )
    features = await talk.up_to(re.compile(rb"</stream:features>|<stream:features\s*/>|<stream:error|</stream:stream>"))
    if b"<stream:features" not in features:
        raise NotSpoken
    if b"urn:ietf:params:xml:ns:xmpp-tls" not in features:
        raise NotOffered
    await talk.send(b"<starttls xmlns='urn:ietf:params:xml:ns:xmpp-tls'/>")
    if b"<proceed" not in await talk.up_to(
        re.compile(rb"<proceed[^>]*/>|<proceed[^>]*>\s*</proceed>|<failure|</stream")
    ):
        raise NotOffered


_PROTOCOLS: Mapping[StartTls, Callable[[_Talk, str], Awaitable[None]]] = {
    "none": _none,
    "smtp": _smtp,
    "imap": _imap,
    "pop3": _pop3,
    "ldap": _ldap,
    "postgres": _postgres,
    "xmpp": _xmpp,
}
