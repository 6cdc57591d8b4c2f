"""Servers of tests are on this machine, which a connection reaches only when it is told."""

from __future__ import annotations

import atexit
import socket
from ipaddress import ip_network

from regie.kit.reaching import Dialler

LOOPBACK = "127.0.0.0/8"
HERE = Dialler([ip_network(LOOPBACK)])
_taken = socket.socket()
_taken.bind(("127.0.0.1", 0))
atexit.register(_taken.close)
NOBODYS_PORT: int = _taken.getsockname()[1]
"""Where nobody listens, and nobody can: the port is taken for as long as this process runs."""
