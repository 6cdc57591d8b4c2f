"""DNS records as people write them and as servers do: names, the zones that they lie in, values."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable
from typing import Literal

import dns.exception
import dns.name

from regie.core.capabilities.dns import RecordType
from regie.core.errors import InvalidInput

Base = Literal[8, 10]
"""How a character is written by its number, `\\DDD`: decimal in zone files (RFC 1035, 5.1), octal at Route 53."""

LONGEST_PIECE = 255
"""Bytes of one piece of a TXT record (RFC 1035, 3.3)."""
LONGEST_TEXT = 60_000
"""Bytes of a text that fits into a record, whose length is a 16-bit number, and into a message with other things."""

_PIECE = re.compile(r'"((?:[^"\\]|\\.)*)"|((?:[^"\s\\]|\\.)+)', re.DOTALL)
_ESCAPE = re.compile(rb"\\(?:([0-9]{3})|(.))", re.DOTALL)


def absolute(name: str) -> dns.name.Name:
    """A name from the root, other scripts than ASCII as IDNA 2008 writes them.

    Raises:
        InvalidInput: It is none.
    """
    try:
        return dns.name.from_text(name, idna_codec=dns.name.IDNA_2008_Practical)
    except (dns.exception.DNSException, UnicodeError):
        raise InvalidInput(f"{name!r} is no DNS name") from None


def plain(name: str) -> str:
    """A name as it is compared and shown: ASCII, in lower case, without a dot at its end."""
    return absolute(name).to_text(omit_final_dot=True).lower()


def octal_name(name: str) -> str:
    """A name as Route 53 gives it, without its escapes: a wildcard begins with the octal number of the asterisk."""
    return _ESCAPE.sub(lambda found: _unescaped(found, 8), name.encode()).decode()


def zone_of(name: str, zones: Iterable[str]) -> str | None:
    """The zone in which a name lies: the longest of those that it ends with, as it was given."""
    below = absolute(name)
    fitting = [zone for zone in zones if below.is_subdomain(absolute(zone))]
    return max(fitting, key=lambda zone: len(absolute(zone)), default=None)


def written(kind: RecordType, value: str, base: Base = 10) -> str:
    """A value as a zone file has it: text in quoted pieces, a name with its dot.

    Args:
        value: As people write it.

    Raises:
        InvalidInput: No record of that kind can have the value.
    """
    match kind:
        case "TXT":
            return _quoted(value, base)
        case "CNAME":
            return absolute(value).to_text()
        case "A" | "AAAA":
            return _address(kind, value)


def meant(kind: RecordType, written: str, base: Base = 10) -> str:
    """What a value says, whoever wrote it: two that mean the same are the same text."""
    match kind:
        case "TXT":
            return b"".join(_bytes(quoted or bare, base) for quoted, bare in _PIECE.findall(written)).decode(
                errors="surrogateescape"
            )
        case "CNAME":
            return plain(written)
        case "A" | "AAAA":
            return _address(kind, written)


def _address(kind: RecordType, value: str) -> str:
    try:
        address = ipaddress.ip_address(value)
    except ValueError:
        address = None
    # A zone (fe80::1%eth0) is a matter of one host, not of names.
    if address is None or "%" in value or address.version != (4 if kind == "A" else 6):
        raise InvalidInput(f"{value!r} is no value of an {kind} record")
    return str(address)


def _quoted(text: str, base: Base) -> str:
    given = text.encode(errors="surrogateescape")
    if len(given) > LONGEST_TEXT:
        raise InvalidInput(f"a TXT record cannot have {len(given)} bytes; at most {LONGEST_TEXT}")
    pieces = [given[at : at + LONGEST_PIECE] for at in range(0, len(given), LONGEST_PIECE)] or [b""]
    return " ".join(f'"{"".join(_escaped(byte, base) for byte in piece)}"' for piece in pieces)


def _escaped(byte: int, base: Base) -> str:
    if byte in b'"\\':
        return f"\\{byte:c}"
    if 0x20 <= byte < 0x7F:
        return chr(byte)
    return f"\\{byte:03o}" if base == 8 else f"\\{byte:03d}"


def _bytes(piece: str, base: Base) -> bytes:
    return _ESCAPE.sub(lambda found: _unescaped(found, base), piece.encode(errors="surrogateescape"))


def _unescaped(found: re.Match[bytes], base: Base) -> bytes:
    number, character = found.groups()
    return bytes([int(number, base) & 0xFF]) if number else character
