"""The one sealer: what a tenant must not lose is encrypted before it reaches the database. Used by every store module.

AES-256-GCM. Sealed bytes are one byte of key id, 12 bytes of nonce, the ciphertext and its tag. The row's address is
authenticated with it, so a value moved to another row, table or tenant cannot be opened.
"""

import base64
import binascii
import json
import os
import secrets
from pathlib import Path
from typing import Self

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from regie.core.errors import RegieError

KEY_BYTES = 32
NONCE_BYTES = 12
"""A random nonce of 96 bits serves 2^32 values under one key (NIST SP 800-38D, 8.3)."""
FIRST_KEY = 1


class SealBroken(RegieError):
    """Something stored cannot be opened: another key, another place than it was sealed for, or altered bytes."""


class Sealer:
    """Seals and opens.

    Args:
        keys: Keys of 32 bytes by key id (0 to 255), old ones included.
        current: Id of the key that seals; the others only open.
    """

    def __init__(self, keys: dict[int, bytes], current: int) -> None:
        self._ciphers = {key_id: AESGCM(key) for key_id, key in keys.items()}
        self.current = current

    @classmethod
    def from_file(cls, path: Path) -> Self:
        """Read the key file, or make it on first use: only its owner may read it. Several processes get the same key.

        Raises:
            SealBroken: The file is not a key file, or others may read it.
        """
        if not path.exists():
            _create(path)
        if path.stat().st_mode & 0o077:
            raise SealBroken(f"Others may read the key file {path}.", hint=f"chmod 600 {path}")
        try:
            written = json.loads(path.read_text(encoding="utf-8"))
            keys = {int(key_id): base64.b64decode(key, validate=True) for key_id, key in written["keys"].items()}
            current = int(written["current"])
        except (ValueError, KeyError, TypeError, AttributeError, binascii.Error):
            raise SealBroken(f"{path} is not a key file.", hint="Restore it from your backup of keys.") from None
        if current not in keys or any(len(key) != KEY_BYTES for key in keys.values()):
            raise SealBroken(f"{path} lacks its current key.", hint="Restore it from your backup of keys.")
        return cls(keys, current)

    def seal(self, plain: bytes, *, tenant: str, domain: str, table: str, pk: str) -> bytes:
        """Encrypt a value for one row. `table` names the column too when a row has several sealed ones."""
        nonce = secrets.token_bytes(NONCE_BYTES)
        sealed = self._ciphers[self.current].encrypt(nonce, plain, _address(tenant, domain, table, pk))
        return bytes([self.current]) + nonce + sealed

    def open(self, sealed: bytes, *, tenant: str, domain: str, table: str, pk: str) -> bytes:
        """Decrypt a value of one row.

        Raises:
            SealBroken: It was not sealed for this row by a key we have.
        """
        cipher = self._ciphers.get(sealed[0]) if sealed else None
        if cipher is None:
            raise SealBroken(f"No key for a value in {table}.", hint="Restore the key file it was sealed with.")
        nonce, body = sealed[1 : 1 + NONCE_BYTES], sealed[1 + NONCE_BYTES :]
        try:
            return cipher.decrypt(nonce, body, _address(tenant, domain, table, pk))
        except (InvalidTag, ValueError):
            raise SealBroken(f"A value in {table} is not what was sealed there.") from None


def as_text(sealed: bytes) -> str:
    """Bytes as the text in which they stand in rows sent as JSON; `decode(..., 'base64')` takes it back."""
    return binascii.b2a_base64(sealed, newline=False).decode()


def _address(tenant: str, domain: str, table: str, pk: str) -> bytes:
    """What is authenticated with the value. Only the last part is free text, so no two addresses are equal."""
    return f"{tenant}|{domain}|{table}|{pk}".encode()


def _create(path: Path) -> None:
    """Put a complete key file in place at once; whoever comes second keeps the first one's."""
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    key = base64.b64encode(secrets.token_bytes(KEY_BYTES)).decode()
    fresh = path.with_name(f"{path.name}.{secrets.token_hex(8)}")
    descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            json.dump({"current": FIRST_KEY, "keys": {str(FIRST_KEY): key}}, file)
            file.flush()
            os.fsync(file.fileno())
        try:
            path.hardlink_to(fresh)
        except FileExistsError:
            return
    finally:
        fresh.unlink()
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
