"""A live page: one connection, one listener for all of them, no question to the database until something changes."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager

import httpx2
import pytest
from fastapi import FastAPI

from regie.store.database import Database, Transaction
from regie.store.keys import RunKey
from regie.store.sealer import Sealer
from regie.web.pages import runs as run_pages
from regie.web.pages.live import Watching

from ..web.listening import listening  # noqa: TID252  tests are no installed package
from .conftest import Browser
from .stage import ANA, OLGA, PASSWORD, SAM, Stage

pytestmark = pytest.mark.slow

SOON_S = 10.0


class Counting(Database):
    """Counts the transactions that are begun."""

    begun = 0

    def transaction(self, tenant: str = "") -> AbstractAsyncContextManager[Transaction]:
        self.begun += 1
        return super().transaction(tenant)

    def reading(self, tenant: str = "") -> AbstractAsyncContextManager[Transaction]:
        self.begun += 1
        return super().reading(tenant)


@pytest.fixture
async def web_database(database: Database, url_of: Callable[[str], str], sealer: Sealer) -> AsyncIterator[Counting]:
    async with Counting(url_of("web"), sealer) as opened:
        yield opened


class Stream:
    """Server-sent events as they come."""

    def __init__(self, answer: httpx2.Response) -> None:
        self.answer = answer
        self._lines = answer.aiter_lines()

    async def next(self) -> tuple[str, str]:
        """The next event, or a comment under an empty name."""
        name, data = "", []
        async with asyncio.timeout(SOON_S):
            async for line in self._lines:
                if line.startswith("event: "):
                    name = line[7:]
                elif line.startswith("data: "):
                    data.append(line[6:])
                elif line.startswith(":"):
                    data.append(line)
                elif not line and (name or data):
                    return name, "\n".join(data)
        return "end", ""

    async def parts(self, *names: str) -> dict[str, str]:
        """Events until all of these have come."""
        found: dict[str, str] = {}
        while not set(names) <= found.keys():
            name, data = await self.next()
            assert name != "end", f"ended before {set(names) - found.keys()}"
            found[name] = data
        return found


@asynccontextmanager
async def stream(app: FastAPI, browser: Browser, address: str, run: str) -> AsyncIterator[Stream]:
    headers = {"Cookie": f"__Host-regie={browser.http.cookies['__Host-regie']}"}
    async with (
        httpx2.AsyncClient(base_url=address, trust_env=False, timeout=30) as http,
        http.stream("GET", f"/runs/{run}/changes", headers=headers) as answer,
    ):
        yield Stream(answer)


async def until(holds: object, within_s: float = SOON_S) -> None:
    """Wait until a condition holds."""
    assert callable(holds)
    deadline = time.monotonic() + within_s
    while not holds():
        assert time.monotonic() < deadline, "it does not come true"
        await asyncio.sleep(0.02)


@pytest.fixture
async def key(stage: Stage) -> RunKey:
    return await stage.start(ticket="ITSM-1")


def counted(app: FastAPI) -> Counting:
    database = app.state.means.database
    assert isinstance(database, Counting)
    return database


async def listeners(web_database: Database) -> list[str]:
    """Only who has the same login sees what a connection does."""
    async with web_database.reading() as tx:
        rows = await tx.rows(
            "select query from pg_stat_activity where datname = current_database() and query ilike 'listen%%'", {}
        )
    return [row["query"] for row in rows]


async def test_a_page_is_told_what_changes_and_when_it_is_over(
    stage: Stage, browser: Browser, app: FastAPI, key: RunKey
) -> None:
    await browser.sign_in(OLGA)
    async with listening(app) as address, stream(app, browser, address, key.run) as events:
        assert events.answer.headers["Content-Type"].startswith("text/event-stream")
        assert events.answer.headers["Cache-Control"] == "no-store"
        first = await events.parts(*run_pages.PARTS)
        assert "Running" in first["head"]
        await stage.ask(key, ANA)
        second = await events.parts("head", "approvals", "changes")
        assert "Waits for an answer" in second["head"]
        assert "Waits for a yes" in second["changes"]
        await stage.finish(key)
        last = await events.parts("head", "over")
        assert "Failed" in last["head"]
        assert await events.next() == ("end", "")


async def test_silence_asks_nothing_of_the_database(
    stage: Stage, browser: Browser, app: FastAPI, key: RunKey, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run_pages, "HEARTBEAT_S", 0.2)
    await stage.ask(key, ANA)
    await browser.sign_in(OLGA)
    async with listening(app) as address, stream(app, browser, address, key.run) as events:
        await events.parts(*run_pages.PARTS)
        watching: Watching = app.state.watching
        # The first look after the lock is held belongs to the beginning.
        for _ in range(5):
            assert await events.next() == ("", ": still here")
        asked = counted(app).begun
        for _ in range(10):
            assert await events.next() == ("", ": still here")
        assert counted(app).begun == asked, "two seconds of silence, no question"
        assert watching.count == 1
        await stage.finish(key)
        # Beside it the page goes on being told that somebody is there.
        async with asyncio.timeout(SOON_S):
            await events.parts("over")


async def test_all_pages_share_one_listener_that_ends_with_the_last(
    stage: Stage, browser: Browser, app: FastAPI, key: RunKey
) -> None:
    other = await stage.start(trigger="other")
    await browser.sign_in(OLGA)
    watching: Watching = app.state.watching
    async with listening(app) as address:
        async with (
            stream(app, browser, address, key.run) as one,
            stream(app, browser, address, key.run) as two,
            stream(app, browser, address, other.run) as three,
        ):
            for events in (one, two, three):
                await events.parts(*run_pages.PARTS)
            assert watching.count == 3
            assert len(await listeners(counted(app))) == 1
            await stage.ask(key, ANA)
            for events in (one, two):
                assert "Waiting" in (await events.parts("head"))["head"]
        await until(lambda: watching.count == 0)
        deadline = time.monotonic() + SOON_S
        while await listeners(counted(app)):
            assert time.monotonic() < deadline
            await asyncio.sleep(0.05)


async def test_nobody_is_told_when_nobody_watches(stage: Stage, key: RunKey, database: Database) -> None:
    async with database.listen("regie_run") as listener:
        await stage.ask(key, ANA)
        assert await listener.wait(0.5) == set()


async def test_a_lost_connection_to_the_database_is_made_anew(
    stage: Stage, browser: Browser, app: FastAPI, key: RunKey, monkeypatch: pytest.MonkeyPatch
) -> None:
    await browser.sign_in(OLGA)
    async with listening(app) as address, stream(app, browser, address, key.run) as events:
        await events.parts(*run_pages.PARTS)
        deadline = time.monotonic() + SOON_S
        while not await listeners(counted(app)):
            assert time.monotonic() < deadline
            await asyncio.sleep(0.05)
        async with counted(app).transaction() as tx:
            await tx.rows(
                """select pg_terminate_backend(pid) from pg_stat_activity
                   where datname = current_database() and query ilike 'listen%%'""",
                {},
            )
        await stage.ask(key, ANA)
        assert "Waiting" in (await events.parts("head"))["head"]


async def test_a_stream_ends_with_the_sign_in(stage: Stage, browser: Browser, app: FastAPI, key: RunKey) -> None:
    await browser.sign_in(OLGA)
    async with listening(app) as address, stream(app, browser, address, key.run) as events:
        await events.parts(*run_pages.PARTS)
        async with stage.database.transaction() as tx:
            await tx.change("delete from regie.session", {})
        await stage.ask(key, ANA)
        told = await events.parts("notice", "over")
        assert "Your sign-in has ended" in told["notice"]
        assert told.keys() == {"notice", "over"}
    async with listening(app) as address, stream(app, browser, address, key.run) as events:
        assert (await events.parts("notice", "over")).keys() == {"notice", "over"}, "and is not taken up again"


async def test_others_runs_have_no_stream(stage: Stage, browser: Browser, app: FastAPI, key: RunKey) -> None:
    await browser.sign_in(SAM, PASSWORD)
    async with listening(app) as address, stream(app, browser, address, key.run) as events:
        assert events.answer.status_code == 404


async def test_a_stream_lets_the_process_stop(stage: Stage, browser: Browser, app: FastAPI, key: RunKey) -> None:
    await browser.sign_in(OLGA)
    async with listening(app) as address, stream(app, browser, address, key.run) as events:
        await events.parts(*run_pages.PARTS)
        app.state.means.stopping.set()
        began_s = time.monotonic()
        assert await events.next() == ("end", "")
    assert time.monotonic() - began_s < 5
