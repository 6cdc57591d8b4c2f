"""An authenticator in software, which can also do what a real one never would."""

from __future__ import annotations

import base64
import hashlib
import json
import secrets
from dataclasses import dataclass, field
from typing import Any

import cbor2
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec

PRESENT, VERIFIED, HAS_KEY = 0x01, 0x04, 0x40
"""Flags of authenticator data (Web Authentication Level 2, 6.1)."""


def read(text: str) -> bytes:
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))


def written(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


@dataclass
class SoftAuthenticator:
    """One key for one site."""

    origin: str
    host: str
    counts: bool = True
    count: int = 0
    id: bytes = field(default_factory=lambda: secrets.token_bytes(32))
    key: ec.EllipticCurvePrivateKey = field(default_factory=lambda: ec.generate_private_key(ec.SECP256R1()))

    def make(self, asked: dict[str, Any]) -> dict[str, str]:
        """What the script of the page gets for PublicKeyCredentialCreationOptions."""
        point = self.key.public_key().public_numbers()
        cose = {1: 2, 3: -7, -1: 1, -2: point.x.to_bytes(32, "big"), -3: point.y.to_bytes(32, "big")}
        credential = bytes(16) + len(self.id).to_bytes(2, "big") + self.id + cbor2.dumps(cose)
        data = self._data(PRESENT | VERIFIED | HAS_KEY) + credential
        return {
            "id": written(self.id),
            "client_data": written(self._client_data("webauthn.create", asked["challenge"])),
            "attestation": written(cbor2.dumps({"fmt": "none", "attStmt": {}, "authData": data})),
        }

    def sign(self, asked: dict[str, Any], *, flags: int = PRESENT | VERIFIED, origin: str = "") -> dict[str, str]:
        """What the script of the page gets for PublicKeyCredentialRequestOptions."""
        client_data = self._client_data("webauthn.get", asked["challenge"], origin)
        data = self._data(flags)
        signature = self.key.sign(data + hashlib.sha256(client_data).digest(), ec.ECDSA(hashes.SHA256()))
        return {
            "id": written(self.id),
            "client_data": written(client_data),
            "authenticator_data": written(data),
            "signature": written(signature),
        }

    def _data(self, flags: int) -> bytes:
        self.count += self.counts
        return hashlib.sha256(self.host.encode()).digest() + bytes([flags]) + self.count.to_bytes(4, "big")

    def _client_data(self, kind: str, challenge: str, origin: str = "") -> bytes:
        said = {"type": kind, "challenge": challenge, "origin": origin or self.origin, "crossOrigin": False}
        return json.dumps(said, separators=(",", ":")).encode()
