"""Puts the web together: API, pages, what stands before them. The process and the tests call `make_web`."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

from fastapi import FastAPI
from fastapi.routing import APIRoute
from starlette.responses import Response
from starlette.types import Scope

from regie.domains import load_catalogue
from regie.engine.postgres import PostgresEngine
from regie.gateway_client import GatewayClient
from regie.store.database import Database
from regie.telemetry.counting import Counted
from regie.web import (
    approvals,
    audit_logs,
    contract,
    events,
    figures,
    inbound,
    runs,
    schedules,
    scim,
    scim_discovery,
    steering,
    tokens,
    why,
    workflows,
)
from regie.web.identify import NOBODY, Doorkeeper, WaysIn
from regie.web.limits import Entrance
from regie.web.means import Means
from regie.web.pages import approvals as approval_pages
from regie.web.pages import assets, authenticators, catalogue, errors, forms, identity_provider, live, load, signing_in
from regie.web.pages import records as record_pages
from regie.web.pages import runs as run_pages
from regie.web.pages import schedules as schedule_pages
from regie.web.pages import steering as steering_pages
from regie.web.pages import tokens as token_pages
from regie.web.problems import Told, answer_errors, document

API = (
    inbound,
    runs,
    why,
    steering,
    approvals,
    events,
    workflows,
    schedules,
    figures,
    tokens,
    audit_logs,
    scim,
    scim_discovery,
    contract,
)

PAGES = (
    assets,
    signing_in,
    identity_provider,
    catalogue,
    run_pages,
    steering_pages,
    approval_pages,
    forms,
    schedule_pages,
    load,
    record_pages,
    token_pages,
    authenticators,
)


def make_web(
    database: Database,
    gateway: GatewayClient,
    *,
    operator_token: str,
    ways_in: WaysIn = NOBODY,
    metrics_token: Callable[[], str] = lambda: "",
) -> FastAPI:
    """Build the web.

    Args:
        database: Open; whoever opened it closes it.
        gateway: Where deliveries are checked and people sign in elsewhere.
        operator_token: Whoever has it may see everything and start runs.
        ways_in: How people sign in; nobody does when nothing is said.
        metrics_token: The token with which metrics are read; while it is empty nobody reads them.

    Raises:
        InvalidInput: The token is empty.
    """
    app = FastAPI(title="Regie", openapi_url=None, docs_url=None, redoc_url=None, redirect_slashes=False)
    app.state.means = Means(
        database=database,
        gateway=gateway,
        engine=PostgresEngine(database),
        doorkeeper=Doorkeeper(database, operator_token, ways_in),
        ways_in=ways_in,
        catalogue=load_catalogue(),
        metrics_token=metrics_token,
        contract=cache(lambda: contract.document_of(route for each in API for route in each.router.routes)),
    )
    app.state.waiting = runs.Waiting()
    app.state.watching = live.Watching(database)
    answer_errors(app)
    errors.answer_errors(app)
    app.add_middleware(Entrance, answer=_answer)
    app.add_middleware(Counted)
    for routes in (*API, *PAGES):
        app.include_router(routes.router)
    app.state.every_route = [
        route for each in (*API, *PAGES) for route in each.router.routes if isinstance(route, APIRoute)
    ]
    return app


def _answer(scope: Scope, told: Told) -> Response:
    """An error before or behind all routes, in the form that fits the address."""
    return errors.error_page(told) if errors.is_page(scope) else document(told)
