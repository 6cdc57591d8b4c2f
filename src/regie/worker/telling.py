"""Where a worker tells its metrics: one address on the loopback, and only where the settings ask for it."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Iterator

import uvicorn
from fastapi import FastAPI, Request, Response

from regie.core.errors import Unavailable
from regie.settings import Settings, read_or_make_token, read_private
from regie.telemetry import metrics

LOOPBACK = "127.0.0.1"


class _Server(uvicorn.Server):
    """Leaves signals to the worker."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Take none."""
        yield


@contextlib.asynccontextmanager
async def telling(settings: Settings) -> AsyncIterator[str]:
    """Tell metrics until the end of the block; gives the address, empty when nobody asked for it.

    Raises:
        Unavailable: The port is taken.
    """
    if settings.worker_metrics_port is None:
        yield ""
        return
    try:
        listening = socket.create_server((LOOPBACK, settings.worker_metrics_port))
    except OSError as error:
        raise Unavailable(f"Port {settings.worker_metrics_port} cannot be used: {error.strerror}.") from error
    read_or_make_token(settings.metrics_token_file)
    with listening:
        config = uvicorn.Config(
            _app(settings), log_config=None, access_log=False, server_header=False, timeout_graceful_shutdown=1
        )
        server = _Server(config)
        serving = asyncio.create_task(server.serve(sockets=[listening]))
        try:
            yield f"http://{LOOPBACK}:{listening.getsockname()[1]}/metrics"
        finally:
            server.should_exit = True
            await serving


def _app(settings: Settings) -> FastAPI:
    app = FastAPI(openapi_url=None, docs_url=None, redoc_url=None)

    @app.get("/metrics")
    async def tell(request: Request) -> Response:
        if not metrics.may_read(request.headers.get("Authorization"), read_private(settings.metrics_token_file)):
            return Response(status_code=401, headers={"WWW-Authenticate": "Bearer"})
        return Response(metrics.text("worker"), media_type=metrics.MEDIA_TYPE)

    return app
