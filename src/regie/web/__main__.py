"""The web as a process: `python -m regie.web`. `regie up` starts it.

Prints one line of JSON with its address once it takes requests, and stops gracefully on SIGTERM or SIGINT.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import signal
import socket
import sys

import structlog
import uvicorn
import uvloop
from fastapi import FastAPI

from regie import crashpoints, logs
from regie.core.errors import InvalidInput, RegieError, Unavailable
from regie.gateway_client import GatewayClient
from regie.settings import Settings, read_or_make_token, read_private
from regie.store.database import Database
from regie.store.sealer import Sealer
from regie.telemetry import exporting
from regie.web.app import make_web
from regie.web.identify import ANSWER_AT, WaysIn

LOOPBACK = "127.0.0.1"
STOP_WITHIN_S = 8
"""Seconds for requests in hand once the process is told to stop."""
DATABASE_WITHIN_S = 5.0
"""Seconds to wait for the database before a vendor is asked to deliver again: they give up after 5 to 20."""

log = structlog.get_logger(__name__)


class _Server(uvicorn.Server):
    """Says where it listens as soon as it does, and lets those go who only wait when it stops."""

    def __init__(self, app: FastAPI) -> None:
        super().__init__(
            uvicorn.Config(
                app,
                log_config=None,
                access_log=False,
                proxy_headers=False,
                server_header=False,
                timeout_graceful_shutdown=STOP_WITHIN_S,
            )
        )
        self._web = app

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Listen, then print the address."""
        await super().startup(sockets)
        if self.started and sockets:
            address = f"http://{LOOPBACK}:{sockets[0].getsockname()[1]}"
            sys.stdout.write(json.dumps({"ready": True, "address": address}) + "\n")
            sys.stdout.flush()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Stop listening and finish what is in hand."""
        self._web.state.means.stopping.set()
        await super().shutdown(sockets)


def _ways_in(settings: Settings) -> WaysIn:
    has_provider = bool(settings.oidc_issuer and settings.public_url)
    return WaysIn(
        has_local_accounts=settings.local_accounts,
        origin=settings.public_url,
        answer_address=f"{settings.public_url}{ANSWER_AT}" if has_provider else "",
        operator_group=settings.operator_group,
    )


async def serve(settings: Settings) -> None:
    """Serve until told to stop.

    Raises:
        InvalidInput: A setting is missing or wrong.
        Unavailable: The database does not answer, or the port is taken.
    """
    crashpoints.arm(settings.crash_at)
    if not settings.database_url or not settings.gateway_url:
        raise InvalidInput(
            "The web needs REGIE_DATABASE_URL and REGIE_GATEWAY_URL.", hint="`regie up` starts it with both."
        )
    loop = asyncio.get_running_loop()
    with contextlib.ExitStack() as opened:
        try:
            listening = opened.enter_context(socket.create_server((LOOPBACK, settings.port)))
        except OSError as error:
            raise Unavailable(f"Port {settings.port} cannot be used: {error.strerror}.") from error
        # Each connection inherits it: without it the second packet of an answer waits 40 ms for the first's receipt.
        listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        opened.enter_context(exporting.exported(settings.traces_url, "web"))
        sealer = Sealer.from_file(settings.sealing_key_file)
        gateway_token = read_or_make_token(settings.web_token_file)
        async with (
            Database(settings.database_url, sealer, wait_s=DATABASE_WITHIN_S) as database,
            GatewayClient(settings.gateway_url, gateway_token) as gateway,
        ):
            app = make_web(
                database,
                gateway,
                operator_token=read_or_make_token(settings.operator_token_file),
                ways_in=_ways_in(settings),
                metrics_token=lambda: read_private(settings.metrics_token_file),
            )
            # The server hears the signals and raises them again when it has stopped: they must not kill us then.
            for number in (signal.SIGTERM, signal.SIGINT):
                loop.add_signal_handler(number, app.state.means.stopping.set)
            await _Server(app).serve(sockets=[listening])
            log.info("web:stopped")


def main() -> None:
    """Serve; exit with 1 and one line in the log when that cannot be."""
    logs.configure()
    try:
        uvloop.run(serve(Settings()))
    except RegieError as error:
        log.critical("web:failed", kind=type(error).__name__, reason=error.message, hint=error.hint)
        sys.exit(1)


if __name__ == "__main__":
    main()
