"""The servers of the imaginary company, put together: what it serves over TLS, its name server and its authority."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
import random
import socket
import ssl
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

from regie_sandbox.servers.authority import Authority, Issued
from regie_sandbox.servers.counted_socket import CountedSocket
from regie_sandbox.servers.haproxy import Haproxy, haproxy
from regie_sandbox.servers.knot import ALGORITHM, KEY_NAME, Knot, knot
from regie_sandbox.servers.neighbours import neighbours
from regie_sandbox.servers.nginx import Nginx, nginx
from regie_sandbox.servers.pebble import Pebble, pebble
from regie_sandbox.servers.visitor import Door, Visitor, served

SHOP, MAIL, SILENT = "shop.example.test", "mail.example.test", "silent.example.test"
NAMES = (SHOP, f"www.{SHOP}")
SITE = "shop"
"""The target at both servers: a file `shop.pem` in the folder of each."""
DAY = timedelta(days=1)
CERTIFICATE_LIVES = 90 * DAY
SHOP_AGE, MAIL_AGE = (90, 12), (365, 5)
"""Days that a certificate lives, and that are left: what nobody has looked after until now."""
PATIENCE_S = 20.0
IN_A_ROW = 5


class Ports:
    """Ports that stay the same over restarts: endpoints are known by them."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self._known: dict[str, int] = json.loads(file.read_text()) if file.exists() else {}

    def of(self, name: str) -> int:
        """The port of a server."""
        if name not in self._known:
            self._known[name] = _steady_port()
            self._file.write_text(json.dumps(self._known))
        return self._known[name]


def _steady_port() -> int:
    """A free port that the kernel hands out to nobody else (net.ipv4.ip_local_port_range begins above)."""
    for port in random.sample(range(20_000, 32_000), 50):
        with contextlib.suppress(OSError), socket.create_server(("127.0.0.1", port)):
            return port
    raise OSError("There is no free port on 127.0.0.1.")


@dataclass
class Company:
    """What runs, and the ways of a hand in it.

    Attributes:
        authority: Signed what was there before Regie came.
        admin: HAProxy's socket, where Regie is counted.
        others: Further endpoints.
        by_hand: How often a hand has had nginx reload.
    """

    folder: Path
    authority: Authority
    pebble: Pebble
    nginx: Nginx
    haproxy: Haproxy
    knot: Knot
    admin: CountedSocket
    others: list[dict[str, str | int]]
    by_hand: int = 0

    def __post_init__(self) -> None:
        self.doors = (
            Door("nginx", self.nginx.port, SHOP),
            Door("haproxy", self.haproxy.port, SHOP),
            Door("mail", self.nginx.port, MAIL),
        )
        self.visitor = Visitor(self.doors[:2], self.roots)
        silent = Door("silent", Ports(self.folder / "ports.json").of(SILENT), SILENT)
        ours = [
            {"host": "127.0.0.1", "port": door.port, "server_name": door.server_name} for door in (*self.doors, silent)
        ]
        self.endpoints = [*ours, *self.others]

    def roots(self) -> str:
        """PEM of whoever vouches for anything here; those of earlier starts of Pebble among them."""
        return (self.folder / "roots.pem").read_text()

    def places(self) -> dict[str, Any]:
        """Where everything is, and with which credentials, as a customer would tell."""
        return {
            "acme": {"directory": self.pebble.directory, "trust": self.pebble.trust},
            "roots": self.roots(),
            "names": list(NAMES),
            "target": {"name": SITE, "server_name": SHOP},
            "nginx": {
                "folder": str(self.nginx.pem_file.parent),
                "config": str(self.nginx.config),
                "program": self.nginx.program,
                "address": f"127.0.0.1:{self.nginx.port}",
            },
            "haproxy": {
                "folder": str(self.haproxy.pem_file.parent),
                "config": str(self.haproxy.config),
                "program": self.haproxy.program,
                "socket": str(self.folder / "admin.sock"),
                "address": f"127.0.0.1:{self.haproxy.port}",
            },
            "name_server": {
                "address": self.knot.address,
                "zone": self.knot.zone,
                "key_name": KEY_NAME,
                "algorithm": ALGORITHM,
                "key": self.knot.secret,
            },
            "endpoints": self.endpoints,
        }

    def counts(self) -> dict[str, int]:
        """What was done here, as those tell to whom it was done; what a hand did is left out."""
        return {
            "orders": self.pebble.orders,
            "certificates": self.pebble.certificates,
            "dns_updates": self.knot.updates,
            "nginx_reloads": self.nginx.reloads - self.by_hand,
            "haproxy_commits": self.admin.commits,
        }

    async def state(self) -> dict[str, Any]:
        """What is here now, whoever did it: certificates in place and served, proofs that lie about."""
        return {
            "served": {door.name: await served(door, _ANYTHING) for door in self.doors},
            "proofs": {name: sorted(self.knot.txt(f"_acme-challenge.{name}")) for name in NAMES},
            "files": {
                name: hashlib.sha256(file.read_bytes()).hexdigest()
                for name, file in (("nginx", self.nginx.pem_file), ("haproxy", self.haproxy.pem_file))
            },
        }

    async def put_by_hand(self, name: str, *, lifetime_days: int, left_days: int) -> str:
        """Have somebody put a certificate in place wherever a name is served; its serial, once that is what is met."""
        issued = _aged(self.authority, name, lifetime_days, left_days)
        if name == MAIL:
            issued.write(self.nginx.certificate.parent, self.nginx.certificate.stem)
        else:
            issued.write_bundle(self.nginx.pem_file.parent, self.nginx.pem_file.stem)
            await self.haproxy.replace(issued)
        self.by_hand += 1
        self.nginx.reload()
        async with asyncio.timeout(PATIENCE_S):
            for door in self.doors:
                met = 0
                # Processes of before the reload may answer a moment longer.
                while door.server_name == name and met < IN_A_ROW:
                    met = met + 1 if await served(door, _ANYTHING) == issued.serial else 0
        return issued.serial


