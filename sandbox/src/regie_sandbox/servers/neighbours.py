"""Further TLS servers of the company, of every age and in some trouble, so that an inventory has something to show."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

from regie_sandbox.servers.authority import Authority
from regie_sandbox.tls_farm import until_the_end

DAY = timedelta(days=1)


@dataclass(frozen=True)
class Neighbour:
    """One server: the lifetime of its certificate and what is left of it, in days; whether it answers at all."""

    name: str
    lifetime_days: int
    left_days: int
    hangs: bool = False
    other_name: str = ""


NEIGHBOURS = (
    *(
        Neighbour(f"{name}.example.test", lifetime, left)
        for name, lifetime, left in (
            ("accounts", 365, 340),
            ("api", 90, 81),
            ("archive", 365, 47),
            ("assets", 90, 64),
            ("backup", 365, 118),
            ("billing", 90, 72),
            ("blog", 90, 55),
            ("build", 365, 210),
            ("calendar", 90, 38),
            ("chat", 90, 76),
            ("code", 365, 165),
            ("docs", 90, 59),
            ("events", 90, 43),
            ("forms", 365, 133),
            ("help", 90, 68),
            ("intranet", 365, 92),
            ("jobs", 90, 84),
            ("library", 365, 61),
            ("login", 90, 79),
            ("maps", 365, 147),
            ("meet", 90, 51),
            ("metrics", 365, 182),
            ("news", 90, 35),
            ("orders", 90, 66),
            ("partners", 365, 104),
            ("payroll", 365, 76),
            ("print", 365, 126),
            ("reports", 90, 47),
            ("search", 90, 62),
            ("sso", 90, 74),
            ("status", 90, 87),
            ("store", 365, 159),
            ("support", 90, 41),
            ("training", 365, 88),
            ("video", 90, 57),
            ("vpn", 365, 173),
            ("wiki", 90, 70),
        )
    ),
    Neighbour("fax.example.test", 730, -12),
    Neighbour("scanner.example.test", 365, 240, hangs=True),
    Neighbour("terminal.example.test", 365, 97, other_name="terminal.example.com"),
)
"""Nobody but people renews these; most need nothing. One has expired, one hangs, one shows a certificate of another."""


@asynccontextmanager
async def neighbours(
    folder: Path, authority: Authority, port_of: Callable[[str], int]
) -> AsyncIterator[list[dict[str, str | int]]]:
    """All of them for as long as the block takes: where each is, as an endpoint to be watched."""
    folder.mkdir(exist_ok=True)  # noqa: ASYNC240  nothing is served yet
    async with AsyncExitStack() as stack:
        found: list[dict[str, str | int]] = []
        for each in NEIGHBOURS:
            port = port_of(each.name)
            context = None if each.hangs else _context(folder, authority, each)
            server = await asyncio.start_server(until_the_end, "127.0.0.1", port, ssl=context)
            stack.callback(server.close)
            found.append({"host": "127.0.0.1", "port": port, "server_name": each.name})
        yield found


def _context(folder: Path, authority: Authority, of: Neighbour) -> ssl.SSLContext:
    file = folder / f"{of.name}.pem"
    if not file.exists():
        lifetime = of.lifetime_days * DAY
        issued = authority.issue([of.other_name or of.name], lifetime=lifetime, age=lifetime - of.left_days * DAY)
        issued.write_bundle(folder, of.name)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(file)
    return context
