"""A way to the database that goes wrong when told to: between all processes of an installation and its server.

The server listens on a unix socket only, so this is one socket in front of another.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Self

PIECE = 65_536
COMMIT = b"COMMIT\x00"
"""How a commit looks on the wire (PostgreSQL, Frontend/Backend Protocol 3.0, message Query)."""


@dataclass(eq=False)
class Wire:
    """One connection through the proxy.

    Attributes:
        tear_up, tear_down: Half of the next piece towards the server, or back, is the last that passes.
        swallow: The answer to what has just been sent does not pass, and then nothing does.
    """

    writers: tuple[asyncio.StreamWriter, asyncio.StreamWriter]
    tear_up: bool = False
    tear_down: bool = False
    swallow: bool = False

    def abort(self) -> None:
        """End both sides as a broken network does, without a word."""
        for writer in self.writers:
            writer.transport.abort()


class ChaosProxy:
    """Passes bytes on, unless told otherwise.

    Args:
        listen: The socket that clients connect to.
        upstream: The server's socket.

    Attributes:
        counts: Connections cut, torn, left without the answer to a commit, and pieces that came late.
    """

    def __init__(self, listen: Path, upstream: Path, chance: random.Random) -> None:
        self.listen = listen
        self.upstream = upstream
        self.chance = chance
        self.wires: set[Wire] = set()
        self.counts: Counter[str] = Counter()
        self._open = asyncio.Event()
        self._open.set()
        self._late_until_s = 0.0
        self._late_most_s = 0.0
        self._answers_to_lose = 0
        self._server: asyncio.Server | None = None
        self._talks: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_unix_server(self._talk, self.listen)
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._server is not None:
            self._server.close()
        self.heal()
        for wire in list(self.wires):
            wire.abort()
        await asyncio.gather(*self._talks, return_exceptions=True)

    def cut(self, number: int) -> None:
        """Drop so many connections."""
        for wire in self._some(number):
            wire.abort()
            self.counts["cut"] += 1

    def tear(self, number: int, *, up: bool) -> None:
        """Drop so many connections in the middle of what passes next, towards the server or back."""
        for wire in self._some(number):
            wire.tear_up, wire.tear_down = up, not up

    def lose_answer(self) -> None:
        """Let the next commit reach the server and drop its answer with the connection."""
        self._answers_to_lose += 1

    def slow(self, seconds: float, most_s: float) -> None:
        """Let everything be late for a while, each piece by up to so many seconds."""
        self._late_until_s = asyncio.get_running_loop().time() + seconds
        self._late_most_s = most_s

    def close(self) -> None:
        """Let nothing pass until `reopen`."""
        self._open.clear()

    def reopen(self) -> None:
        """Let everything pass again, what was held up included."""
        self._open.set()

    def heal(self) -> None:
        """Be a proxy like any other again."""
        self._open.set()
        self._answers_to_lose = 0
        self._late_until_s = 0.0
        for wire in self.wires:
            wire.tear_up = wire.tear_down = False

    def _some(self, number: int) -> list[Wire]:
        wires = list(self.wires)
        return self.chance.sample(wires, min(number, len(wires)))

    async def _talk(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        if task is not None:
            self._talks.add(task)
            task.add_done_callback(self._talks.discard)
        try:
            back_reader, back_writer = await asyncio.open_unix_connection(self.upstream)
        except OSError:
            writer.transport.abort()
            return
        wire = Wire((writer, back_writer))
        self.wires.add(wire)
        ways = [
            asyncio.create_task(self._pass(wire, reader, back_writer, up=True)),
            asyncio.create_task(self._pass(wire, back_reader, writer, up=False)),
        ]
        try:
            await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
        finally:
            self.wires.discard(wire)
            for way in ways:
                way.cancel()
            await asyncio.gather(*ways, return_exceptions=True)
            wire.abort()

    async def _pass(self, wire: Wire, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, up: bool) -> None:
        with contextlib.suppress(OSError):
            while piece := await reader.read(PIECE):
                await self._open.wait()
                await self._be_late()
                if not self._spoil(wire, piece, writer, up=up):
                    return
                await writer.drain()

    async def _be_late(self) -> None:
        if asyncio.get_running_loop().time() < self._late_until_s:
            self.counts["late"] += 1
            await asyncio.sleep(self.chance.uniform(0, self._late_most_s))

    def _spoil(self, wire: Wire, piece: bytes, writer: asyncio.StreamWriter, *, up: bool) -> bool:
        """Pass a piece on, or what is left of it; false when the connection is to end."""
        if wire.swallow and not up:
            self.counts["no_answer"] += 1
            return False
        if wire.tear_up if up else wire.tear_down:
            writer.write(piece[: len(piece) // 2])
            self.counts["torn"] += 1
            return False
        if up and self._answers_to_lose and COMMIT in piece:
            self._answers_to_lose -= 1
            wire.swallow = True
        writer.write(piece)
        return True
