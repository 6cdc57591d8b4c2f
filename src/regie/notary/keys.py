"""The notary's signing keys: a file that only its owner may read, made on first use. No other process opens it."""

from __future__ import annotations

import base64
import json
import secrets
from pathlib import Path

from regie.core.errors import AuthFailed
from regie.core.signed_note import SigningKey
from regie.store.postgres_process import write_durably

SEED_BYTES = 32


class KeyFile:
    """The signing keys, oldest first; the last one is the current.

    Args:
        path: The file.
    """

    def __init__(self, path: Path) -> None:
        self._path = path

    def exists(self) -> bool:
        """Whether there is such a file."""
        return self._path.exists()

    def read(self) -> list[SigningKey]:
        """The keys.

        Raises:
            AuthFailed: The file is gone, others may read it, or it holds no keys.
        """
        return [SigningKey(seed) for seed in self._seeds()]

    def add(self) -> SigningKey:
        """Make a new key, which is the current one from now on; the file with it when there is none."""
        seeds = self._seeds() if self.exists() else []
        seeds.append(secrets.token_bytes(SEED_BYTES))
        self._path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        write_durably(self._path, json.dumps({"keys": [base64.b64encode(seed).decode() for seed in seeds]}), mode=0o600)
        return SigningKey(seeds[-1])

    def _seeds(self) -> list[bytes]:
        try:
            if self._path.stat().st_mode & 0o077:
                raise AuthFailed(f"Others may read the key file {self._path}.", hint=f"chmod 600 {self._path}")
            written = json.loads(self._path.read_text(encoding="utf-8"))
            seeds = [base64.b64decode(seed, validate=True) for seed in written["keys"]]
        except FileNotFoundError:
            raise AuthFailed(
                f"The notary's key file {self._path} is gone.",
                hint="Restore it from your backup of keys: a new key cannot prove that it continues the old one.",
            ) from None
        except (ValueError, KeyError, TypeError):
            seeds = []
        if not seeds or any(len(seed) != SEED_BYTES for seed in seeds):
            raise AuthFailed(f"{self._path} is no key file.", hint="Restore it from your backup of keys.")
        return seeds
