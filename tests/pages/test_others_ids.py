"""Every address of the web is asked for with ids of somebody else's tenant: nothing is told, and nothing is done."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

import httpx2
import pytest
from fastapi import FastAPI
from fastapi.routing import APIRoute
from starlette.routing import BaseRoute

from regie.core.audit import Actor
from regie.core.reach import Act, Scope
from regie.core.release import Release
from regie.core.starts import FormStart
from regie.store import api_tokens, approvals
from regie.store.keys import RunKey

from .conftest import Browser
from .stage import ANA, OFFBOARD, OPERATOR, PASSWORD, RIK, SAM, Stage, make_release

pytestmark = pytest.mark.slow

MARK = "ITSM-7f3a91"
OPEN = {"/health", "/sign-in", "/sign-out", "/assets/{name}", "/metrics"} | {
    f"/{each}" for each in ("sign-in/provider", "sign-in/answer", "sign-out/provider")
}
"""Addresses about no tenant, that need no account or one of their own."""
_PARAMETER = re.compile(r"\{(\w+)(?::\w+)?\}")
NAMING = ("{run}", "{approval}", "{token}", "/forms/{tenant}")
"""What names something of a tenant: to others it is not there."""


def routes(given: Iterable[BaseRoute]) -> Iterator[APIRoute]:
    """Every route, those of included routers too."""
    for each in given:
        if isinstance(each, APIRoute):
            yield each
        elif (router := getattr(each, "original_router", None)) is not None:
            yield from routes(router.routes)


@pytest.fixture
def release() -> Release:
    """Everyone may start the workflow with a form."""
    found = make_release()
    offboard = found.definitions[OFFBOARD].model_copy(update={"start": (FormStart(who="everyone"),)})
    return found.model_copy(update={"definitions": {**found.definitions, OFFBOARD: offboard}})


@pytest.fixture
async def acmes(stage: Stage) -> RunKey:
    """A run of acme that a person has asked for, and in which another one is asked."""
    key = await stage.start(by=Actor(type="person", id=RIK), ticket=MARK)
    await stage.ask(key, ANA)
    return key


async def test_nothing_is_told_and_nothing_done(stage: Stage, browser: Browser, app: FastAPI, acmes: RunKey) -> None:
    async with stage.database.transaction() as tx:
        [asked] = await approvals.of_run(tx, acmes)
        scope = Scope(tenant=acmes.tenant, domain=acmes.domain, acts=frozenset({Act.LOOK}))
        token, _ = await api_tokens.make(tx, name=MARK, scope=scope, lives_s=3600, by=OPERATOR, owner=RIK)
    before = await stage.state(acmes)
    await browser.sign_in(SAM)
    named = {
        "run": acmes.run,
        "approval": asked.id,
        "token": token.id,
        "authenticator": "x",
        "id_": acmes.run,
        "tenant": acmes.tenant,
        "domain": acmes.domain,
        "workflow": OFFBOARD,
        "connection": "jira",
        "kind": "endpoint",
        "name": "style.css",
        "number": "1",
        "level": "0",
        "path": "000",
    }
    walked = 0
    for route in routes(app.routes):
        if route.path in OPEN:
            continue
        for method in sorted((route.methods or set()) - {"HEAD"}):
            walked += 1
            answer = await ask(browser, method, _PARAMETER.sub(lambda found: named[found[1]], route.path))
            told = (method, route.path, answer.status_code)
            assert answer.status_code < 500, told
            for word in (MARK, acmes.run, asked.id, token.id, RIK, ANA, "Zoë Ünal", f"Do {OFFBOARD}"):
                assert word not in answer.text.replace(str(answer.request.url.path), ""), (*told, word)
            if any(each in route.path for each in NAMING):
                assert answer.status_code in {403, 404}, told
            if method == "POST":
                assert answer.status_code >= 300, told
    assert walked > 40
    assert await stage.state(acmes) == before
    assert await stage.count_runs() == 1
    async with stage.database.reading() as tx:
        assert await approvals.of_run(tx, acmes) == [asked]
        assert await api_tokens.list_tokens(tx) == [token]


BODIES: dict[str, dict[str, object]] = {
    "cancel": {"reason": "r"},
    "pause": {"reason": "r"},
    "resume": {"reason": "r"},
    "wake": {},
    "rerun": {"from": "close"},
    "runs": {"tenant": "acme", "workflow": OFFBOARD, "input": {"employee": "a@example.com"}},
    "events": {"tenant": "acme", "domain": "identity", "event": "contract.sign"},
    "tokens": {"name": "x", "tenant": "acme", "domain": "identity", "acts": ["look"]},
    "revoke": {},
    "challenge": {},
    "decision": {"decision": "approved", "plan_sha256": "0" * 64},
}
"""What is sent, by the last word of the address."""


PAGES: dict[str, dict[str, object]] = {
    "rerun": {"from_step": "close", "release": "same"},
    "tokens": {"name": "x", "tenant": "acme", "domain": "identity", "act_look": "on", "days": "1"},
    OFFBOARD: {"token": "0" * 32, "field.employee": "a@example.com"},
}
"""What forms call otherwise."""


async def ask(browser: Browser, method: str, path: str) -> httpx2.Response:
    """As a person with an account: programs with a password, pages with a session and its hidden fields."""
    word = path.rpartition("/")[2]
    if not path.startswith("/v1/"):
        if method == "GET":
            return await browser.open(path)
        fields = PAGES.get(word, BODIES.get(word, {"once": "k", "employee": "a@example.com"}))
        return await browser.send("/", path, **{name: str(value) for name, value in fields.items()})
    return await browser.http.request(
        method,
        path,
        json=BODIES.get(word) if method == "POST" else None,
        params={"tenant": "acme", "domain": "identity"} if word in {"runs", "approvals"} and method == "GET" else {},
        auth=httpx2.BasicAuth(SAM, PASSWORD),
        headers={"Idempotency-Key": "k"} if method == "POST" else {},
    )
