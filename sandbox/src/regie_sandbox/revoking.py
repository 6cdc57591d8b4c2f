"""What an imaginary authority answers over HTTP: OCSP and its list of revoked certificates, on 127.0.0.1."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

Answer = Callable[[bytes], bytes]
"""The body of a request to the body of the answer."""


@dataclass
class Responder:
    """A web server that knows a few paths.

    Attributes:
        answers: By path.
        asked: The paths that were asked for, in order.
        status: Of every answer.
        is_silent: Takes a question and says nothing.
        address: Where it is, such as `http://127.0.0.1:4711`.
    """

    answers: dict[str, Answer] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)
    status: str = "200 OK"
    headers: Sequence[str] = ()
    is_silent: bool = False
    address: str = ""

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").lower()
            length = next((int(line[15:]) for line in head.splitlines() if line.startswith("content-length:")), 0)
            body = await reader.readexactly(length)
            path = head.split()[1]
            self.asked.append(path)
            if self.is_silent:
                await reader.read()
                return
            answer = self.answers[path](body) if path in self.answers else b""
            lines = [f"HTTP/1.1 {self.status}", f"Content-Length: {len(answer)}", "Connection: close", *self.headers]
            writer.write("\r\n".join([*lines, "", ""]).encode() + answer)
            await writer.drain()
        except (ConnectionError, asyncio.IncompleteReadError):
            return
        finally:
            writer.close()


@asynccontextmanager
async def responding() -> AsyncIterator[Responder]:
    """A responder for as long as the block takes."""
    responder = Responder()
    server = await asyncio.start_server(responder._serve, "127.0.0.1", 0)  # noqa: SLF001  this module's own
    port = server.sockets[0].getsockname()[1]
    responder.address = f"http://127.0.0.1:{port}"
    try:
        yield responder
    finally:
        server.close()
