"""Where secrets are kept: a port, and one encrypted local file behind it. Only the gateway and `regie secret` read it.

Every tenant has its own secrets: the same reference written for two tenants names two values. The other places behind
the port are in `backends/`.
"""

from __future__ import annotations

import asyncio
import base64
import fcntl
import hmac
import json
import os
import secrets
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NoReturn, Protocol

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from regie import logs
from regie.core.errors import AuthFailed, InvalidInput
from regie.core.tenant import SecretRef

_PURPOSE = b"regie-vault/v1"
_KEY_BYTES = 32
INSTALLATION = ""
"""In place of a tenant: what belongs to the installation itself."""
_NONCE_BYTES = 12
"""96 bits, random for each write: NIST SP 800-38D, 8.2.2."""


class SecretText:
    """The value of a secret. It shows itself only to whoever calls `reveal`; no text, log or pickle carries it.

    Whoever reveals it may still let it slip, so the log of this process knows it and takes it out.
    """

    __slots__ = ("_value",)

    def __init__(self, value: str) -> None:
        self._value = value
        logs.hide(value)

    def reveal(self) -> str:
        """The value in clear, to be handed to the outside system and kept nowhere."""
        return self._value

    def is_same(self, other: SecretText) -> bool:
        """Whether two secrets have one value, in a time that does not tell where they differ."""
        return hmac.compare_digest(self._value.encode(), other._value.encode())

    def __repr__(self) -> str:
        return "SecretText(…)"

    def __str__(self) -> str:
        return "…"

    def __format__(self, spec: str) -> str:
        return "…"

    def __reduce_ex__(self, protocol: object) -> NoReturn:
        raise TypeError("a secret is never pickled or copied")


class NoSecret(AuthFailed):
    """The place that keeps a tenant's secrets answers, and has none under that reference."""


class SecretBackend(Protocol):
    """Where the gateway looks secrets up."""

    async def get(self, tenant: str, reference: SecretRef, refused: SecretText | None = None) -> SecretText:
        """The value of a tenant's secret.

        Args:
            refused: A value that the outside system has just turned down: a newer one is looked for, if there may be
                one, where otherwise a remembered one would do.

        Raises:
            NoSecret: There is no such secret, or none with that field or version.
            AuthFailed: The place that keeps it does not let us have it, or cannot be opened.
            Throttled: It asks us to slow down.
            Unavailable: It does not answer.
        """
        ...


class SecretMaker(SecretBackend, Protocol):
    """A place that keeps what the gateway makes itself, too."""

    async def make(self, tenant: str, reference: SecretRef, value_of: Callable[[], str]) -> SecretText:
        """The value of a tenant's secret, made and kept first if there is none. Everybody gets the same one.

        Args:
            value_of: Makes the value; called at most once.

        Raises:
            AuthFailed: The place that keeps it cannot be opened.
            Unavailable: The place that keeps it does not answer.
        """
        ...


