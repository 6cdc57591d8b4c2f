"""A host over SSH: files by SFTP, commands and sockets through the same connection; `access.py` makes it.

The host's key is pinned in the connection's settings, ours comes from the vault. Nothing of the gateway's own machine
is used: no configuration, no agent, no file of known hosts.
"""

from __future__ import annotations

import asyncio
import secrets
import shlex
import stat
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any

import asyncssh

from regie.core.errors import AuthFailed, Denied, NotFound, OutcomeUnknown, RegieError, Terminal, Unavailable
from regie.gateway.authentication import Secret
from regie.gateway.vault import SecretText
from regie.kit.host import ANSWER_S, COMMAND_S, LARGEST_FILE, LONGEST_OUTPUT, Host, Outcome, no_link, not_written
from regie.kit.reaching import Dialler, Unreached, told

LOGIN_S = 10.0
"""Seconds to come to a connection, signing in included."""
KEEP_ALIVE_S = 15.0
PORT = 22
_BLOCK = 4096
"""Bytes that a folder or a link takes at most, and that a file takes at least."""
_LOST = (asyncssh.SFTPConnectionLost, asyncssh.SFTPNoConnection)
_FULL = (asyncssh.SFTPNoSpaceOnFilesystem, asyncssh.SFTPQuotaExceeded)


@dataclass(frozen=True, slots=True)
class SshPlace:
    """Where to sign in.

    Attributes:
        address: `HOST` or `HOST:PORT`.
        host_key: The host's public key, as a line of `ssh-keyscan` has it after the name: `ssh-ed25519 AAAA...`.
    """

    address: str
    user: str
    host_key: str

    @property
    def door(self) -> tuple[str, int]:
        """Host and port."""
        host, _, port = self.address.rpartition(":")
        return (host.strip("[]"), int(port)) if host and port.isdigit() else (self.address, PORT)


class Ssh:
    """One connection to a host, made when it is first needed and again when it has gone.

    Args:
        private_key: Looks our private key up, in OpenSSH's or PEM form.
        dialler: Says where it may go.
    """

    def __init__(self, place: SshPlace, private_key: Secret, dialler: Dialler) -> None:
        self.place = place
        self._dialler = dialler
        self._private_key = private_key
        self._turn = asyncio.Lock()
        self._connection: asyncssh.SSHClientConnection | None = None
        self._files: asyncssh.SFTPClient | None = None

    async def aclose(self) -> None:
        """Sign out."""
        if self._connection is not None:
            self._connection.abort()
        self._connection = self._files = None

    async def connection(self) -> asyncssh.SSHClientConnection:
        """The connection, open.

        Raises:
            Denied: It leads to no address that may be reached.
            AuthFailed: The host is not the one whose key is pinned, or does not let us in.
            Unavailable: It does not answer.
        """
        async with self._turn:
            if self._connection is None or self._connection.is_closed():
                self._connection, self._files = await self._sign_in(), None
            return self._connection

    async def files(self) -> asyncssh.SFTPClient:
        """Its files. Raises what `connection` raises."""
        connection = await self.connection()
        async with self._turn:
            if self._files is None:
                # Names that are no UTF-8 are taken as they are: one of them must not hide all others of its folder.
                self._files = await connection.start_sftp_client(path_errors="surrogateescape")
            return self._files

    async def _sign_in(self) -> asyncssh.SSHClientConnection:
        host, port = self.place.door
        where = f"{host}:{port}"
        try:
            pinned = asyncssh.import_public_key(self.place.host_key)
        except asyncssh.KeyImportError:
            raise Denied(f"the pinned key of {where} is no public key of a host") from None
        shown = await self._private_key()
        try:
            return await self._sign_in_with(shown, pinned)
        except AuthFailed:
            newer = await self._private_key(shown)
            if newer.is_same(shown):
                raise
            return await self._sign_in_with(newer, pinned)

    async def _sign_in_with(self, secret: SecretText, pinned: asyncssh.SSHKey) -> asyncssh.SSHClientConnection:
        host, port = self.place.door
        where = f"{host}:{port}"
        try:
            ours = asyncssh.import_private_key(secret.reveal())
        except asyncssh.KeyImportError:
            raise AuthFailed(
                f"the private key for {where} cannot be used", hint="Is it whole, without a passphrase?"
            ) from None
        try:
            opened, _ = await self._dialler.connect(host, port, LOGIN_S)
        except Unreached as error:
            raise told(error, where) from None
        try:
            return await asyncssh.connect(
                host,
                port,
                sock=opened,
                username=self.place.user,
                client_keys=[ours],
                known_hosts=([pinned], [], []),
                preferred_auth="publickey",
                agent_path=None,
                config=None,
                login_timeout=LOGIN_S,
                connect_timeout=LOGIN_S,
                keepalive_interval=KEEP_ALIVE_S,
            )
        except asyncssh.HostKeyNotVerifiable:
            opened.close()
            raise AuthFailed(
                f"{where} shows another key than the one that is pinned", hint="Is it that host?"
            ) from None
        except asyncssh.PermissionDenied:
            opened.close()
            raise AuthFailed(f"{where} does not let {self.place.user} in", hint="Is our public key there?") from None
        except (asyncssh.Error, OSError, TimeoutError) as error:
            opened.close()
            raise Unavailable(f"{where} does not let us sign in: {type(error).__name__}") from None


