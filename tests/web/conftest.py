"""The stage, set."""

from __future__ import annotations

from collections.abc import AsyncIterator

import httpx2
import pytest
from fastapi import FastAPI

from regie.core.release import Release
from regie.store import releases
from regie.store.database import Database
from regie.web.app import make_web

from .stage import LOCAL, OPERATOR, TOKEN, FakeGateway, Stage, definition, make_release


@pytest.fixture
def release() -> Release:
    return make_release(definition("hr.leave", request_type="Offboarding"))


@pytest.fixture
def gateway() -> FakeGateway:
    return FakeGateway()


@pytest.fixture
def app(web_database: Database, gateway: FakeGateway) -> FastAPI:
    return make_web(web_database, gateway, operator_token=TOKEN, ways_in=LOCAL)


@pytest.fixture
async def http(app: FastAPI) -> AsyncIterator[httpx2.AsyncClient]:
    async with httpx2.AsyncClient(transport=httpx2.ASGITransport(app), base_url="http://web") as client:
        yield client


@pytest.fixture
async def stage(
    database: Database,
    gateway: FakeGateway,
    http: httpx2.AsyncClient,
    release: Release,
) -> Stage:
    stage = Stage(database, gateway, http)
    async with database.transaction() as tx:
        await releases.put(tx, release, by=OPERATOR)
    await stage.add_people()
    return stage
