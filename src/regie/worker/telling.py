"""Where a worker tells its metrics: one address on the loopback, and only where the settings ask for it."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import AsyncIterator

from regie.core.errors import Unavailable
from regie.settings import Settings, read_or_make_token

LOOPBACK = "127.0.0.1"


@contextlib.asynccontextmanager
async def telling(settings: Settings) -> AsyncIterator[str]:
    """Tell metrics until the end of the block; gives the address, empty when nobody asked for it.

    Raises:
        Unavailable: The port is taken.
    """
    if settings.worker_metrics_port is None:
        yield ""
        return
    # Loading a server takes a tenth of a worker's start.
    from regie.worker.metrics_server import served  # noqa: PLC0415  for whoever wants its metrics

    try:
        listening = socket.create_server((LOOPBACK, settings.worker_metrics_port))
    except OSError as error:
        raise Unavailable(f"Port {settings.worker_metrics_port} cannot be used: {error.strerror}.") from error
    read_or_make_token(settings.metrics_token_file)
    with listening:
        async with served(settings, listening):
            yield f"http://{LOOPBACK}:{listening.getsockname()[1]}/metrics"