class SshHost(Host):
    """A host that the gateway signs in to.

    Args:
        ssh: The way there.
        others: What every host takes; see `kit.host.Host`.
    """

    def __init__(self, ssh: Ssh, **others: Any) -> None:
        super().__init__(**others)
        self._ssh = ssh

    @property
    def name(self) -> str:
        """The host's name."""
        return self._ssh.place.door[0]

    async def _read(self, path: str) -> bytes | None:
        async with self._speaking(path, "read") as files:
            try:
                await self._allow_where_it_leads(files, path)
                async with files.open(path, "rb") as file:
                    content: bytes = await file.read(LARGEST_FILE + 1)
            except asyncssh.SFTPNoSuchFile:
                return None
        if len(content) > LARGEST_FILE:
            raise Terminal(f"{path} is larger than {LARGEST_FILE} bytes")
        return content

    async def _list_files(self, folder: str) -> list[str]:
        async with self._speaking(folder, "looked into") as files:
            try:
                listed = [
                    (f"{folder}/{each.filename!s}", each.attrs.permissions) for each in await files.readdir(folder)
                ]
                return [path for path, mode in listed if await _is_file(files, path, mode)]
            except asyncssh.SFTPNoSuchFile:
                return []

    async def _write(self, path: str, content: bytes, mode: int) -> None:
        fresh = _beside(path)
        needed = len(content)
        async with self._speaking(path, "written", writes=True) as files, self._putting(files, path, fresh, needed):
            async with files.open(fresh, "xb", asyncssh.SFTPAttrs(permissions=mode)) as file:
                await file.chmod(mode)  # whatever the umask takes away
                await file.write(content)
                await file.fsync()
            await files.posix_rename(fresh, path)

    async def _make_folder(self, path: str) -> None:
        async with self._speaking(path, "made", writes=True) as files, self._putting(files, path, None, _BLOCK):
            if not await files.isdir(path):
                await files.mkdir(path)

    async def _leads_to(self, path: str) -> str | None:
        async with self._speaking(path, "read") as files:
            try:
                await self._allow_where_it_leads(files, str(PurePosixPath(path).parent))
                if (await files.lstat(path)).type != asyncssh.FILEXFER_TYPE_SYMLINK:
                    raise no_link(path, self.name)
                return str(await files.readlink(path))
            except asyncssh.SFTPNoSuchFile:
                return None

    async def _point(self, path: str, to: str) -> None:
        fresh = _beside(path)
        async with self._speaking(path, "written", writes=True) as files, self._putting(files, path, fresh, _BLOCK):
            await files.symlink(to, fresh)
            await files.posix_rename(fresh, path)

    async def _remove(self, path: str) -> None:
        async with self._speaking(path, "removed", writes=True) as files:
            try:
                await self._allow_where_it_leads(files, str(PurePosixPath(path).parent))
            except asyncssh.SFTPNoSuchFile:
                return
            await _remove(files, path)

    async def _run(self, arguments: Sequence[str]) -> Outcome:
        connection = await self._ssh.connection()
        try:
            ended = await connection.run(
                shlex.join(arguments),
                stdin=asyncssh.DEVNULL,
                stderr=asyncssh.STDOUT,
                timeout=COMMAND_S,
                errors="replace",
            )
        except asyncssh.ChannelOpenError as error:
            raise Unavailable(f"{arguments[0]} could not be started on {self.name}: {error.reason}") from None
        except (asyncssh.Error, OSError, TimeoutError) as error:
            raise OutcomeUnknown(f"{arguments[0]} on {self.name} gave no answer: {type(error).__name__}") from None
        if ended.exit_status is None:
            raise OutcomeUnknown(f"{arguments[0]} on {self.name} ended without saying how")
        return Outcome(ended.exit_status, str(ended.stdout or "")[-LONGEST_OUTPUT:])

    async def _ask(self, path: str, content: bytes) -> str:
        connection = await self._ssh.connection()
        try:
            reader, writer = await connection.open_unix_connection(path, encoding=None)
        except (asyncssh.Error, OSError) as error:
            raise Unavailable(f"nobody listens at {path} on {self.name}: {type(error).__name__}") from None
        try:
            async with asyncio.timeout(ANSWER_S):
                writer.write(content)
                await writer.drain()
                writer.write_eof()
                answer: bytes = await reader.read()
        except (asyncssh.Error, OSError, TimeoutError) as error:
            raise OutcomeUnknown(f"what was sent to {path} got no answer: {type(error).__name__}") from None
        finally:
            writer.close()
        return answer.decode("utf-8", "replace")[:LONGEST_OUTPUT]

    @asynccontextmanager
    async def _speaking(self, path: str, verb: str, *, writes: bool = False) -> AsyncIterator[asyncssh.SFTPClient]:
        """Speak SFTP, with failures as our errors.

        Args:
            verb: What is done to the path, for messages.
            writes: A lost answer may mean that it happened.
        """
        try:
            yield await self._ssh.files()
        except asyncssh.SFTPPermissionDenied:
            needed = ", ".join(self._permissions)
            raise AuthFailed(
                f"{path} on {self.name} may not be {verb}",
                hint=f"has {self._ssh.place.user} {needed}?" if needed else None,
            ) from None
        except (asyncssh.Error, OSError, TimeoutError) as error:
            lost = OutcomeUnknown if writes else Unavailable
            raise lost(f"{path} on {self.name} was not {verb} for certain: {type(error).__name__}") from None

    @asynccontextmanager
    async def _putting(
        self, files: asyncssh.SFTPClient, path: str, fresh: str | None, size: int
    ) -> AsyncIterator[None]:
        """Put something in place below the connection's folders; what the host refuses has not happened.

        Args:
            fresh: What is taken away if it fails.
            size: Bytes that are needed.
        """
        folder = str(PurePosixPath(path).parent)
        try:
            await self._allow_where_it_leads(files, folder)
            yield
        except asyncssh.SFTPNoSuchFile:
            raise NotFound(f"there is no folder for {path}") from None
        except _LOST:
            raise
        except (asyncssh.SFTPError, RegieError) as error:
            # Before what was written so far is taken away: it may be what fills the disk.
            is_full = isinstance(error, _FULL) or (
                isinstance(error, asyncssh.SFTPFailure) and await _is_full(files, folder, size)
            )
            if fresh is not None:
                await _remove(files, fresh)
            if isinstance(error, RegieError | asyncssh.SFTPPermissionDenied):
                raise
            raise not_written(path, self.name, is_full=is_full) from None

    async def _allow_where_it_leads(self, files: asyncssh.SFTPClient, path: str) -> None:
        """Refuse what a link leads out of the folders; links are followed on the host."""
        leads = PurePosixPath(str(await files.realpath(path)))
        for folder in self._folders:
            if leads.is_relative_to(str(await files.realpath(folder))):
                return
        raise Denied(f"{path} leads out of the folders of this connection")


async def _is_file(files: asyncssh.SFTPClient, path: str, mode: int | None) -> bool:
    """Whether it is a file, or a link to one; only links are asked about by themselves."""
    if mode is None or not stat.S_IFMT(mode) or stat.S_ISLNK(mode):
        return await files.isfile(path)
    return stat.S_ISREG(mode)


async def _remove(files: asyncssh.SFTPClient, path: str) -> None:
    try:
        await files.remove(path)
    except asyncssh.SFTPNoSuchFile:
        return


async def _is_full(files: asyncssh.SFTPClient, folder: str, size: int) -> bool:
    """Whether there is no space for so many bytes, or for one more file. OpenSSH says `Failure` of a full disk."""
    try:
        disk = await files.statvfs(folder)
    except asyncssh.SFTPOpUnsupported:
        return False
    return disk.bavail * disk.frsize < max(size, _BLOCK) or (disk.files > 0 and disk.favail == 0)


def _beside(path: str) -> str:
    place = PurePosixPath(path)
    return str(place.with_name(f".{place.name}.{secrets.token_hex(4)}.new"))
