"""The server of the metrics of a process that has no other server: a worker, the notary."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Iterator

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from regie.settings import Settings, read_private
from regie.telemetry import metrics
from regie.telemetry.metrics import Process


class _Server(uvicorn.Server):
    """Leaves signals to the process."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Take none."""
        yield


@contextlib.asynccontextmanager
async def served(settings: Settings, process: Process, listening: socket.socket) -> AsyncIterator[None]:
    """Answer at a socket until the end of the block."""
    config = uvicorn.Config(
        _app(settings, process), log_config=None, access_log=False, server_header=False, timeout_graceful_shutdown=1
    )
    server = _Server(config)
    serving = asyncio.create_task(server.serve(sockets=[listening]))
    try:
        yield
    finally:
        server.should_exit = True
        await serving


def _app(settings: Settings, process: Process) -> Starlette:
    async def tell(request: Request) -> Response:
        if not metrics.may_read(request.headers.get("Authorization"), read_private(settings.metrics_token_file)):
            return Response(status_code=401, headers={"WWW-Authenticate": "Bearer"})
        return Response(metrics.text(process), media_type=metrics.MEDIA_TYPE)

    return Starlette(routes=[Route("/metrics", tell)])
