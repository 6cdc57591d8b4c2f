"""Ports on the loopback: whether one is free, and a free one."""

from __future__ import annotations

import contextlib
import os
import random
import socket

from regie.core.errors import InvalidInput, Unavailable
from regie.settings import LARGEST_PORT


def require_free(port: int, setting: str = "REGIE_PORT") -> None:
    """Make sure that a port can be listened on before anything is started for it; 0 always can.

    Raises:
        InvalidInput: There is no such port: it was counted on from the one that is set.
        Unavailable: Somebody else listens there.
    """
    if port > LARGEST_PORT:
        raise InvalidInput(f"Port {port} cannot be used: {LARGEST_PORT} is the last one.", hint=f"Set {setting} lower.")
    try:
        socket.create_server(("127.0.0.1", port)).close()
    except OSError as error:
        raise Unavailable(
            f"Port {port} cannot be used: {os.strerror(error.errno or 0)}.",
            hint=f"Set {setting} to another one; 0 takes a free one.",
        ) from error


def free_port(wanted: int = 0) -> int:
    """A free port on 127.0.0.1: the wanted one if it is free, else one that outgoing connections never take.

    The kernel hands out 32768 and up to outgoing connections (net.ipv4.ip_local_port_range), so a port from there may
    be taken by the time a process that stopped comes back to it.
    """
    tries = [wanted] if wanted else []
    for port in (*tries, *random.sample(range(20_000, 32_000), 50)):
        with contextlib.suppress(OSError), socket.create_server(("127.0.0.1", port)):
            return port
    raise Unavailable("There is no free port on 127.0.0.1.")
