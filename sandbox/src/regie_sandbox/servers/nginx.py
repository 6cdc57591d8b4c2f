"""nginx, serving TLS sites with files that may be replaced (Debian: nginx-light)."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from regie_sandbox.servers.authority import Issued
from regie_sandbox.servers.process import answers, free_port, require, running


@dataclass(frozen=True)
class Nginx:
    """A running nginx.

    Attributes:
        config: Its configuration file; `PROGRAM -t -c CONFIG` tests it, `-s reload` in place of `-t` reloads.
        certificate, key: What it serves; files in `tls`.
        pem_file: The same, chain and key in one file, for a name of its own.
        port, http_port: Where it speaks TLS, and where plain HTTP with `webroot`.
        webroot: Served at plain HTTP, for http-01 proofs.
    """

    program: str
    config: Path
    certificate: Path
    key: Path
    pem_file: Path
    port: int
    http_port: int
    webroot: Path
    log: Path

    @property
    def reloads(self) -> int:
        """How often it was told to reload, as its own log says."""
        return self.log.read_text(errors="replace").count("(SIGHUP) received")

    def reload(self) -> None:
        """Have it take up its files again."""
        subprocess.run((self.program, "-c", str(self.config), "-s", "reload"), check=True, capture_output=True)


@contextmanager
def nginx(
    folder: Path,
    first: Issued,
    *,
    name: str = "bundled.test",
    target: str = "bundled",
    port: int | None = None,
    http_port: int | None = None,
) -> Iterator[Nginx]:
    """Start nginx with a first certificate, or with what an earlier one has left in the folder.

    Args:
        name, target: For whom the PEM file is served, and its file without the ending.
        port, http_port: Where it speaks TLS and plain HTTP; free ones when nothing is said.
    """
    program = require("nginx", "nginx-light")
    port, http_port = port or free_port(), http_port or free_port()
    tls, webroot = folder / "tls", folder / "webroot"
    certificate, key, pem_file = (tls / each for each in ("site.pem", "site.key", f"{target}.pem"))
    if not tls.exists():
        tls.mkdir()
        first.write(tls, "site")
        first.write_bundle(tls, target)
    (webroot / ".well-known" / "acme-challenge").mkdir(parents=True, exist_ok=True)
    config = folder / "nginx.conf"
    # Under root its workers would be somebody else, who may not enter a test's folder.
    same_user = "user root;" if os.geteuid() == 0 else ""
    config.write_text(
        f"""
{same_user}
daemon off;
pid {folder}/nginx.pid;
error_log stderr notice;
worker_processes 2;
events {{ }}
http {{
  access_log off;
  client_body_temp_path {folder}/body;
  proxy_temp_path {folder}/proxy;
  fastcgi_temp_path {folder}/fastcgi;
  uwsgi_temp_path {folder}/uwsgi;
  scgi_temp_path {folder}/scgi;
  server {{
    listen 127.0.0.1:{port} ssl;
    server_name _;
    ssl_certificate {certificate};
    ssl_certificate_key {key};
    location / {{ return 200 "served\\n"; }}
  }}
  server {{
    listen 127.0.0.1:{port} ssl;
    server_name {name};
    ssl_certificate {pem_file};
    ssl_certificate_key {pem_file};
    location / {{ return 200 "served\n"; }}
  }}
  server {{
    listen 127.0.0.1:{http_port};
    root {webroot};
  }}
}}
"""
    )
    log = folder / "nginx.log"
    arguments = (program, "-c", str(config), "-p", str(folder), "-e", "stderr")
    with running(arguments, log=log, is_ready=lambda: answers(port) and answers(http_port)):
        yield Nginx(program, config, certificate, key, pem_file, port, http_port, webroot, log)
