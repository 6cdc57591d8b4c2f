"""A bundle as it lies on disk: a folder or a zip file. Names are checked, nothing is unpacked."""

from __future__ import annotations

import hashlib
import json
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any, Protocol

from regie_verify.notes import Unreadable

SUMS = "sha256sums"
MOST_BYTES = 64 * 1024 * 1024
"""Of a file that is read at once; records are read line by line."""
LONGEST_LINE = 66_000
"""A record has at most 65,535 bytes."""
PART_BYTES = 1 << 20
FORMAT = "regie-audit-bundle/1"


class _Store(Protocol):
    def names(self) -> set[str]: ...

    def open(self, name: str) -> IO[bytes]: ...


class _Folder:
    def __init__(self, root: Path) -> None:
        self._root = root

    def names(self) -> set[str]:
        return {str(path.relative_to(self._root)) for path in self._root.rglob("*") if path.is_file()}

    def open(self, name: str) -> IO[bytes]:
        return (self._root / name).open("rb")


class _Zip:
    def __init__(self, file: Path) -> None:
        self._zip = zipfile.ZipFile(file)

    def names(self) -> set[str]:
        return {info.filename for info in self._zip.infolist() if not info.is_dir()}

    def open(self, name: str) -> IO[bytes]:
        return self._zip.open(name)


class Bundle:
    """One bundle.

    Args:
        path: Folder or zip file.

    Raises:
        Unreadable: It is no bundle.
    """

    def __init__(self, path: Path) -> None:
        try:
            self._store: _Store = _Folder(path) if path.is_dir() else _Zip(path)
        except (OSError, zipfile.BadZipFile) as error:
            raise Unreadable(f"{path} cannot be opened: {type(error).__name__}") from error
        self.names = self._store.names()
        manifest = self.json("manifest.json")
        try:
            if manifest["format"] != FORMAT:
                raise Unreadable(f"a bundle of the form {manifest['format']!r} cannot be checked here")
            self.origin = str(manifest["origin"])
            self.anchor = str(manifest["anchor"])
            self.first, self.end, self.size = (int(manifest[name]) for name in ("first", "end", "size"))
        except (KeyError, TypeError, ValueError):
            raise Unreadable("manifest.json does not say what the bundle holds") from None
        if not 0 <= self.first <= self.end <= self.size:
            raise Unreadable("manifest.json names records that a log of that size cannot have")

    def text(self, name: str) -> str:
        """The text of a file."""
        try:
            return self.content(name).decode()
        except UnicodeDecodeError:
            raise Unreadable(f"{name} is no text") from None

    def content(self, name: str) -> bytes:
        """The content of a file."""
        if name not in self.names:
            raise Unreadable(f"{name} is missing")
        with self._store.open(name) as opened:
            content = opened.read(MOST_BYTES + 1)
        if len(content) > MOST_BYTES:
            raise Unreadable(f"{name} is too long")
        return content

    def json(self, name: str) -> Any:
        """A file that is JSON."""
        try:
            return json.loads(self.content(name))
        except (ValueError, RecursionError):
            raise Unreadable(f"{name} is no JSON") from None

    def lines(self, name: str) -> Iterator[bytes]:
        """The lines of a file, without their ends."""
        if name not in self.names:
            raise Unreadable(f"{name} is missing")
        with self._store.open(name) as opened:
            while line := opened.readline(LONGEST_LINE):
                yield line.rstrip(b"\n")

    def files_that_differ(self) -> list[str]:
        """What is wrong with files by the list of their digests."""
        lines = (line.partition("  ") for line in self.text(SUMS).splitlines())
        listed = {name: digest for digest, gap, name in lines if gap}
        wrong = [f"{name} is missing" for name in sorted(set(listed) - self.names)]
        wrong += [f"{name} is not listed" for name in sorted(self.names - set(listed) - {SUMS})]
        wrong += [
            f"{name} was changed" for name in sorted(set(listed) & self.names) if self._digest(name) != listed[name]
        ]
        return wrong

    def _digest(self, name: str) -> str:
        with self._store.open(name) as opened:
            digest = hashlib.sha256()
            while part := opened.read(PART_BYTES):
                digest.update(part)
            return digest.hexdigest()
