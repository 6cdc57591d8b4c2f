"""One way to write a value as bytes, so that the same value always has the same digest.

It is JSON in UTF-8 without blanks, keys in the order of their code points. Without floats, with integers within
+-(2^53-1) and with no character beyond U+FFFF in a key these are the bytes of JCS (RFC 8785), so that others can make
the digest too. Beyond that only Regie makes them: floats are written as Python does, and 1.0 is another value than 1.
Leaves of the audit log are written by `audit.py`, which takes nothing that JCS would write otherwise.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence

from pydantic import JsonValue

_ENCODER = json.JSONEncoder(sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)


def encode(value: JsonValue | Mapping[str, JsonValue] | Sequence[JsonValue]) -> bytes:
    """Write a JSON value as canonical UTF-8 bytes.

    Raises:
        ValueError: A number is not finite, or a text holds half a surrogate pair: JSON in UTF-8 cannot carry it.
    """
    return _ENCODER.encode(value).encode()


def digest(value: JsonValue | Mapping[str, JsonValue] | Sequence[JsonValue]) -> str:
    """SHA-256 of the canonical bytes, as 64 hexadecimal characters."""
    return digest_of(encode(value))


def digest_of(encoded: bytes) -> str:
    """The digest of a value that is encoded already."""
    return hashlib.sha256(encoded).hexdigest()
