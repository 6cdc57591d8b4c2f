"""Whether a certificate is for the name of a server (RFC 9525). Pure."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable

Address = ipaddress.IPv4Address | ipaddress.IPv6Address


def as_address(text: str) -> Address | None:
    """The address that a text writes, also in brackets as in an URL, or None if it writes none."""
    try:
        return ipaddress.ip_address(text.removeprefix("[").removesuffix("]"))
    except ValueError:
        return None


def is_for(names: Iterable[str], wanted: str) -> bool:
    """Whether a certificate with these names is for the wanted one.

    An address must be there as an address. A name may be met by a wildcard, which stands for exactly the first label.
    The common name does not count, as it counts for no client of today.

    Args:
        names: The certificate's DNS names and addresses.
        wanted: A name as DNS writes it, in lower case, or an address.
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
