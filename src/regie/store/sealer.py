"""The one sealer: what a tenant must not lose is encrypted before it reaches the database. Used by every store module.

AES-256-GCM under the data key of the row's tenant and domain, which lies in the database wrapped under the key of the
domain (`data_keys`, `key_encryption`). What belongs to no tenant is sealed under the installation's own key file; rows
from before there were data keys still open with it. The row's address is authenticated with a value, so one that is
moved to another row, column, table, tenant or domain cannot be opened. See decision 0026.
"""

import binascii
import secrets
from collections.abc import Collection
from pathlib import Path
from typing import Self

from regie.store.data_keys import ENVELOPE, HEADER_BYTES, DataKeys
from regie.store.key_encryption import KeyEncryption, KeyFiles
from regie.store.key_file import NONCE_BYTES, KeyFile, SealBroken, opened

__all__ = ["SealBroken", "Sealer", "as_text"]


class Sealer:
    """Seals and opens.

    Args:
        own: The installation's own key file.
        encryption: Wraps data keys.
        data_keys: Those in a database; without one only what belongs to no tenant can be sealed.
    """

    def __init__(self, own: KeyFile, encryption: KeyEncryption, data_keys: DataKeys | None = None) -> None:
        self._own = own
        self._encryption = encryption
        self._data_keys = data_keys

    @classmethod
    def from_file(cls, path: Path, *, domains: Collection[str] | None = None) -> Self:
        """Read the installation's key file, or make it on first use. The domains' key files lie beside it.

        Args:
            domains: Whose keys this process may use; none to use every domain's.

        Raises:
            SealBroken: The file is not a key file, or others may read it.
        """
        return cls(KeyFile.read_or_make(path), KeyFiles(path.parent, domains))

    def at(self, dsn: str) -> "Sealer":
        """A sealer with the same key files and the data keys of a database."""
        return Sealer(self._own, self._encryption, DataKeys(dsn, self._encryption))

    @property
    def current(self) -> int:
        """Id of the installation's own key that seals."""
        return self._own.current

    @property
    def data_keys(self) -> DataKeys:
        """The data keys.

        Raises:
            SealBroken: This sealer has no database.
        """
        if self._data_keys is None:
            raise SealBroken("Without a database there are no data keys.")
        return self._data_keys

    def seal(self, plain: bytes, *, tenant: str, domain: str, table: str, pk: str) -> bytes:
        """Encrypt a value for one row. `table` names the column too when a row has several sealed ones.

        Raises:
            SealBroken: This process may not have the key of that tenant and domain.
            Unavailable: Their key has to be asked for, and the database does not answer.
        """
        bound = _address(tenant, domain, table, pk)
        if not tenant:
            return self._own.seal(plain, bound)
        key = self.data_keys.to_seal(tenant, domain)
        nonce = secrets.token_bytes(NONCE_BYTES)
        return key.header + nonce + key.cipher.encrypt(nonce, plain, bound)

    def open(self, sealed: bytes, *, tenant: str, domain: str, table: str, pk: str) -> bytes:
        """Decrypt a value of one row.

        Raises:
            SealBroken: It was not sealed for this row by a key we have.
            Unavailable: Its key has to be asked for, and the database does not answer.
        """
        bound = _address(tenant, domain, table, pk)
        try:
            if sealed[:1] != ENVELOPE:
                return self._own.open(sealed, bound)
            version = int.from_bytes(sealed[1:HEADER_BYTES], "big")
            return opened(self.data_keys.to_open(tenant, domain, version).cipher, sealed, HEADER_BYTES, bound)
        except SealBroken as error:
            raise SealBroken(f"{table}: {error.message}", hint=error.hint) from error


def as_text(sealed: bytes) -> str:
    """Bytes as the text in which they stand in rows sent as JSON; `decode(..., 'base64')` takes it back."""
    return binascii.b2a_base64(sealed, newline=False).decode()


def _address(tenant: str, domain: str, table: str, pk: str) -> bytes:
    """What is authenticated with the value. Only the last part is free text, so no two addresses are equal."""
    return f"{tenant}|{domain}|{table}|{pk}".encode()
