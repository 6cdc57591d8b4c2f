"""TLS servers: of Python's `ssl`, with whatever certificates are asked for; and a farm of endpoints. On loopback."""

from __future__ import annotations

import asyncio
import json
import ssl
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

from regie_sandbox.authority import Issued
from regie_sandbox.tls_farm import until_the_end

Serve = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


def context(folder: Path, *chain: Issued) -> ssl.SSLContext:
    file = folder / f"{chain[0].certificate.serial_number}.pem"
    file.write_bytes(chain[0].key_pem + b"".join(each.pem for each in chain))
    made = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    made.load_cert_chain(file)
    return made


@asynccontextmanager
async def serving(with_tls: ssl.SSLContext | None, serve: Serve = until_the_end) -> AsyncIterator[int]:
    """The port of a server."""
    server = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=with_tls)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()


@asynccontextmanager
async def farm(folder: Path, count: int) -> AsyncIterator[list[dict[str, str | int]]]:
    """A farm of endpoints in a process of its own: how each of them behaves."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "regie_sandbox.tls_farm", str(folder), "--endpoints", str(count)),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
    )
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        assert await process.stdout.readline() == b"ready\n"
        yield json.loads((folder / "endpoints.json").read_text(encoding="utf-8"))
    finally:
        process.stdin.close()
        await process.wait()
