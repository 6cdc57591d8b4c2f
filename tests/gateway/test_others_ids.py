"""Every question to the gateway is asked with the ids of another domain's and of another tenant's run: all refused."""

from __future__ import annotations

from typing import Any

import httpx2
import pytest
from fastapi import FastAPI
from fastapi.routing import APIRoute

from regie.gateway.identify import WEB, worker_of

from .stage import Stage

pytestmark = pytest.mark.slow

OPEN = {"/health", "/metrics"}
"""About no tenant."""
REFUSED = {403, 404, 409}


async def asked(gateway: FastAPI, route: APIRoute, token: str, step: dict[str, Any]) -> httpx2.Response:
    poll = {name: step[name] for name in ("tenant", "domain", "fence")} | {"workflow": "w", "start": "s"}
    about = {"poll": poll} if route.path.endswith("poll") else {"step": step}
    question = {**about, "capability": "identity.disable_account", "want": {"user": "jan.janssen@example.com"}}
    path = route.path.format(tenant=step["tenant"], connection="directory")
    async with httpx2.AsyncClient(transport=httpx2.ASGITransport(gateway), base_url="http://gateway") as http:
        return await http.post(path, json=question, headers={"Authorization": f"Bearer {token}"})


@pytest.mark.parametrize(
    ("place", "caller"),
    [
        # A worker of Support with the very ids of a run of Identity.
        ({"tenant": "acme", "domain": "identity"}, worker_of("support")),
        # The same run as if it were one of Support.
        ({"tenant": "acme", "domain": "support"}, worker_of("support")),
        # A worker of Identity with the same run as if it were another tenant's.
        ({"tenant": "globex", "domain": "identity"}, worker_of("identity")),
    ],
)
async def test_every_question_about_anothers_run_is_refused(
    stage: Stage, gateway: FastAPI, tokens: dict[str, str], place: dict[str, str], caller: str
) -> None:
    run = await stage.start(ticket="ITSM-7f3a91")
    step = {**run.at("disable").model_dump(), **place}
    routes = [each for each in gateway.routes if isinstance(each, APIRoute) and each.path not in OPEN]
    assert len(routes) >= 6
    for route in routes:
        answer = await asked(gateway, route, tokens[caller], step)
        assert answer.status_code in REFUSED, (route.path, answer.status_code)
        assert "ITSM-7f3a91" not in answer.text
    assert stage.vendor.reads.total() == stage.vendor.writes.total() == 0


async def test_the_web_asks_nothing_about_steps(stage: Stage, gateway: FastAPI, tokens: dict[str, str]) -> None:
    run = await stage.start()
    for route in gateway.routes:
        if isinstance(route, APIRoute) and route.path in {"/v1/call", "/v1/plan", "/v1/apply", "/v1/poll"}:
            answer = await asked(gateway, route, tokens[WEB], run.at("disable").model_dump())
            assert answer.status_code in REFUSED, (route.path, answer.status_code)
    assert stage.vendor.writes.total() == 0
