"""What is kept of a token: its digest, which what somebody shows is compared by."""

from __future__ import annotations

import hashlib


def token_digest(token: str) -> str:
    """SHA-256 of a token in hexadecimal. Whatever a header can hold has one."""
    return hashlib.sha256(token.encode("utf-8", "surrogatepass")).hexdigest()
