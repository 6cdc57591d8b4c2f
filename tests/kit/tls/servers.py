"""TLS servers for the tests: of Python's `ssl`, on 127.0.0.1, with whatever certificates are asked for."""

from __future__ import annotations

import asyncio
import ipaddress
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

from regie.kit.tls.handshake import Client, Limits
from regie.kit.tls.reaching import LookUp, Reach
from regie_sandbox.authority import Issued

LOOPBACK = (ipaddress.ip_network("127.0.0.0/8"),)
QUICK = Limits(connect_s=2, handshake_s=2)

Serve = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


def client(limits: Limits = QUICK, look_up: LookUp | None = None) -> Client:
    return Client(Reach(LOOPBACK, look_up=look_up), limits)


def context(folder: Path, *chain: Issued) -> ssl.SSLContext:
    file = folder / f"{chain[0].certificate.serial_number}.pem"
    file.write_bytes(chain[0].key_pem + b"".join(each.pem for each in chain))
    made = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    made.load_cert_chain(file)
    return made


async def until_the_end(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        await reader.read()
    except OSError:
        pass
    finally:
        writer.close()


@asynccontextmanager
async def serving(with_tls: ssl.SSLContext | None, serve: Serve = until_the_end) -> AsyncIterator[int]:
    """The port of a server."""
    server = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=with_tls)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()
