"""Files and a few fixed commands on a host that serves something: here, or (another implementation) over a network.

A connector may touch nothing outside the folders that its connection names, and run nothing but the commands that its
manifest spells out.
"""

from __future__ import annotations

import asyncio
import os
import secrets
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from regie.core.errors import AuthFailed, Denied, NotFound, OutcomeUnknown, Terminal, Unavailable
from regie.kit.access import Calls
from regie.kit.keys import Material, Resolve
from regie.kit.network import Network

COMMAND_S = 30.0
"""Seconds a command gets; a configuration test or a reload takes far less."""
LARGEST_FILE = 1024 * 1024
"""Bytes of a file that are read."""
LONGEST_OUTPUT = 2_000
"""Characters of a command's output that are kept."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a command ended. `said` is its output, both streams, for people: it may name files, never secrets."""

    code: int
    said: str

    @property
    def is_good(self) -> bool:
        """Whether it ended with 0."""
        return self.code == 0


class Host(ABC):
    """One connection's way to a host.

    Args:
        network: To see what the host serves.
        calls: Paces and watches; the manifest's endpoints are `/files` and `/commands/NAME`.
        resolve: Fills in what is written unread.
        folders: Where files may be.
        commands: Argument vectors by name.
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
        permissions: tuple[str, ...] = (),
    ) -> None:
        self.network = network
        self._calls = calls
        self._resolve = resolve
        self._folders = tuple(folders)
        self._commands = commands
        self._permissions = permissions

    @abstractmethod
    def needing(self, permissions: tuple[str, ...]) -> Self:
        """The same, for a capability that needs these permissions."""

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

    async def list_files(self) -> list[str]:
        """The paths of all files that lie directly in the connection's folders; a folder that is not there has none.

        Raises:
            AuthFailed: A folder may not be looked into.
            Unavailable: The host does not answer.
        """
        async with self._calls.one("GET", "/files", place=self.name):
            return [path for folder in self._folders for path in await self._list_files(folder)]

    async def write(self, path: str, *parts: bytes | Material, mode: int = 0o644) -> None:
        """Put a file in place as a whole: whoever opens it sees the old or the new one.

        Args:
            parts: What it holds, one after the other.
            mode: Who may read it; a file with a private key wants 0o600 or 0o640.

        Raises:
            Denied, AuthFailed, Unavailable: As for `read`.
            NotFound: Its folder does not exist.
            OutcomeUnknown: It may have been written.
        """
        self._allow(path)
        content = b"".join([await self._resolve(each) if isinstance(each, Material) else each for each in parts])
        async with self._calls.one("POST", "/files", place=self.name):
            await self._write(path, content, mode)

    async def remove(self, path: str) -> None:
        """Take a file away, if it is there. Raises what `write` raises."""
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
    async def _remove(self, path: str) -> None: ...

    @abstractmethod
    async def _run(self, arguments: Sequence[str]) -> Outcome: ...

    def _allow(self, path: str) -> None:
        parts = Path(path)
        inside = any(parts.is_relative_to(folder) and str(parts) != folder for folder in self._folders)
        if not parts.is_absolute() or ".." in parts.parts or not inside:
            raise Denied(f"{path} lies outside the folders of this connection")


class LocalHost(Host):
    """The machine that the gateway runs on."""

    def needing(self, permissions: tuple[str, ...]) -> LocalHost:
        """The same, for a capability that needs these permissions."""
        return LocalHost(
            network=self.network,
            calls=self._calls,
            resolve=self._resolve,
            folders=self._folders,
            commands=self._commands,
            permissions=permissions,
        )

    @property
    def name(self) -> str:
        """The host's name."""
        return "localhost"

    async def _read(self, path: str) -> bytes | None:
        def look() -> bytes | None:
            self._allow_where_it_leads(Path(path))
            try:
                with Path(path).open("rb") as file:
                    content = file.read(LARGEST_FILE + 1)
            except FileNotFoundError:
                return None
            except PermissionError:
                raise self._forbidden(path, "read") from None
            except OSError as error:
                raise Unavailable(f"{path} cannot be read: {error.strerror}") from None
            if len(content) > LARGEST_FILE:
                raise Terminal(f"{path} is larger than {LARGEST_FILE} bytes")
            return content

        return await asyncio.to_thread(look)

    async def _list_files(self, folder: str) -> list[str]:
        def look() -> list[str]:
            try:
                return [str(each) for each in Path(folder).iterdir() if each.is_file()]
            except FileNotFoundError:
                return []
            except PermissionError:
                raise self._forbidden(folder, "looked into") from None
            except OSError as error:
                raise Unavailable(f"{folder} cannot be looked into: {error.strerror}") from None

        return await asyncio.to_thread(look)

    async def _write(self, path: str, content: bytes, mode: int) -> None:
        def put() -> None:
            place = Path(path)
            self._allow_where_it_leads(place.parent)
            fresh = place.with_name(f".{place.name}.{secrets.token_hex(4)}.new")
            try:
                with os.fdopen(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode), "wb") as file:
                    os.fchmod(file.fileno(), mode)  # whatever the umask takes away
                    file.write(content)
                    file.flush()
                    os.fsync(file.fileno())
                fresh.replace(place)
            except FileNotFoundError:
                raise NotFound(f"there is no folder for {path}") from None
            except PermissionError:
                raise self._forbidden(path, "written") from None
            except OSError as error:
                raise OutcomeUnknown(f"{path} may have been written: {error.strerror}") from None
            finally:
                fresh.unlink(missing_ok=True)

        await asyncio.to_thread(put)

    async def _remove(self, path: str) -> None:
        def take() -> None:
            self._allow_where_it_leads(Path(path).parent)
            try:
                Path(path).unlink(missing_ok=True)
            except PermissionError:
                raise self._forbidden(path, "removed") from None
            except OSError as error:
                raise OutcomeUnknown(f"{path} may have been removed: {error.strerror}") from None

        await asyncio.to_thread(take)

    async def _run(self, arguments: Sequence[str]) -> Outcome:
        try:
            process = await asyncio.create_subprocess_exec(
                *arguments,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.STDOUT,
                env={"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL": "C"},
            )
        except OSError as error:
            raise Unavailable(f"{arguments[0]} could not be started: {error.strerror}") from None
        try:
            async with asyncio.timeout(COMMAND_S):
                output, _ = await process.communicate()
        except TimeoutError:
            raise OutcomeUnknown(f"{arguments[0]} did not end within {COMMAND_S:g} s") from None
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()
        said = output.decode("utf-8", "replace")[-LONGEST_OUTPUT:]
        return Outcome(process.returncode or 0, said)

    def _allow_where_it_leads(self, place: Path) -> None:
        """Refuse what a link leads out of the folders. What is replaced may be a link itself, so its folder counts."""
        if not any(place.resolve().is_relative_to(Path(folder).resolve()) for folder in self._folders):
            raise Denied(f"{place} leads out of the folders of this connection")

    def _forbidden(self, path: str, verb: str) -> AuthFailed:
        needed = ", ".join(self._permissions)
        return AuthFailed(f"{path} may not be {verb}", hint=f"does the gateway have {needed}?" if needed else None)
