"""Knot, an authoritative name server that takes updates signed with a shared key (Debian: knot)."""

from __future__ import annotations

import base64
import re
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import dns.exception
import dns.message
import dns.query
import dns.rcode

from regie_sandbox.servers.process import free_port, require, running

KEY_NAME = "regie.example.test"
ALGORITHM = "hmac-sha256"
_TAKEN = re.compile(r"DDNS, processing (\d+) updates")
_ZONE = """$ORIGIN {zone}.
$TTL 60
@ SOA ns.{zone}. hostmaster.{zone}. 1 3600 900 604800 60
@ NS ns.{zone}.
ns A 127.0.0.1
@ A 127.0.0.1
* A 127.0.0.1
_acme-challenge TXT "somebody else's"
"""


@dataclass(frozen=True)
class Knot:
    """A running Knot; every name of its zone is the loopback.

    Attributes:
        secret: The key that may update, base64.
        weak_secret: A key that it knows and that may not update; its name is `reader.example.test`.
    """

    port: int
    zone: str
    secret: str
    weak_secret: str
    log: Path

    @property
    def address(self) -> str:
        """`HOST:PORT`."""
        return f"127.0.0.1:{self.port}"

    @property
    def updates(self) -> int:
        """How many updates it has carried out, as its own log says: it takes several together when they come so."""
        return sum(int(found) for found in _TAKEN.findall(self.log.read_text(errors="replace")))

    def txt(self, name: str) -> set[str]:
        """The TXT values of a name, without quotes."""
        answer = dns.query.tcp(dns.message.make_query(name, "TXT"), "127.0.0.1", port=self.port, timeout=5)
        return {item.to_text().strip('"') for rrset in answer.answer for item in rrset}


@contextmanager
def knot(folder: Path, zone: str = "example.test", *, port: int | None = None) -> Iterator[Knot]:
    """Knot with one zone; what an earlier one in the folder was told of it goes on."""
    program = require("knotd", "knot")
    port = port or free_port()
    secret, weak = (base64.b64encode(secrets.token_bytes(32)).decode() for _ in range(2))
    for name in ("run", "db", "zones"):
        (folder / name).mkdir(exist_ok=True)
    (folder / "zones" / f"{zone}.zone").write_text(_ZONE.format(zone=zone))
    (folder / "knot.conf").write_text(
        f"""
server:
    rundir: "{folder}/run"
    listen: 127.0.0.1@{port}
    automatic-acl: off
log:
  - target: stderr
    any: info
database:
    storage: "{folder}/db"
key:
  - id: {KEY_NAME}
    algorithm: {ALGORITHM}
    secret: {secret}
  - id: reader.example.test
    algorithm: {ALGORITHM}
    secret: {weak}
acl:
  - id: update
    key: {KEY_NAME}
    action: update
zone:
  - domain: {zone}
    storage: "{folder}/zones"
    file: "{zone}.zone"
    acl: update
    zonefile-sync: -1
"""
    )

    def is_ready() -> bool:
        try:
            answer = dns.query.tcp(dns.message.make_query(zone, "SOA"), "127.0.0.1", port=port, timeout=1)
        except (OSError, dns.exception.DNSException):
            return False
        return answer.rcode() == dns.rcode.NOERROR and bool(answer.answer)

    log = folder / "knot.log"
    with running((program, "-c", str(folder / "knot.conf")), log=log, is_ready=is_ready):
        yield Knot(port, zone, secret, weak, log)
