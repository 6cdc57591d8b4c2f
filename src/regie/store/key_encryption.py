"""The keys that wrap data keys: one for each domain, outside the database. A port, so that a KMS can hold them too.

On premises they are files beside each other. A process that is given the file of one domain, as the workers of a
domain are, can unwrap no other domain's data keys, whatever it reads in the database.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from pathlib import Path
from typing import Protocol

from regie.store.key_file import KeyFile, SealBroken

_DOMAIN = re.compile(r"[a-z][a-z0-9_-]*")


class KeyEncryption(Protocol):
    """Wraps and unwraps data keys. It may ask a service elsewhere: whoever uses it keeps what it unwraps."""

    def wrap(self, domain: str, data_key: bytes, bound: bytes, *, is_first: bool) -> bytes:
        """Encrypt a data key under the key of its domain.

        Args:
            bound: Authenticated with it: whose data key it is.
            is_first: The domain has no data key yet, so its key may be made now.

        Raises:
            SealBroken: The domain's key is not there, or this process does not have it.
        """

    def unwrap(self, domain: str, wrapped: bytes, bound: bytes) -> bytes:
        """Decrypt a data key.

        Raises:
            SealBroken: The domain's key is not there, or it is not what was wrapped with `bound` under it.
        """


class KeyFiles:
    """A key file `domain-NAME.json` for each domain.

    Args:
        folder: Where they lie, 0700.
        domains: Whose keys this process may use; none to use every domain's.
    """

    def __init__(self, folder: Path, domains: Collection[str] | None = None) -> None:
        self._folder = folder
        self._domains = domains
        self._read: dict[str, KeyFile] = {}

    def wrap(self, domain: str, data_key: bytes, bound: bytes, *, is_first: bool) -> bytes:
        """See `KeyEncryption`."""
        path = self._path(domain)
        file = KeyFile.read_or_make(path) if is_first else KeyFile.read(path)
        self._read[domain] = file
        return file.seal(data_key, bound)

    def unwrap(self, domain: str, wrapped: bytes, bound: bytes) -> bytes:
        """See `KeyEncryption`."""
        path = self._path(domain)
        if domain in self._read:
            try:
                return self._read[domain].open(wrapped, bound)
            except SealBroken:
                # Perhaps under a key that has been added to the file since.
                del self._read[domain]
        self._read[domain] = KeyFile.read(path)
        try:
            return self._read[domain].open(wrapped, bound)
        except SealBroken:
            raise SealBroken(
                f"The key file {path} does not open the data keys of its domain.",
                hint="Restore the key file they were wrapped with; without it nothing of the domain can be read.",
            ) from None

    def _path(self, domain: str) -> Path:
        if not _DOMAIN.fullmatch(domain):
            raise SealBroken(f"{domain!r} is no name of a domain.")
        if self._domains is not None and domain not in self._domains:
            raise SealBroken(f"This process has no key of the domain {domain}.")
        return self._folder / f"domain-{domain}.json"
