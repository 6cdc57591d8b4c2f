"""The names of servers as they are asked for. Pure. Whether a certificate is for one: `core/server_name.py`."""

from __future__ import annotations

import idna

from regie.core.errors import InvalidInput
from regie.core.server_name import as_address


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


def _is_label(label: str) -> bool:
    return 0 < len(label) <= 63 and all(sign.isalnum() or sign in "-_" for sign in label)
