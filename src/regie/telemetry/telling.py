"""Where a worker or the notary tells its metrics: one address on the loopback, only where the settings ask for it."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import AsyncIterator

from regie.core.errors import Unavailable
from regie.settings import Settings, read_or_make_token
from regie.telemetry.metrics import Process

LOOPBACK = "127.0.0.1"


@contextlib.asynccontextmanager
async def telling(settings: Settings, process: Process, port: int | None) -> AsyncIterator[str]:
    """Tell metrics until the end of the block; gives the address, empty when nobody asked for it.

    Raises:
        Unavailable: The port is taken.
    """
    if port is None:
        yield ""
        return
    # Loading a server takes a tenth of a process's start.
    from regie.telemetry.serving import served  # noqa: PLC0415  for whoever wants its metrics

    try:
        listening = socket.create_server((LOOPBACK, port))
    except OSError as error:
        raise Unavailable(f"Port {port} cannot be used: {error.strerror}.") from error
    read_or_make_token(settings.metrics_token_file)
    with listening:
        async with served(settings, process, listening):
            yield f"http://{LOOPBACK}:{listening.getsockname()[1]}/metrics"
