"""The gateway's own machine as a host; one that is signed in to is in `gateway/ssh.py`."""

from __future__ import annotations

import asyncio
import errno
import os
import secrets
from collections.abc import Sequence
from pathlib import Path

from regie.core.errors import AuthFailed, Denied, NotFound, OutcomeUnknown, Terminal, Unavailable
from regie.kit.host import ANSWER_S, COMMAND_S, LARGEST_FILE, LONGEST_OUTPUT, Host, Outcome, no_link, not_written

_FULL = frozenset({errno.ENOSPC, errno.EDQUOT})


class LocalHost(Host):
    """The machine that the gateway runs on."""

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
                raise not_written(path, self.name, is_full=error.errno in _FULL) from None
            finally:
                fresh.unlink(missing_ok=True)

        await asyncio.to_thread(put)

    async def _make_folder(self, path: str) -> None:
        def make() -> None:
            self._allow_where_it_leads(Path(path).parent)
            try:
                Path(path).mkdir(exist_ok=True)
            except FileNotFoundError:
                raise NotFound(f"there is no folder for {path}") from None
            except PermissionError:
                raise self._forbidden(path, "made") from None
            except OSError as error:
                raise not_written(path, self.name, is_full=error.errno in _FULL) from None

        await asyncio.to_thread(make)

    async def _leads_to(self, path: str) -> str | None:
        def look() -> str | None:
            self._allow_where_it_leads(Path(path).parent)
            try:
                return str(Path(path).readlink())
            except FileNotFoundError:
                return None
            except PermissionError:
                raise self._forbidden(path, "read") from None
            except OSError as error:
                if error.errno == errno.EINVAL:
                    raise no_link(path, self.name) from None
                raise Unavailable(f"{path} cannot be read: {error.strerror}") from None

        return await asyncio.to_thread(look)

    async def _point(self, path: str, to: str) -> None:
        def put() -> None:
            place = Path(path)
            self._allow_where_it_leads(place.parent)
            fresh = place.with_name(f".{place.name}.{secrets.token_hex(4)}.new")
            try:
                fresh.symlink_to(to)
                fresh.replace(place)
            except FileNotFoundError:
                raise NotFound(f"there is no folder for {path}") from None
            except PermissionError:
                raise self._forbidden(path, "written") from None
            except IsADirectoryError:
                raise no_link(path, self.name) from None
            except OSError as error:
                raise not_written(path, self.name, is_full=error.errno in _FULL) from None
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

    async def _ask(self, path: str, content: bytes) -> str:
        try:
            async with asyncio.timeout(ANSWER_S):
                reader, writer = await asyncio.open_unix_connection(path)
        except PermissionError:
            raise self._forbidden(path, "spoken to") from None
        except (OSError, TimeoutError) as error:
            raise Unavailable(f"nobody listens at {path}: {type(error).__name__}") from None
        try:
            async with asyncio.timeout(ANSWER_S):
                writer.write(content)
                await writer.drain()
                writer.write_eof()
                answer = await reader.read()
        except (OSError, TimeoutError) as error:
            raise OutcomeUnknown(f"what was sent to {path} got no answer: {type(error).__name__}") from None
        finally:
            writer.close()
        return answer.decode("utf-8", "replace")[:LONGEST_OUTPUT]

    def _allow_where_it_leads(self, place: Path) -> None:
        """Refuse what a link leads out of the folders. What is replaced may be a link itself, so its folder counts."""
        if not any(place.resolve().is_relative_to(Path(folder).resolve()) for folder in self._folders):
            raise Denied(f"{place} leads out of the folders of this connection")

    def _forbidden(self, path: str, verb: str) -> AuthFailed:
        needed = ", ".join(self._permissions)
        return AuthFailed(f"{path} may not be {verb}", hint=f"does the gateway have {needed}?" if needed else None)
