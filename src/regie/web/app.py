"""Puts the web together: its means, its routes, what stands before them. The process and the tests call `make_web`."""

from __future__ import annotations

from fastapi import FastAPI

from regie.domains import load_catalogue
from regie.engine.postgres import PostgresEngine
from regie.gateway_client import GatewayClient
from regie.store.database import Database
from regie.web import approvals, inbound, runs, workflows
from regie.web.identify import Doorkeeper
from regie.web.limits import Entrance
from regie.web.means import Means
from regie.web.problems import answer_errors


def make_web(database: Database, gateway: GatewayClient, *, operator_token: str) -> FastAPI:
    """Build the web.

    Args:
        database: Open; whoever opened it closes it.
        gateway: Where deliveries are checked.
        operator_token: Whoever has it may see everything and start runs.

    Raises:
        InvalidInput: The token is empty.
    """
    app = FastAPI(title="Regie", openapi_url=None, docs_url=None, redoc_url=None, redirect_slashes=False)
    app.state.means = Means(
        database=database,
        gateway=gateway,
        engine=PostgresEngine(database),
        doorkeeper=Doorkeeper(database, operator_token),
        catalogue=load_catalogue(),
    )
    app.state.waiting = runs.Waiting()
    answer_errors(app)
    app.add_middleware(Entrance)
    for routes in (inbound, runs, approvals, workflows):
        app.include_router(routes.router)
    return app
