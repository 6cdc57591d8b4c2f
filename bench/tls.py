"""`python -m bench.tls`: how fast thousands of TLS endpoints are looked at, and in how much memory.

A farm in a process of its own serves them on loopback addresses; 4 of 100 hang, 13 are in some other trouble. They are
looked at once as a stream, and once in pages as a gateway is asked for them, with revocation asked both times.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from ipaddress import ip_network
from pathlib import Path

import uvloop
from rich.console import Console

from regie.core.capabilities.tls import MOST_ENDPOINTS, Endpoint, Summary
from regie.kit.reaching import Dialler
from regie.kit.tls.asking import Answers, GuardedFetch, Revocation
from regie.kit.tls.certificates import parse_file
from regie.kit.tls.handshake import MOST_HANDSHAKES, Client
from regie.kit.tls.judging import summed_up
from regie.kit.tls.scanning import Bounds, Scanner
from regie.kit.tls.trust import Roots

PAGES_AT_ONCE = 8


@contextmanager
def farm(folder: Path, count: int) -> Iterator[list[Endpoint]]:
    """So many endpoints for as long as the block takes."""
    command = [sys.executable, "-m", "regie_sandbox.tls_farm", str(folder), "--endpoints", str(count)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        if process.stdout is None or process.stdout.readline() != b"ready\n":
            raise RuntimeError("the farm did not start")
        told = json.loads((folder / "endpoints.json").read_text(encoding="utf-8"))
        for each in told:
            del each["behaviour"]
        yield [Endpoint.model_validate(each) for each in told]
        process.communicate()


def scanner(folder: Path) -> Scanner:
    """A scanner that knows nothing yet."""
    dialler = Dialler([ip_network("127.0.0.0/8")])
    answers = Answers(lambda: datetime.now(UTC))  # noqa: TID251  the farm lives now
    client = Client(dialler, places=asyncio.Semaphore(MOST_HANDSHAKES))
    roots = Roots(parse_file((folder / "roots.pem").read_bytes()))
    return Scanner(client, roots, answers.clock, Revocation(GuardedFetch(dialler), answers))


async def as_a_stream(folder: Path, endpoints: list[Endpoint]) -> list[Summary]:
    """All in one scan."""
    looking = scanner(folder)
    try:
        return [summed_up(each) async for each in looking.scan(endpoints, Bounds(seconds=300))]
    finally:
        await looking.aclose()


async def in_pages(folder: Path, endpoints: list[Endpoint]) -> list[Summary]:
    """Page by page, some of them at a time."""
    looking, found = scanner(folder), list[Summary]()
    pages = [endpoints[begin : begin + MOST_ENDPOINTS] for begin in range(0, len(endpoints), MOST_ENDPOINTS)]
    free = asyncio.Semaphore(PAGES_AT_ONCE)

    async def look(page: list[Endpoint]) -> None:
        async with free:
            found.extend([summed_up(each) async for each in looking.scan(page, Bounds())])

    try:
        await asyncio.gather(*map(look, pages))
    finally:
        await looking.aclose()
    return found


def main() -> None:
    """Measure and show."""
    parser = argparse.ArgumentParser(prog="python -m bench.tls", description=__doc__)
    parser.add_argument("--endpoints", type=int, default=5000)
    given = parser.parse_args()
    console = Console(width=200)
    with tempfile.TemporaryDirectory() as name, farm(Path(name), given.endpoints) as endpoints:
        for title, measure in (("as a stream", as_a_stream), ("in pages", in_pages)):
            began_s, used_s = time.monotonic(), time.process_time()
            shown = uvloop.run(measure(Path(name), endpoints))
            took_s = time.monotonic() - began_s
            missed = sum("not_inspected" in word for each in shown for word in each.findings)
            most_mb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
            console.print(
                f"{len(shown)} endpoints {title}: {took_s:.1f} s, {len(shown) / took_s:.0f} a second, "
                f"{time.process_time() - used_s:.1f} s of a core, {most_mb:.0f} MB at most, "
                f"{sum(each.severity != 'info' for each in shown)} with findings, {missed} not inspected"
            )


if __name__ == "__main__":
    main()
