"""Puts the imaginary world together as one ASGI application. Tests call `make_app`; `__main__` serves it.

Paths: `/jira` is the root of a Jira Cloud site, `/graph/v1.0` is Microsoft Graph, `/login` is the Entra token endpoint,
`/slack/api` is Slack's Web API and `/sandbox` is the control API.
"""

import ssl
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC
from pathlib import Path

import httpx2
from fastapi import FastAPI, Request
from fastapi.exceptions import HTTPException
from fastapi.responses import JSONResponse, Response
from starlette.exceptions import HTTPException as RoutingError

from regie_sandbox import control, graph, jira, login, pressing, refusals, slack
from regie_sandbox.faults import App, FaultMiddleware, Faults, Message, Receive, Scope, Send
from regie_sandbox.rules import Rules
from regie_sandbox.throttle import Throttle
from regie_sandbox.webhooks import Webhooks
from regie_sandbox.world import Clock, World, wall_clock


class StampMiddleware:
    """Gives every request an id and puts the vendor's tracing headers on its answer."""

    def __init__(self, app: App) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        given = dict(scope["headers"]).get(b"client-request-id", b"").decode("latin-1")
        request_id = str(uuid.uuid4())
        state = scope.setdefault("state", {})
        state["request_id"], state["client_request_id"], state["headers"] = request_id, given or request_id, {}

        async def stamped(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = dict(state["headers"])
                if scope["path"].startswith("/graph/"):
                    headers |= {"request-id": request_id, "client-request-id": state["client_request_id"]}
                elif scope["path"].startswith("/jira/"):
                    headers |= {"Atl-Request-Id": request_id}
                elif scope["path"].startswith("/slack/"):
                    headers |= {"x-slack-req-id": request_id.replace("-", "")}
                raw = [(name.lower().encode(), value.encode("latin-1")) for name, value in headers.items()]
                message["headers"] = [*message.get("headers", []), *raw]
            await send(message)

        await self._app(scope, receive, stamped)


def _graph_error(world: World, request: Request, refused: refusals.Refused) -> Response:
    """Fill in what Graph says about every failed request."""
    inner = {
        "date": world.clock().astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S"),
        "request-id": request.state.request_id,
        "client-request-id": request.state.client_request_id,
    }
    error = {**refused.body["error"], "innerError": inner}
    return JSONResponse({"error": error}, refused.status, refused.headers)


def make_app(
    state_dir: Path,
    *,
    clock: Clock = wall_clock,
    rules: Rules | None = None,
    webhook_url: str | None = None,
    webhook_secret: str | None = None,
    interactivity_url: str | None = None,
    webhook_client: httpx2.AsyncClient | None = None,
) -> FastAPI:
    """The world in `state_dir`, ready to be asked.

    Args:
        state_dir: where the world and its ledger live; made and seeded when it is empty.
        clock: what time it is in the world, in UTC.
        rules: limits and delays, the vendors' own by default.
        webhook_url: where new issues are announced; None keeps what was registered before.
        webhook_secret: what webhooks are signed with.
        interactivity_url: where pressed buttons are told; None keeps what was registered before.
        webhook_client: what sends webhooks; tests pass one with an in-process transport.

    The returned application has `state.world` and `state.webhooks`. A server closes them at its end; whoever calls the
    application in-process without a lifespan closes them with `close`.
    """
    world = World(state_dir, clock, rules)
    if webhook_url is not None:
        world.set_webhook(webhook_url, webhook_secret)
    if interactivity_url is not None:
        world.set_interactivity(interactivity_url)
    # trust_env off: a proxy in the environment has no business between two loopback addresses. Nor has an authority:
    # reading those of the machine would take longer than all else here.
    client = webhook_client or httpx2.AsyncClient(trust_env=False, verify=ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT))
    webhooks, faults, throttle = Webhooks(world, client), Faults(), Throttle()
    desk = jira.Desk(world, webhooks)

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        webhooks.resume()
        yield
        await close(app)

    app = FastAPI(title="An imaginary outside world", lifespan=lifespan, openapi_url=None)
    app.state.world, app.state.webhooks, app.state.webhook_client = world, webhooks, client
    app.include_router(jira.routes(world, throttle, desk))
    app.include_router(graph.routes(world, throttle))
    app.include_router(login.routes(world))
    app.include_router(slack.routes(world, throttle))
    app.include_router(pressing.routes(world, client))
    app.include_router(control.routes(world, desk, webhooks, faults, throttle))
    app.add_middleware(FaultMiddleware, faults=faults)
    app.add_middleware(StampMiddleware)

    @app.exception_handler(refusals.Refused)
    async def refuse(request: Request, refused: refusals.Refused) -> Response:
        if request.url.path.startswith("/graph/"):
            return _graph_error(world, request, refused)
        return refused.response

    @app.exception_handler(RoutingError)
    async def unknown_path(request: Request, error: HTTPException) -> Response:
        path = request.url.path
        if path.startswith("/graph/"):
            refused = refusals.graph(400, "BadRequest", f"Resource not found for the segment '{path.split('/')[-1]}'.")
            return _graph_error(world, request, refused)
        if path.startswith("/jira/"):
            return refusals.jira(error.status_code, "This imitation has no such path or method.").response
        return JSONResponse({"detail": error.detail}, error.status_code)

    return app


async def close(app: FastAPI) -> None:
    """Stop sending webhooks and close the world's file."""
    await app.state.webhooks.stop()
    await app.state.webhook_client.aclose()
    app.state.world.close()
