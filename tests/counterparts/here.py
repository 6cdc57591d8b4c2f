"""Servers of tests are on this machine, which a connection reaches only when it is told."""

from __future__ import annotations

from ipaddress import ip_network

from regie.kit.reaching import Dialler

LOOPBACK = "127.0.0.0/8"
HERE = Dialler([ip_network(LOOPBACK)])
