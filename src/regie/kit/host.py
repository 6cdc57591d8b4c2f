"""Files and a few fixed commands on a host that serves something: this one (`local_host.py`), or one over a network.

A connector may touch nothing outside the folders that its connection names, and run nothing but the commands that its
manifest spells out.
"""

from __future__ import annotations

import copy
import re
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from regie.core.errors import Denied, NotFound, Refused
from regie.kit.access import Calls
from regie.kit.keys import Material, Resolve
from regie.kit.network import Network

COMMAND_S = 30.0
"""Seconds a command gets; a configuration test or a reload takes far less."""
LARGEST_FILE = 1024 * 1024
"""Bytes of a file that are read."""
LONGEST_OUTPUT = 2_000
"""Characters of a command's output, or of an answer over a socket, that are kept."""
ANSWER_S = 10.0
"""Seconds that whoever listens at a socket gets for its answer."""
_PEM = re.compile(rb"-----BEGIN ([A-Z0-9 ]+)-----\r?\n.*?-----END \1-----", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a command ended. `said` is its output, both streams, for people: it may name files, never secrets."""

    code: int
    said: str

    @property
    def is_good(self) -> bool:
        """Whether it ended with 0."""
        return self.code == 0


@dataclass(frozen=True, slots=True)
class Stored:
    """Bytes that an implementation may pass on and not read: the PEM blocks of a file on the host, one after the other.

    What stands around them, comments and empty lines, is left out.
    """

    path: str


Piece = bytes | Material | Stored
"""A part of what is written or sent; what is no bytes is filled in at the last moment."""


class Host(ABC):
    """One connection's way to a host.

    Args:
        network: To see what the host serves.
        calls: Paces and watches; the manifest's endpoints are `/files`, `/commands/NAME` and `/sockets/NAME`.
        resolve: Fills in what is written unread.
        folders: Where files may be.
        commands: Argument vectors by name.
        sockets: Paths of the sockets that may be spoken to, by name.
        permissions: What the current capability needs.
    """

    def __init__(
        self,
        *,
        network: Network,
        calls: Calls,
        resolve: Resolve,
        folders: Sequence[str],
        commands: Mapping[str, Sequence[str]],
        sockets: Mapping[str, str] | None = None,
        permissions: tuple[str, ...] = (),
    ) -> None:
        self.network = network
        self._calls = calls
        self._resolve = resolve
        self._folders = tuple(folders)
        self._commands = commands
        self._sockets = sockets or {}
        self._permissions = permissions

    def needing(self, permissions: tuple[str, ...]) -> Self:
        """The same, for a capability that needs these permissions."""
        other = copy.copy(self)
        other._permissions = permissions  # noqa: SLF001  of its own class
        return other

    async def read(self, path: str) -> bytes | None:
        """What a file holds; none when there is no such file.

        Raises:
            Denied: It lies outside the connection's folders.
            AuthFailed: It may not be read.
            Terminal: It is larger than any file we use.
            Unavailable: The host does not answer.
        """
        self._allow(path)
        async with self._calls.one("GET", "/files", place=self.name):
            return await self._read(path)

    async def certificates(self, path: str) -> bytes | None:
        """The certificates in a file, as PEM, without the private key that may stand beside them.

        None when there is no such file. Raises what `read` raises.
        """
        content = await self.read(path)
        return None if content is None else b"".join(_blocks(content, only=b"CERTIFICATE"))

    async def list_files(self) -> list[str]:
        """The paths of all files that lie directly in the connection's folders; a folder that is not there has none.

        Raises:
            AuthFailed: A folder may not be looked into.
            Unavailable: The host does not answer.
        """
        async with self._calls.one("GET", "/files", place=self.name):
            return [path for folder in self._folders for path in await self._list_files(folder)]

    async def write(self, path: str, *parts: Piece, mode: int = 0o644) -> None:
        """Put a file in place as a whole: whoever opens it sees the old or the new one.

        Args:
            parts: What it holds, one after the other.
            mode: Who may read it; a file with a private key wants 0o600 or 0o640.

        Raises:
            Denied, AuthFailed, Unavailable: As for `read`.
            NotFound: Its folder does not exist, or a file that is passed on.
            Refused: The host cannot write it, such as for a full disk (code `disk-full`). Nothing has changed.
            OutcomeUnknown: It may have been written.
        """
        self._allow(path)
        content = await self._fill_in(parts)
        async with self._calls.one("POST", "/files", place=self.name):
            await self._write(path, content, mode)

    async def holds(self, path: str, *parts: Piece) -> bool:
        """Whether a file holds just this. Nobody learns what it holds, so it may be a private key. Raises as `read`."""
        return await self.read(path) == await self._fill_in(parts)

    async def make_folder(self, path: str) -> None:
        """Have a folder; who may look into it, and whose group it gets, is as the host does it. Raises as `write`."""
        self._allow(path)
        async with self._calls.one("POST", "/files", place=self.name):
            await self._make_folder(path)

    async def leads_to(self, path: str) -> str | None:
        """Where a link leads, as it says itself; none when nothing is there. Nothing is followed.

        Raises:
            Refused: Something is there that is no link.
            Denied, AuthFailed, Unavailable: As for `read`.
        """
        self._allow(path)
        async with self._calls.one("GET", "/files", place=self.name):
            return await self._leads_to(path)

    async def point(self, path: str, to: str) -> None:
        """Have a link lead elsewhere, in one step: whoever follows it comes to where it led, or to where it leads now.

        Args:
            to: As the link is to say it: seen from the link's own folder, or absolute.

        Raises what `write` raises; Denied also when it would lead out of the connection's folders.
        """
        self._allow(path)
        self._allow(str(Path(path).parent / to))
        async with self._calls.one("POST", "/files", place=self.name):
            await self._point(path, to)

    async def remove(self, path: str) -> None:
        """Take a file or a link away, if it is there. Raises what `write` raises."""
        self._allow(path)
        async with self._calls.one("POST", "/files", place=self.name):
            await self._remove(path)

    async def run(self, command: str) -> Outcome:
        """Run one of the manifest's commands.

        Raises:
            Denied: The manifest has no such command.
            Unavailable: It could not be started.
            OutcomeUnknown: It did not end in time.
        """
        if command not in self._commands:
            raise Denied(f"{self._calls.vendor} has no command {command}")
        async with self._calls.one("POST", f"/commands/{command}", place=self.name):
            return await self._run(self._commands[command])

    async def ask(self, socket: str, *parts: Piece) -> str:
        """Send something to one of the manifest's sockets, end there, and give all that is answered.

        Raises:
            Denied: The manifest has no such socket.
            Unavailable: Nobody listens there.
            OutcomeUnknown: It was sent, and the answer did not end in time.
        """
        if socket not in self._sockets:
            raise Denied(f"{self._calls.vendor} has no socket {socket}")
        content = await self._fill_in(parts)
        async with self._calls.one("POST", f"/sockets/{socket}", place=self.name):
            return await self._ask(self._sockets[socket], content)

    @property
    @abstractmethod
    def name(self) -> str:
        """The host's name for messages and figures."""

    @abstractmethod
    async def _read(self, path: str) -> bytes | None: ...

    @abstractmethod
    async def _list_files(self, folder: str) -> list[str]: ...

    @abstractmethod
    async def _write(self, path: str, content: bytes, mode: int) -> None: ...

    @abstractmethod
    async def _make_folder(self, path: str) -> None: ...

    @abstractmethod
    async def _leads_to(self, path: str) -> str | None: ...

    @abstractmethod
    async def _point(self, path: str, to: str) -> None: ...

    @abstractmethod
    async def _remove(self, path: str) -> None: ...

    @abstractmethod
    async def _run(self, arguments: Sequence[str]) -> Outcome: ...

    @abstractmethod
    async def _ask(self, path: str, content: bytes) -> str: ...

    async def _fill_in(self, parts: Sequence[Piece]) -> bytes:
        filled: list[bytes] = []
        for part in parts:
            match part:
                case Material():
                    filled.append(await self._resolve(part))
                case Stored(path):
                    content = await self.read(path)
                    if content is None:
                        raise NotFound(f"there is no file {path}")
                    filled.extend(_blocks(content))
                case bytes():
                    filled.append(part)
        return b"".join(filled)

    def _allow(self, path: str) -> None:
        parts = Path(path)
        inside = any(parts.is_relative_to(folder) and str(parts) != folder for folder in self._folders)
        if not parts.is_absolute() or ".." in parts.parts or not inside:
            raise Denied(f"{path} lies outside the folders of this connection")


def not_written(path: str, host: str, *, is_full: bool) -> Refused:
    """The error to raise where a host says that it cannot write something, and nothing has changed."""
    if is_full:
        hint = f"Free some space for {Path(path).parent} on {host}, or have the account's quota raised."
        return Refused(f"there is no space left for {path} on {host}", status=0, code="disk-full", hint=hint)
    hint = "Is its file system mounted read-only, or does it lack something that a plain file system has?"
    return Refused(f"{host} cannot write {path}", status=0, code="not-written", hint=hint)


def no_link(path: str, host: str) -> Refused:
    """The error to raise where something else is in the place of a link."""
    hint = f"Rename it and link to it: mv {path} {path}-before && ln -s {Path(path).name}-before {path}"
    return Refused(f"{path} on {host} is no link", status=0, code="no-link", hint=hint)


def _blocks(content: bytes, only: bytes | None = None) -> list[bytes]:
    """The blocks of a PEM file (RFC 7468), each with the end of its line; those with one label, or all."""
    return [each.group() + b"\n" for each in _PEM.finditer(content) if only in {None, each.group(1)}]
