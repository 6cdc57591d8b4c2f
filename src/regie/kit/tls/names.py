"""The names of servers: as they are asked for, and whether a certificate is for them (RFC 9525). Pure."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable

import idna

from regie.core.errors import InvalidInput

Address = ipaddress.IPv4Address | ipaddress.IPv6Address


def as_address(text: str) -> Address | None:
    """The address that a text writes, also in brackets as in an URL, or None if it writes none."""
    try:
        return ipaddress.ip_address(text.removeprefix("[").removesuffix("]"))
    except ValueError:
        return None


def ascii_name(name: str) -> str:
    """A name as DNS and TLS write it: lower case, A-labels (RFC 5890), no dot at the end. Addresses stay addresses.

    Raises:
        InvalidInput: It is no name of a host.
    """
    if (address := as_address(name)) is not None:
        return str(address)
    plain = name.removesuffix(".")
    try:
        # Underscores and other letters of old are met in the field; only what is not ASCII needs the rules of IDNA.
        found = plain.lower() if plain.isascii() else idna.encode(plain, uts46=True).decode()
    except idna.IDNAError as error:
        raise InvalidInput(f"{name!r} is no name of a host.") from error
    labels = found.split(".")
    if len(found) > 253 or not all(_is_label(label) for label in labels):
        raise InvalidInput(f"{name!r} is no name of a host.")
    return found


def is_for(names: Iterable[str], wanted: str) -> bool:
    """Whether a certificate with these names is for the wanted one.

    An address must be there as an address. A name may be met by a wildcard, which stands for exactly the first label.
    The common name does not count, as it counts for no client of today.

    Args:
        names: The certificate's DNS names and addresses.
        wanted: A name or address as `ascii_name` gives it.
    """
    address = as_address(wanted)
    if address is not None:
        return any(as_address(name) == address for name in names)
    return any(_meets(name.lower().removesuffix("."), wanted) for name in names if as_address(name) is None)


def _meets(pattern: str, wanted: str) -> bool:
    if not pattern.startswith("*."):
        return pattern == wanted
    first, _, rest = wanted.partition(".")
    # `*.com` would be for everybody, so at least two labels must follow.
    return bool(first) and rest == pattern[2:] and "." in rest


def _is_label(label: str) -> bool:
    return 0 < len(label) <= 63 and all(sign.isalnum() or sign in "-_" for sign in label)
