"""One way to write a value as bytes, so that equal values have equal digests.

The encoding is JCS (RFC 8785) over a narrower profile: no floats and no nulls where a leaf is meant (see `audit.py`);
digests of plans and releases allow nulls and floats that JSON can carry.
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
        ValueError: A number is not finite, so JSON cannot carry it.
    """
    return _ENCODER.encode(value).encode()


def digest(value: JsonValue | Mapping[str, JsonValue] | Sequence[JsonValue]) -> str:
    """SHA-256 of the canonical bytes, as 64 hexadecimal characters."""
    return digest_of(encode(value))


def digest_of(encoded: bytes) -> str:
    """The digest of a value that is encoded already."""
    return hashlib.sha256(encoded).hexdigest()
