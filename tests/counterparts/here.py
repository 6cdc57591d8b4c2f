"""Servers of tests are on this machine, which a connection reaches only when it is told."""

from __future__ import annotations

from ipaddress import ip_network

from regie.kit.reaching import Reach

LOOPBACK = "127.0.0.0/8"
HERE = Reach([ip_network(LOOPBACK)])