def _anything() -> ssl.SSLContext:
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    return context


_ANYTHING = _anything()


def _aged(authority: Authority, name: str, lifetime_days: int, left_days: int) -> Issued:
    lifetime = lifetime_days * DAY
    return authority.issue([name, f"www.{name}"], lifetime=lifetime, age=lifetime - left_days * DAY)


@asynccontextmanager
async def company(folder: Path) -> AsyncIterator[Company]:
    """All of it for as long as the block takes. What an earlier start has left in the folder goes on."""
    folder.mkdir(parents=True, exist_ok=True)  # noqa: ASYNC240  nothing is served yet
    ports = Ports(folder / "ports.json")
    revoked_at = f"http://127.0.0.1:{ports.of('http')}/revoked.crl"
    authority = Authority.kept(folder / "authority.key", "Example Company", revoked_at=revoked_at)
    places = {name: folder / name for name in ("pebble", "nginx", "haproxy", "knot")}
    for place in places.values():
        place.mkdir(exist_ok=True)
    is_new = not (folder / "roots.pem").exists()
    shop, mail = _aged(authority, SHOP, *SHOP_AGE), _aged(authority, MAIL, *MAIL_AGE)
    async with AsyncExitStack() as stack:
        names = stack.enter_context(knot(places["knot"], port=ports.of("knot")))
        web = stack.enter_context(
            nginx(places["nginx"], shop, name=SHOP, target=SITE, port=ports.of("nginx"), http_port=ports.of("http"))
        )
        (web.webroot / "revoked.crl").write_bytes(authority.revoked())
        if is_new:
            mail.write(web.certificate.parent, web.certificate.stem)
            web.reload()
        proxy = stack.enter_context(haproxy(places["haproxy"], shop, target=SITE, port=ports.of("haproxy")))
        issuer = stack.enter_context(
            pebble(
                places["pebble"],
                dns_port=names.port,
                http_port=web.http_port,
                reused_authorisations_percent=0,
                lifetime_s=int(CERTIFICATE_LIVES.total_seconds()),
                port=ports.of("pebble"),
                authority=Authority.kept(folder / "pebble.key", "Pebble's HTTPS"),
            )
        )
        roots = folder / "roots.pem"
        # A new one after each start of Pebble; what was issued under the former ones is served on.
        known = roots.read_text() if roots.exists() else authority.pem
        roots.write_text(known + issuer.root())
        counted = CountedSocket(proxy.socket, folder / "haproxy-commits")
        await stack.enter_async_context(counted.open(folder / "admin.sock"))
        others = await stack.enter_async_context(neighbours(folder / "neighbours", authority, ports.of))
        made = Company(folder, authority, issuer, web, proxy, names, counted, others)
        stack.push_async_callback(made.visitor.go)
        yield made
