"""A client that may look at loopback, and does not wait for long."""

from __future__ import annotations

import ipaddress

from regie.kit.reaching import Dialler, LookUp
from regie.kit.tls.handshake import Client, Limits

LOOPBACK = (ipaddress.ip_network("127.0.0.0/8"),)
QUICK = Limits(connect_s=4, handshake_s=4)


def client(limits: Limits = QUICK, look_up: LookUp | None = None) -> Client:
    return Client(Dialler(LOOPBACK, look_up=look_up), limits)
