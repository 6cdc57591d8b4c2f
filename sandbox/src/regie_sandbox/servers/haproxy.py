"""HAProxy in master-worker mode, serving one TLS frontend (Debian: haproxy)."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from regie_sandbox.servers.authority import Issued
from regie_sandbox.servers.process import answers, free_port, require, running


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

    async def replace(self, certificate: Issued) -> None:
        """Write a certificate into its file, and have the running process take it up."""
        certificate.write_bundle(self.pem_file.parent, self.pem_file.stem)
        for command in (
            f"set ssl cert {self.pem_file} <<\n{certificate.chain}{certificate.key}\n",
            "commit ssl cert {}",
        ):
            reader, writer = await asyncio.open_unix_connection(self.socket)
            writer.write(command.format(self.pem_file).encode() + b"\n")
            await reader.read()
            writer.close()


@contextmanager
def haproxy(folder: Path, first: Issued, *, target: str = "site", port: int | None = None) -> Iterator[Haproxy]:
    """Start HAProxy with a first certificate, or with what an earlier one has left in the folder.

    Args:
        target: Its file without the ending.
        port: Where it speaks TLS; a free one when nothing is said.
    """
    program = require("haproxy", "haproxy")
    port = port or free_port()
    tls = folder / "tls"
    pem_file = tls / f"{target}.pem"
    if not tls.exists():
        tls.mkdir()
        first.write_bundle(tls, target)
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
