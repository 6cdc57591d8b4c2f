"""A file of keys of this installation, outside the database, and what is sealed under them.

AES-256-GCM. Sealed bytes are one byte of key id, 12 bytes of nonce, the ciphertext and its tag.
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
LAST_KEY = 255
"""Ids begin at 1: a byte of zero stands before what is sealed under a data key."""


class SealBroken(RegieError):
    """Something stored cannot be opened: another key, another place than it was sealed for, or altered bytes."""


class KeyFile:
    """Seals and opens under the keys of one file.

    Args:
        keys: Keys of 32 bytes by key id (1 to 255), old ones included.
        current: Id of the key that seals; the others only open.
    """

    def __init__(self, keys: dict[int, bytes], current: int) -> None:
        self._ciphers = {key_id: AESGCM(key) for key_id, key in keys.items()}
        self.current = current

    @classmethod
    def read_or_make(cls, path: Path) -> Self:
        """Read the key file, or make it on first use: only its owner may read it. Several processes get the same key.

        Raises:
            SealBroken: The file is not a key file, or others may read it.
        """
        if not path.exists():
            _make(path)
        return cls.read(path)

    @classmethod
    def read(cls, path: Path) -> Self:
        """Read the key file.

        Raises:
            SealBroken: There is none, it is not a key file, or others may read it.
        """
        try:
            if path.stat().st_mode & 0o077:
                raise SealBroken(f"Others may read the key file {path}.", hint=f"chmod 600 {path}")
            written = json.loads(path.read_text(encoding="utf-8"))
            keys = {int(key_id): base64.b64decode(key, validate=True) for key_id, key in written["keys"].items()}
            current = int(written["current"])
        except FileNotFoundError:
            raise SealBroken(f"There is no key file {path}.", hint="Restore it from your backup of keys.") from None
        except PermissionError:
            raise SealBroken(f"This process may not read the key file {path}.") from None
        except (ValueError, KeyError, TypeError, AttributeError, binascii.Error):
            raise SealBroken(f"{path} is not a key file.", hint="Restore it from your backup of keys.") from None
        if current not in keys or any(len(key) != KEY_BYTES for key in keys.values()):
            raise SealBroken(f"{path} lacks its current key.", hint="Restore it from your backup of keys.")
        if not all(FIRST_KEY <= key_id <= LAST_KEY for key_id in keys):
            raise SealBroken(f"{path} has a key with an id that is not 1 to 255.")
        return cls(keys, current)

    def seal(self, plain: bytes, bound: bytes) -> bytes:
        """Encrypt a value; `bound` is authenticated with it."""
        nonce = secrets.token_bytes(NONCE_BYTES)
        return bytes([self.current]) + nonce + self._ciphers[self.current].encrypt(nonce, plain, bound)

    def open(self, sealed: bytes, bound: bytes) -> bytes:
        """Decrypt a value.

        Raises:
            SealBroken: It was not sealed with `bound` by a key of this file.
        """
        cipher = self._ciphers.get(sealed[0]) if sealed else None
        if cipher is None:
            raise SealBroken("There is no key for a sealed value.", hint="Restore the key file it was sealed with.")
        return opened(cipher, sealed, 1, bound)


def opened(cipher: AESGCM, sealed: bytes, start: int, bound: bytes) -> bytes:
    """Decrypt nonce, ciphertext and tag, which begin at `start`.

    Raises:
        SealBroken: They are not what was sealed with `bound` under that key.
    """
    try:
        body = start + NONCE_BYTES
        return cipher.decrypt(sealed[start:body], sealed[body:], bound)
    except (InvalidTag, ValueError):
        raise SealBroken("A sealed value is not what was sealed there.") from None


def _make(path: Path) -> None:
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
