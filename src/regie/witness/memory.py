"""What a witness keeps in its folder: its name and key, and the newest checkpoint of each log that it has signed."""

from __future__ import annotations

import base64
import fcntl
import hashlib
import json
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from regie.core.errors import AuthFailed, InvalidInput
from regie.core.signed_note import Checkpoint, KeyKind, SigningKey, VerifierKey

SEED_BYTES = 32


class Memory:
    """The folder of one witness.

    Args:
        folder: Made on first use, for its owner alone.
        name: The witness's name, kept from the first time on.
    """

    def __init__(self, folder: Path, name: str = "") -> None:
        self._folder = folder
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        if not self._key_file.exists():
            if not name:
                raise InvalidInput("A new witness needs a name.", hint="Give one with --name, such as witness.example.")
            seed = base64.b64encode(secrets.token_bytes(SEED_BYTES)).decode()
            _write(self._key_file, json.dumps({"name": name, "seed": seed}))
        if self._key_file.stat().st_mode & 0o077:
            raise AuthFailed(f"Others may read the key file {self._key_file}.", hint=f"chmod 600 {self._key_file}")
        kept = json.loads(self._key_file.read_text(encoding="utf-8"))
        self.name: str = kept["name"]
        if name and name != self.name:
            raise InvalidInput(f"The witness in {folder} is called {self.name}.", hint="A name stays with its key.")
        self.key = SigningKey(base64.b64decode(kept["seed"]))

    @property
    def verifier(self) -> VerifierKey:
        """What others check its lines with."""
        return self.key.verifier(self.name, KeyKind.WITNESS)

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Keep other processes from signing out of the same folder.

        Raises:
            InvalidInput: One already does.
        """
        with (self._folder / "witness.lock").open("w") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise InvalidInput(f"A witness already works in {self._folder}.") from None
            yield

    def seen(self, origin: str) -> Checkpoint | None:
        """The newest checkpoint of a log that was signed here."""
        try:
            return Checkpoint.parse(self._file(origin).read_text(encoding="utf-8"))
        except FileNotFoundError:
            return None

    def keep(self, checkpoint: Checkpoint) -> None:
        """Remember a checkpoint so that no crash forgets it."""
        _write(self._file(checkpoint.origin), checkpoint.body)

    @property
    def _key_file(self) -> Path:
        return self._folder / "key.json"

    def _file(self, origin: str) -> Path:
        return self._folder / f"{hashlib.sha256(origin.encode()).hexdigest()}.checkpoint"


def _write(file: Path, text: str) -> None:
    """Put the whole text in place or none of it; only the owner may read it."""
    draft = file.with_suffix(".new")
    draft.unlink(missing_ok=True)
    with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8") as opened:
        opened.write(text)
        opened.flush()
        os.fsync(opened.fileno())
    draft.replace(file)
    folder = os.open(file.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
