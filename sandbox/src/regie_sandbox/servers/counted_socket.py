"""A socket before HAProxy's own that counts how often a certificate was replaced over it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

_DONE = b"Success!"
"""What HAProxy says when it has taken a certificate up (management guide, 9.3, "commit ssl cert")."""


class CountedSocket:
    """Passes on what is said to HAProxy and back.

    Attributes:
        commits: How many certificates were taken up. They are written down at once, to be known after a restart.
    """

    def __init__(self, behind: Path, tally: Path) -> None:
        self._behind, self._tally = behind, tally
        self.commits = int(tally.read_text()) if tally.exists() else 0

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            theirs, to_them = await asyncio.open_unix_connection(self._behind)
        except OSError:
            writer.close()
            return
        question = asyncio.create_task(_pass_on(reader, to_them))
        said = b""
        try:
            while some := await theirs.read(65536):
                said += some
                writer.write(some)
            await writer.drain()
        except OSError:
            pass
        finally:
            if _DONE in said:
                self.commits += 1
                self._tally.write_text(str(self.commits))
            question.cancel()
            to_them.close()
            writer.close()

    @asynccontextmanager
    async def open(self, path: Path) -> AsyncIterator[Path]:
        """Listen there for as long as the block takes."""
        path.unlink(missing_ok=True)  # noqa: ASYNC240  nothing is served yet
        server = await asyncio.start_unix_server(self._serve, path)
        path.chmod(0o600)  # noqa: ASYNC240  nothing is served yet
        try:
            yield path
        finally:
            server.close()


async def _pass_on(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while some := await reader.read(65536):
            writer.write(some)
            await writer.drain()
        writer.write_eof()
    except OSError:
        pass
