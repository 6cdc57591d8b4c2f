"""The stage of the web, seen in a browser that keeps cookies."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from dataclasses import dataclass

import httpx2
import pytest
from fastapi import FastAPI

from regie.core.release import Release
from regie.store import releases
from regie.store.database import Database
from regie.web.app import make_web
from regie.web.pages.visitor import COOKIE

from .stage import LOCAL, OPERATOR, PASSWORD, TOKEN, FakeGateway, Stage, make_release

ORIGIN = "https://web"


@dataclass
class Browser:
    """What a browser does: it keeps cookies, sends forms with their hidden fields, and names its origin."""

    http: httpx2.AsyncClient
    origin: str = ORIGIN

    async def open(self, address: str) -> httpx2.Response:
        return await self.http.get(address)

    async def send(self, form: str, address: str, /, **fields: str) -> httpx2.Response:
        """Send the form that a page shows, with what somebody filled in."""
        shown = (await self.open(form)).text
        hidden = dict(re.findall(r'<input type="hidden" name="(\w+)" value="([^"]*)"', shown))
        return await self.post(address, **{**hidden, **fields})

    async def post(self, address: str, /, **fields: str) -> httpx2.Response:
        return await self.http.post(address, data=fields, headers={"Origin": self.origin})

    def be(self, token: str) -> None:
        """Show the cookie of another session."""
        self.http.cookies.clear()
        self.http.cookies.set(COOKIE, token)

    async def sign_in(self, person: str, password: str = PASSWORD, then: str = "/") -> httpx2.Response:
        self.http.cookies.clear()
        return await self.send("/sign-in", "/sign-in", address=person, password=password, next=then)


@pytest.fixture
def release() -> Release:
    return make_release()


@pytest.fixture
def gateway() -> FakeGateway:
    return FakeGateway()


@pytest.fixture
def app(web_database: Database, gateway: FakeGateway) -> FastAPI:
    return make_web(web_database, gateway, operator_token=TOKEN, ways_in=LOCAL)


@pytest.fixture
async def browser(app: FastAPI) -> AsyncIterator[Browser]:
    async with httpx2.AsyncClient(transport=httpx2.ASGITransport(app), base_url=ORIGIN) as client:
        yield Browser(client)


@pytest.fixture
async def stage(
    database: Database,
    gateway: FakeGateway,
    browser: Browser,
    release: Release,
) -> Stage:
    stage = Stage(database, gateway, browser.http)
    async with database.transaction() as tx:
        await releases.put(tx, release, by=OPERATOR)
    await stage.add_people()
    return stage
