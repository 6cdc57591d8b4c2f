"""Whom to trust: the authorities that the machine trusts, and those a customer names."""

from __future__ import annotations

import ssl
from functools import lru_cache
from pathlib import Path

import certifi

from regie.core.errors import InvalidInput
from regie.kit.tls.certificates import Parsed, parse_file
from regie.kit.tls.trust import Roots

BUNDLES = ("/etc/ssl/certs/ca-certificates.crt", "/etc/pki/tls/certs/ca-bundle.crt", "/etc/ssl/cert.pem")
"""Where Debian, Red Hat and Alpine keep what the machine trusts, in one file."""


@lru_cache(maxsize=64)
def roots(named: str, *, with_public: bool) -> Roots:
    """Whom a connection trusts. Kept, for most customers trust the same.

    Args:
        named: Authorities of a customer's own, in PEM; may be empty.
        with_public: Whether those of the machine count too.

    Raises:
        InvalidInput: What is named is no PEM.
    """
    own = parse_file(named.encode()) if named.strip() else []
    return Roots([*own, *(public_roots() if with_public else [])])


@lru_cache(maxsize=1)
def public_roots() -> list[Parsed]:
    """What the machine trusts; Mozilla's list, as installed with us, where the machine has none."""
    configured = ssl.get_default_verify_paths().cafile
    for place in (configured, *BUNDLES):
        if place and Path(place).is_file():
            try:
                return parse_file(Path(place).read_bytes())
            except (OSError, InvalidInput):
                continue
    return parse_file(Path(certifi.where()).read_bytes())
