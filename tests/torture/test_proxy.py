"""The chaos proxy: it passes everything on, and goes wrong in exactly the way it is told to."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from torture.proxy import ChaosProxy

PATIENCE_S = 5.0


@dataclass
class Upstream:
    """A server that answers each message with `got ` and the message."""

    heard: bytearray = field(default_factory=bytearray)

    async def talk(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while message := await reader.read(1000):
            self.heard += message
            writer.write(b"got " + message)
        writer.close()


@dataclass
class Stage:
    proxy: ChaosProxy
    upstream: Upstream
    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter

    async def ask(self, message: bytes) -> bytes:
        self.writer.write(message)
        return await asyncio.wait_for(self.reader.read(1000), PATIENCE_S)


@asynccontextmanager
async def through(folder: Path) -> AsyncIterator[Stage]:
    upstream = Upstream()
    server = await asyncio.start_unix_server(upstream.talk, folder / "up")
    async with server, ChaosProxy(folder / "down", folder / "up", random.Random(1)) as proxy:  # noqa: S311  repeatable
        reader, writer = await asyncio.open_unix_connection(folder / "down")
        try:
            yield Stage(proxy, upstream, reader, writer)
        finally:
            writer.close()


async def test_undisturbed_it_passes_everything_on(tmp_path: Path) -> None:
    async with through(tmp_path) as stage:
        assert await stage.ask(b"hello") == b"got hello"


async def until(holds: Callable[[], bool]) -> None:
    async with asyncio.timeout(PATIENCE_S):
        while not holds():  # noqa: ASYNC110  what is waited for has no event
            await asyncio.sleep(0.01)


@pytest.mark.parametrize(("up", "heard", "answered"), [(True, b"fo", b""), (False, b"four", b"got ")])
async def test_a_torn_connection_ends_in_the_middle_of_a_message(
    tmp_path: Path, *, up: bool, heard: bytes, answered: bytes
) -> None:
    async with through(tmp_path) as stage:
        await stage.ask(b"once")
        stage.upstream.heard.clear()
        stage.proxy.tear(1, up=up)
        assert await stage.ask(b"four") == answered
        await until(lambda: not stage.proxy.wires)
        assert bytes(stage.upstream.heard) == heard
        assert stage.proxy.counts["torn"] == 1


async def test_a_lost_answer_is_lost_after_the_commit_arrived(tmp_path: Path) -> None:
    async with through(tmp_path) as stage:
        stage.proxy.lose_answer()
        assert await stage.ask(b"BEGIN\x00") == b"got BEGIN\x00"
        assert await stage.ask(b"COMMIT\x00") == b""
        assert bytes(stage.upstream.heard).endswith(b"COMMIT\x00")


async def test_a_cut_connection_is_gone_at_once(tmp_path: Path) -> None:
    async with through(tmp_path) as stage:
        await stage.ask(b"once")
        stage.proxy.cut(5)
        assert await asyncio.wait_for(stage.reader.read(1), PATIENCE_S) == b""
        assert stage.proxy.counts["cut"] == 1


async def test_what_a_blackhole_held_up_passes_afterwards(tmp_path: Path) -> None:
    async with through(tmp_path) as stage:
        await stage.ask(b"once")
        stage.proxy.close()
        stage.writer.write(b"twice")
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(stage.reader.read(1000), 0.1)
        stage.proxy.reopen()
        assert await asyncio.wait_for(stage.reader.read(1000), PATIENCE_S) == b"got twice"


async def test_slow_connections_lose_nothing(tmp_path: Path) -> None:
    async with through(tmp_path) as stage:
        stage.proxy.slow(60, 0.02)
        assert await stage.ask(b"hello") == b"got hello"
        assert stage.proxy.counts["late"] == 2


async def test_without_a_server_behind_it_nobody_is_let_in(tmp_path: Path) -> None:
    async with ChaosProxy(tmp_path / "down", tmp_path / "up", random.Random(1)):  # noqa: S311  repeatable
        reader, writer = await asyncio.open_unix_connection(tmp_path / "down")
        assert await asyncio.wait_for(reader.read(1), PATIENCE_S) == b""
        writer.close()