class VaultFile:
    """Secrets in one file, encrypted with AES-256-GCM under a key file that only its owner may read.

    The file is decrypted for each look-up: a secret put by the CLI is found by a running gateway, and clear values
    do not stay in memory. Writers take turns through a lock file and replace the vault as a whole.
    """

    def __init__(self, path: Path, key_path: Path | None = None) -> None:
        self.path = path
        self.key_path = key_path or path.with_suffix(".key")

    @classmethod
    def create(cls, path: Path, key_path: Path | None = None) -> VaultFile:
        """Make an empty vault and its key, or open the one that is there.

        Raises:
            AuthFailed: There is a vault, and its key is gone; or the key that is there cannot be used for a new one.
        """
        vault = cls(path, key_path)
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        with vault._writing():
            if not vault.key_path.exists():
                if path.exists():
                    raise AuthFailed(
                        f"The vault {path} has lost its key {vault.key_path}.", hint="Bring the key file back."
                    )
                _replace(vault.key_path, base64.b64encode(secrets.token_bytes(_KEY_BYTES)) + b"\n")
            if not path.exists():
                vault._write({})
        return vault

    async def get(
        self,
        tenant: str,
        reference: SecretRef,
        refused: SecretText | None = None,  # noqa: ARG002  what the file holds is always the newest
    ) -> SecretText:
        """The value of a tenant's secret; see `SecretBackend`. A version is what was put under that very reference."""
        values = self._read()
        name = _name(tenant, reference)
        if name not in values:
            whose, option = (
                (f"tenant {tenant}", f"--tenant {tenant}") if tenant else ("the installation", "--installation")
            )
            raise NoSecret(
                f"There is no secret {reference} for {whose}.", hint=f"Put it: regie secret put {option} {reference}"
            )
        return SecretText(values[name])

    def put(self, tenant: str, reference: SecretRef, value: str) -> None:
        """Keep a secret, in place of an older value.

        Raises:
            InvalidInput: The value is empty.
            AuthFailed: The vault cannot be opened.
        """
        if not value:
            raise InvalidInput(f"The secret {reference} would be empty.")
        with self._writing():
            self._write({**self._read(), _name(tenant, reference): value})

    async def make(self, tenant: str, reference: SecretRef, value_of: Callable[[], str]) -> SecretText:
        """The value of a tenant's secret, made if there is none; see `SecretBackend`."""
        return await asyncio.to_thread(self._make, tenant, reference, value_of)

    def _make(self, tenant: str, reference: SecretRef, value_of: Callable[[], str]) -> SecretText:
        name = _name(tenant, reference)
        with self._writing():
            values = self._read()
            if name not in values:
                values[name] = value_of()
                self._write(values)
        return SecretText(values[name])

    def names(self) -> list[tuple[str, str]]:
        """Tenant and reference of each secret kept, sorted; never a value."""
        parts = (name.partition(" ") for name in self._read())
        return sorted((tenant, reference) for tenant, _, reference in parts)

    @contextmanager
    def _writing(self) -> Iterator[None]:
        """Keep other writers out, in this process and in others."""
        lock = os.open(self.path.with_suffix(".lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield
        finally:
            os.close(lock)

    def _key(self) -> AESGCM:
        try:
            mode = self.key_path.stat().st_mode
            written = self.key_path.read_bytes()
        except OSError as error:
            raise AuthFailed(f"The vault key {self.key_path} cannot be read: {error.strerror}.") from error
        if mode & 0o077:
            raise AuthFailed(
                f"The vault key {self.key_path} is open to others.", hint=f"Run: chmod 600 {self.key_path}"
            )
        try:
            key = base64.b64decode(written, validate=False)
        except ValueError:
            key = b""
        if len(key) != _KEY_BYTES:
            raise AuthFailed(f"{self.key_path} is no vault key: it does not hold 32 bytes in base64.")
        return AESGCM(key)

    def _read(self) -> dict[str, str]:
        try:
            sealed = self.path.read_bytes()
        except OSError as error:
            raise AuthFailed(f"The vault {self.path} cannot be read: {error.strerror}.") from error
        try:
            opened = self._key().decrypt(sealed[:_NONCE_BYTES], sealed[_NONCE_BYTES:], _PURPOSE)
        except (InvalidTag, ValueError) as error:
            raise AuthFailed(
                f"The vault {self.path} does not open: the key {self.key_path} is another vault's, "
                "or the file was altered.",
                hint="Bring the vault and its key back from the same backup.",
            ) from error
        values: dict[str, str] = json.loads(opened)
        return values

    def _write(self, values: dict[str, str]) -> None:
        nonce = secrets.token_bytes(_NONCE_BYTES)
        _replace(self.path, nonce + self._key().encrypt(nonce, json.dumps(values).encode(), _PURPOSE))


def _name(tenant: str, reference: SecretRef) -> str:
    return f"{tenant} {reference}"


def _replace(path: Path, content: bytes) -> None:
    """Put a file in place as a whole, readable by its owner only, and on disk before the old one is gone."""
    fresh = path.with_name(f"{path.name}.{secrets.token_hex(4)}.new")
    handle = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        fresh.replace(path)
    except BaseException:
        fresh.unlink(missing_ok=True)
        raise
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
