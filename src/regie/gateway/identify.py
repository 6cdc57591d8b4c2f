"""Who asks: each domain's workers and the web have a token of an installation, each in a file of its own."""

from __future__ import annotations

import hmac
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import structlog

from regie.core.errors import Denied
from regie.core.token_digest import token_digest
from regie.settings import Settings

_log = structlog.get_logger(__name__)

WEB = "web"
"""The caller that passes on deliveries, has people sign in and out elsewhere, and has connections tried out."""
_WORKER = "worker:"


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
    """Knows every token by its SHA-256; a look-up takes the same time whether a token is nearly right or not.

    Args:
        tokens: Reads all tokens, by caller name; asked again for a token that is not known, which may be new.
    """

    def __init__(self, tokens: Callable[[], Mapping[str, str]]) -> None:
        self._tokens = tokens
        self._known = self._read()

    def identify(self, authorization: str | None) -> Caller:
        """Whose token an `Authorization` header carries.

        Raises:
            Unidentified: None that we know.
        """
        scheme, _, token = (authorization or "").partition(" ")
        found = self._find(token) if scheme.lower() == "bearer" else None
        if found is None:
            raise Unidentified("The gateway answers only callers with a token of this installation.")
        return Caller(found)

    def _find(self, token: str) -> str | None:
        given = token_digest(token)
        for known in (self._known, self._read()):
            names = [name for name, digest in known.items() if hmac.compare_digest(digest, given)]
            if names:
                self._known = known
                return names[0]
        return None

    def _read(self) -> dict[str, str]:
        return {name: token_digest(token) for name, token in self._tokens().items() if token}


def tokens_of(settings: Settings) -> dict[str, str]:
    """The tokens of an installation. A file that others may read is left out, and whoever holds it not let in."""
    files = {WEB: settings.web_token_file}
    for file in settings.keys.glob(settings.worker_token_file("*").name):
        before, _, after = settings.worker_token_file("*").name.partition("*")
        files[worker_of(file.name.removeprefix(before).removesuffix(after))] = file
    return {name: token for name, file in files.items() if (token := _private_text(file))}


def _private_text(file: Path) -> str:
    """What a file says that only its owner may read; nothing when there is none or others may."""
    try:
        if file.stat().st_mode & 0o077:
            _log.error("token:open_to_others", file=file.name, hint="chmod 600")
            return ""
        return file.read_text(encoding="utf-8").strip()
    except FileNotFoundError:
        return ""
