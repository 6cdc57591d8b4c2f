"""The gateway as a process: opens its database, vault and token file, and answers on the loopback until it is stopped.

`regie up` starts `serve` in a process of its own.
"""

from __future__ import annotations

import socket
from collections.abc import Callable

import uvicorn

from regie.crashpoints import arm
from regie.gateway.app import make_gateway
from regie.gateway.connections import TransportFor
from regie.gateway.identify import WEB, Callers, worker_of
from regie.gateway.vault import VaultFile
from regie.settings import Settings, read_or_make_token
from regie.store.database import Database
from regie.store.sealer import Sealer

LOOPBACK = "127.0.0.1"
CONNECTIONS_TO_DATABASE = 10


def known_callers(settings: Settings) -> Callers:
    """Whoever has a token file on this machine: each domain's workers, and the web."""
    tokens = {worker_of(domain): read_or_make_token(file) for domain, file in settings.worker_token_files().items()}
    return Callers({**tokens, WEB: read_or_make_token(settings.web_token_file)})


async def serve(
    settings: Settings,
    *,
    port: int,
    listening: Callable[[str], None],
    transport_for: TransportFor | None = None,
) -> None:
    """Serve until the process is told to stop.

    Args:
        port: On the loopback; 0 takes a free one.
        listening: Told the address once requests are taken.
        transport_for: How a vendor's address is reached; over the network when nothing is said.

    Raises:
        AuthFailed: The vault cannot be used.
        Unavailable: The database does not answer.
    """
    arm(settings.crash_at)
    callers = known_callers(settings)
    vault = VaultFile.create(settings.vault_file)
    sealer = Sealer.from_file(settings.sealing_key_file)
    with socket.create_server((LOOPBACK, port)) as door:
        async with Database(settings.database_url, sealer, max_connections=CONNECTIONS_TO_DATABASE) as database:
            app = make_gateway(database, vault, callers, transport_for=transport_for)
            server = uvicorn.Server(
                uvicorn.Config(app, log_level="warning", access_log=False, proxy_headers=False, server_header=False)
            )
            listening(f"http://{LOOPBACK}:{door.getsockname()[1]}")
            await server.serve(sockets=[door])
