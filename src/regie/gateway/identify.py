"""Who asks: each domain's workers and the web have a token, made once for an installation and kept in a file."""

from __future__ import annotations

import fcntl
import hashlib
import hmac
import json
import os
import secrets
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from regie.core.errors import AuthFailed, Denied

WEB = "web"
"""The caller that passes on what comes in from outside."""
_WORKER = "worker:"
_TOKEN_BYTES = 32


@dataclass(frozen=True, slots=True)
class Caller:
    """Whoever asks, as its token says: `worker:DOMAIN` or `web`."""

    name: str

    @property
    def domain(self) -> str:
        """The domain a worker belongs to; empty for others."""
        return self.name.removeprefix(_WORKER) if self.name.startswith(_WORKER) else ""


def worker_of(domain: str) -> str:
    """The caller name of a domain's workers."""
    return f"{_WORKER}{domain}"


class Unidentified(Denied):
    """The request carries no token that we know: the answer is 401."""


class Callers:
    """Knows every token by its SHA-256; a look-up takes the same time whether a token is nearly right or not."""

    def __init__(self, tokens: Mapping[str, str]) -> None:
        self._known = {caller: _digest(token) for caller, token in tokens.items()}

    @classmethod
    def from_file(cls, path: Path) -> Callers:
        """Read the tokens that `make_tokens` wrote.

        Raises:
            AuthFailed: The file is missing, open to others, or holds something else.
        """
        return cls(_read(path))

    def identify(self, authorization: str | None) -> Caller:
        """Whose token an `Authorization` header carries.

        Raises:
            Unidentified: None that we know.
        """
        scheme, _, token = (authorization or "").partition(" ")
        given = _digest(token)
        found = [name for name, known in self._known.items() if hmac.compare_digest(known, given)]
        if scheme.lower() != "bearer" or not found:
            raise Unidentified("The gateway answers only callers with a token of this installation.")
        return Caller(found[0])


def make_tokens(path: Path, domains: Iterable[str]) -> dict[str, str]:
    """Give the web and each domain's workers a token, keep those there are, and return all by caller name."""
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    lock = os.open(path.with_suffix(".lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        known = _read(path) if path.exists() else {}
        missing = {WEB, *map(worker_of, domains)} - known.keys()
        if missing:
            known |= {caller: secrets.token_urlsafe(_TOKEN_BYTES) for caller in sorted(missing)}
            fresh = path.with_suffix(".new")
            handle = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
            with os.fdopen(handle, "w", encoding="utf-8") as file:
                json.dump(known, file, indent=2)
            fresh.replace(path)
        return known
    finally:
        os.close(lock)


def _read(path: Path) -> dict[str, str]:
    try:
        mode, written = path.stat().st_mode, path.read_bytes()
    except OSError as error:
        raise AuthFailed(f"The token file {path} cannot be read: {error.strerror}.") from error
    if mode & 0o077:
        raise AuthFailed(f"The token file {path} is open to others.", hint=f"Run: chmod 600 {path}")
    try:
        found = json.loads(written)
    except ValueError:
        found = None
    if not isinstance(found, dict) or not all(isinstance(token, str) and token for token in found.values()):
        raise AuthFailed(f"{path} is no token file: it does not hold one token for each caller.")
    return found


def _digest(token: str) -> bytes:
    return hashlib.sha256(token.encode()).digest()
