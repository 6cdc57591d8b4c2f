"""Pebble, Let's Encrypt's own authority for tests, and the challenge server that comes with it (Debian: pebble)."""

from __future__ import annotations

import json
import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx2

from regie_sandbox.servers.authority import Authority
from regie_sandbox.servers.process import answers, free_port, require, running


@dataclass(frozen=True)
class Pebble:
    """A running Pebble.

    Attributes:
        directory: Address of its directory.
        authority: Vouches for its HTTPS.
        management: Where it tells which certificates it knows and what its root is.
        http_port: The port at which it looks for http-01 proofs, in place of 80.
    """

    directory: str
    authority: Authority
    management: str
    http_port: int
    log: Path

    @property
    def trust(self) -> str:
        """PEM of the authority that vouches for its HTTPS."""
        return self.authority.pem

    def root(self) -> str:
        """PEM of the root it signs under; another one after each start."""
        return self._get("/roots/0").text

    def status(self, serial: str) -> str:
        """`Valid` or `Revoked`, or nothing for a serial that it did not issue."""
        answer = self._get(f"/cert-status-by-serial/{serial}")
        return str(answer.json()["Status"]) if answer.is_success else ""

    @property
    def orders(self) -> int:
        """How many orders were made, as its own log says."""
        return self.log.read_text(errors="replace").count("orders in the db")

    @property
    def certificates(self) -> int:
        """How many certificates were issued, as its own log says."""
        return self.log.read_text(errors="replace").count("Issued certificate serial")

    def _get(self, path: str) -> httpx2.Response:
        context = ssl.create_default_context(cadata=self.trust)
        with httpx2.Client(verify=context, trust_env=False) as client:
            return client.get(self.management + path)


@dataclass(frozen=True)
class Challenges:
    """pebble-challtestsrv: a resolver whose every name is the loopback, and a server of proofs."""

    management: str
    dns_port: int
    http_port: int

    def answer_http(self, token: str, content: str) -> None:
        """Answer an http-01 proof."""
        self._post("/add-http01", {"token": token, "content": content})

    def fail_name(self, name: str) -> None:
        """Have every question about a name fail."""
        self._post("/set-servfail", {"host": f"{name}."})

    def _post(self, path: str, body: dict[str, str]) -> None:
        httpx2.post(self.management + path, json=body, trust_env=False).raise_for_status()


@contextmanager
def challenges(folder: Path) -> Iterator[Challenges]:
    """The challenge server."""
    program = require("pebble-challtestsrv", "pebble")
    management, dns, http = (free_port() for _ in range(3))
    arguments = (
        *(program, "-management", f"127.0.0.1:{management}", "-dns01", f"127.0.0.1:{dns}"),
        *("-http01", f"127.0.0.1:{http}", "-https01", "", "-tlsalpn01", "", "-defaultIPv6", ""),
    )
    with running(arguments, log=folder / "challtestsrv.log", is_ready=lambda: answers(management) and answers(http)):
        yield Challenges(f"http://127.0.0.1:{management}", dns, http)


@contextmanager
def pebble(
    folder: Path,
    *,
    dns_port: int,
    http_port: int,
    bad_nonces_percent: int = 5,
    reused_authorisations_percent: int = 50,
    lifetime_s: int | None = None,
    port: int | None = None,
    authority: Authority | None = None,
) -> Iterator[Pebble]:
    """Pebble itself.

    Args:
        dns_port: Of the server that it resolves names with: the challenge server's, or a real one's.
        http_port: Where it looks for http-01 proofs.
        bad_nonces_percent: How many good nonces it turns down (PEBBLE_WFE_NONCEREJECT).
        reused_authorisations_percent: How many new orders find a name proven already (PEBBLE_AUTHZREUSE).
        lifetime_s: Of its certificates; five years when nothing is said.
        port, authority: Of another one that it takes the place of.
    """
    program = require("pebble", "pebble")
    own = authority or Authority("Pebble's HTTPS")
    chain, key = own.issue(["localhost", "127.0.0.1"]).write(folder, "pebble")
    listen, management = port or free_port(), free_port()
    config = {
        "listenAddress": f"127.0.0.1:{listen}",
        "managementListenAddress": f"127.0.0.1:{management}",
        "certificate": str(chain),
        "privateKey": str(key),
        "httpPort": http_port,
        "tlsPort": 1,
        "ocspResponderURL": "",
        "externalAccountBindingRequired": False,
        **({} if lifetime_s is None else {"certificateValidityPeriod": lifetime_s}),
    }
    file = folder / "pebble.json"
    file.write_text(json.dumps({"pebble": config}))
    environment = {
        "PEBBLE_VA_NOSLEEP": "1",
        "PEBBLE_WFE_NONCEREJECT": str(bad_nonces_percent),
        "PEBBLE_AUTHZREUSE": str(reused_authorisations_percent),
    }
    arguments = (program, "-config", str(file), "-dnsserver", f"127.0.0.1:{dns_port}")
    log = folder / "pebble.log"
    with running(
        arguments,
        log=log,
        is_ready=lambda: answers(listen) and answers(management),
        environment=environment,
    ):
        yield Pebble(f"https://localhost:{listen}/dir", own, f"https://localhost:{management}", http_port, log)
