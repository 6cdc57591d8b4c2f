"""HAProxy in master-worker mode, serving one TLS frontend (Debian: haproxy)."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from .authority import Issued
from .process import answers, free_port, require, running


@dataclass(frozen=True)
class Haproxy:
    """A running HAProxy.

    Attributes:
        config: Its configuration file; `PROGRAM -c -f CONFIG` tests it.
        pem_file: Chain and key in one file, what it serves: it loads all of its folder.
        master_pid: Of the master process; SIGUSR2 reloads.
        socket: The statistics socket, level admin: certificates can be replaced over it without a reload.
        master_socket: The master's own; `reload` over it reloads.
    """

    program: str
    config: Path
    pem_file: Path
    port: int
    master_pid: int
    socket: Path
    master_socket: Path


@contextmanager
def haproxy(folder: Path, first: Issued, *, target: str = "site") -> Iterator[Haproxy]:
    """HAProxy with a first certificate; `target` is its file without the ending."""
    program = require("haproxy", "haproxy")
    port = free_port()
    tls = folder / "tls"
    tls.mkdir()
    pem_file = first.write_bundle(tls, target)
    config, socket, master = folder / "haproxy.cfg", folder / "stats.sock", folder / "master.sock"
    config.write_text(
        f"""
global
    stats socket {socket} mode 600 level admin expose-fd listeners
    log stderr format raw local0
defaults
    mode http
    timeout connect 5s
    timeout client 30s
    timeout server 30s
frontend site
    bind 127.0.0.1:{port} ssl crt {tls}
    http-request return status 200 content-type text/plain string served
"""
    )
    arguments = (program, "-W", "-S", f"{master},mode,600", "-f", str(config))
    with running(arguments, log=folder / "haproxy.log", is_ready=lambda: answers(port)) as process:
        yield Haproxy(program, config, pem_file, port, process.pid, socket, master)
