"""An imitation of Keeper Secrets Manager: one application, its devices, its records, and the limit of each device.

Written after what the vendor's SDK sends and reads (keeper-secrets-manager-core 17.3.0, MIT): a key for each request,
wrapped with the server's public key (ECDH on P-256, SHA-256, AES-GCM), a payload encrypted with it and signed by the
device, and records under the application's key. Ten requests a minute a device, then 403 `throttled`.
"""

from __future__ import annotations

import base64
import json
import secrets
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import httpx2
from cryptography.exceptions import InvalidSignature, InvalidTag
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

HOST = "keeper.sandbox.example"
PATH = "/api/rest/sm/v1/get_secret"
MOST_REQUESTS = 10
MINUTE_S = 60.0
_POINT_BYTES = 65
_NONCE_BYTES = 12


@dataclass
class _Record:
    title: str
    fields: list[dict[str, Any]]
    revision: int = 1


@dataclass
class _Device:
    public_key: ec.EllipticCurvePublicKey
    asked: list[float] = field(default_factory=list)


class Keeper:
    """The service.

    Attributes:
        requests: How many came in.
        limit: How many a device may make in a minute.

    Args:
        clock: Seconds, for the limit.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self.requests = 0
        self.limit = MOST_REQUESTS
        self._clock = clock
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._app_key = secrets.token_bytes(32)
        self._devices: dict[str, _Device] = {}
        self._records: dict[str, _Record] = {}

    def device(self) -> str:
        """Bind a new device; its configuration in base64, as Keeper hands it out."""
        own = ec.generate_private_key(ec.SECP256R1())
        client = base64.b64encode(secrets.token_bytes(64)).decode()
        self._devices[client] = _Device(own.public_key())
        der = own.private_bytes(
            serialization.Encoding.DER, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        server = self._key.public_key().public_bytes(
            serialization.Encoding.X962, serialization.PublicFormat.UncompressedPoint
        )
        written = {
            "hostname": HOST,
            "clientId": client,
            "privateKey": base64.b64encode(der).decode(),
            "appKey": base64.b64encode(self._app_key).decode(),
            "serverPublicKeyId": "10",
            "serverPublicKey": base64.urlsafe_b64encode(server).decode().rstrip("="),
        }
        return base64.b64encode(json.dumps(written).encode()).decode()

    def remove_devices(self) -> None:
        """Take every device's right away."""
        self._devices.clear()

    def put(self, title: str, password: str, custom: Mapping[str, str] | None = None, *, twice: bool = False) -> int:
        """Keep a record of the kind `login`, in place of one with that title; gives its revision.

        Args:
            twice: Another record of that title, beside the first.
        """
        own = {record.title: uid for uid, record in self._records.items()}
        uid = own[title] if title in own and not twice else secrets.token_urlsafe(16)
        before = self._records.get(uid)
        fields = [{"type": "login", "value": ["bot"]}, {"type": "password", "value": [password]}]
        fields += [{"type": "text", "label": label, "value": [value]} for label, value in (custom or {}).items()]
        self._records[uid] = _Record(title, fields, before.revision + 1 if before else 1)
        return self._records[uid].revision

    def handle(self, request: httpx2.Request) -> httpx2.Response:
        """Answer one request."""
        self.requests += 1
        if request.method != "POST" or request.url.path != PATH:
            return httpx2.Response(404)
        sealed = request.read()
        try:
            wrapped = base64.b64decode(request.headers["TransmissionKey"], validate=True)
            key = _open(self._shared(wrapped[:_POINT_BYTES]), wrapped[_POINT_BYTES:])
            asked = json.loads(_open(key, sealed))
            device = self._devices[asked["clientId"]]
            signature = base64.b64decode(request.headers["Authorization"].removeprefix("Signature "), validate=True)
            device.public_key.verify(signature, wrapped + sealed, ec.ECDSA(hashes.SHA256()))
        except (KeyError, ValueError, InvalidTag, InvalidSignature):
            return _complaint("access_denied", "Signature is invalid")
        now = self._clock()
        device.asked = [each for each in device.asked if now - each < MINUTE_S]
        if len(device.asked) >= self.limit:
            return _complaint("throttled", "Too many requests")
        device.asked.append(now)
        records = [self._written(uid, record) for uid, record in self._records.items()]
        return httpx2.Response(200, content=_seal(key, json.dumps({"folders": [], "records": records}).encode()))

    def _shared(self, point: bytes) -> bytes:
        theirs = ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP256R1(), point)
        digest = hashes.Hash(hashes.SHA256())
        digest.update(self._key.exchange(ec.ECDH(), theirs))
        return digest.finalize()

    def _written(self, uid: str, record: _Record) -> dict[str, Any]:
        key = secrets.token_bytes(32)
        data = {"title": record.title, "type": "login", "notes": "", "fields": record.fields, "custom": []}
        return {
            "recordUid": uid,
            "recordKey": base64.b64encode(_seal(self._app_key, key)).decode(),
            "data": base64.b64encode(_seal(key, json.dumps(data).encode())).decode(),
            "revision": record.revision,
            "isEditable": False,
            "files": None,
        }


def _seal(key: bytes, plain: bytes) -> bytes:
    nonce = secrets.token_bytes(_NONCE_BYTES)
    return nonce + AESGCM(key).encrypt(nonce, plain, None)


def _open(key: bytes, sealed: bytes) -> bytes:
    return AESGCM(key).decrypt(sealed[:_NONCE_BYTES], sealed[_NONCE_BYTES:], None)


def _complaint(code: str, message: str) -> httpx2.Response:
    return httpx2.Response(403, json={"error": code, "message": message})
