"""Thousands of TLS endpoints on loopback addresses, some of them in trouble: `python -m regie_sandbox.tls_farm`.

One event loop and P-256 keys, so that the farm costs less than whoever looks at it. Writes `endpoints.json` (where to
connect, and how each behaves) and `roots.pem` into a folder, says `ready`, and serves until its input ends.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import logging
import socket
import ssl
import sys
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import AsyncExitStack
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.x509 import ocsp

from regie_sandbox.authority import Issued, Wanted, issue, ocsp_answer, revoked_list
from regie_sandbox.revoking import responding

HOSTS = 97
"""Addresses the endpoints are spread over, from 127.77.0.1 on; prime, so that each has some of every kind."""
CERTIFICATES = 32
"""Different healthy certificates; each is served by many endpoints under a wildcard."""
PER_CENT: Mapping[str, int] = {
    "hangs": 4,
    "refuses": 2,
    "speaks_http": 2,
    "cuts": 1,
    "expired": 2,
    "wrong_name": 2,
    "self_signed": 1,
    "incomplete": 1,
    "revoked": 1,
    "smtp": 2,
    "imap": 1,
    "pop3": 1,
    "smtp_without": 1,
}
"""How many of a hundred endpoints behave so; the others are healthy."""
NAME = "farm.example.test"

Serve = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


def behaviours(count: int) -> Iterator[str]:
    """How each of so many endpoints behaves, the kinds mixed evenly."""
    order = [kind for kind, share in PER_CENT.items() for _ in range(share)]
    order += ["healthy"] * (100 - len(order))
    for number in range(count):
        yield order[number * 37 % 100]


def _now() -> datetime:
    return datetime.now(UTC)  # noqa: TID251  the farm is of the real world: its clients have a clock of their own


class Farm:
    """The endpoints of one process.

    Args:
        folder: Where certificates and the list of endpoints are written.
        revocation: Address of the responder for revocation.
    """

    def __init__(self, folder: Path, revocation: str) -> None:
        self._folder, now = folder, _now()
        self.root = issue(Wanted("Farm root", is_authority=True))
        self.middle = issue(Wanted("Farm authority", is_authority=True, path_length=0), self.root)
        crl, asked = f"{revocation}/crl", f"{revocation}/ocsp"
        born, long_ago = now - timedelta(days=10), now - timedelta(days=400)
        names, year = (f"*.{NAME}",), timedelta(days=365)
        self.issued: dict[int, Issued] = {}

        def made(number: int, **other: Any) -> Issued:
            wanted = {"names": names, "born": born, "lifetime": year, "crl": crl, **other}
            found = issue(Wanted(f"s{number}", **wanted), self.middle)
            self.issued[found.certificate.serial_number] = found
            return found

        # Some are asked for by OCSP, some are looked for on the list.
        healthy = [made(number, ocsp=asked if number % 4 == 0 else "") for number in range(CERTIFICATES)]
        self.revoked = made(100, ocsp=asked)
        self._contexts = {f"healthy{number}": self._context(each) for number, each in enumerate(healthy)}
        self._contexts |= {
            "expired": self._context(made(101, born=long_ago)),
            "wrong_name": self._context(made(102, names=("elsewhere.example.test",))),
            "self_signed": self._context(issue(Wanted("alone", names, born, year)), alone=True),
            "incomplete": self._context(made(103), alone=True),
            "revoked": self._context(self.revoked),
        }
        (folder / "roots.pem").write_bytes(self.root.pem)

    def list_of_revoked(self) -> bytes:
        """What its authority publishes."""
        return revoked_list(self.middle, [self.revoked], now=_now())

    def ocsp(self, question: bytes) -> bytes:
        """What its responder says."""
        asked = self.issued[ocsp.load_der_ocsp_request(question).serial_number]
        is_revoked = asked is self.revoked
        status = ocsp.OCSPCertStatus.REVOKED if is_revoked else ocsp.OCSPCertStatus.GOOD
        reason = x509.ReasonFlags.key_compromise
        return ocsp_answer(asked, now=_now(), status=status, reason=reason if is_revoked else None)

    def _context(self, issued: Issued, *, alone: bool = False) -> ssl.SSLContext:
        file = self._folder / f"{issued.certificate.serial_number:x}.pem"
        file.write_bytes(issued.key_pem + issued.pem + (b"" if alone else self.middle.pem))
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(file)
        context.num_tickets = 0
        return context

    async def open(self, number: int, kind: str, stack: AsyncExitStack) -> dict[str, str | int]:
        """Open one endpoint until the stack is closed, and say where it is."""
        host = f"127.77.0.{1 + number % HOSTS}"
        context = self._contexts.get(kind) or self._contexts[f"healthy{number % CERTIFICATES}"]
        told: dict[str, str | int] = {"host": host, "server_name": f"s{number}.{NAME}", "behaviour": kind}
        if kind == "refuses":
            taken = stack.enter_context(socket.socket())
            taken.bind((host, 0))
            return {**told, "port": taken.getsockname()[1]}
        protocol = kind.partition("_")[0] if kind.startswith(("smtp", "imap", "pop3")) else "none"
        plain = _PLAIN.get(kind)
        if plain is None and protocol != "none":
            plain = _mail(protocol, context)
        server = await asyncio.start_server(plain or until_the_end, host, 0, ssl=None if plain else context, backlog=64)
        stack.callback(server.close)
        return {**told, "port": server.sockets[0].getsockname()[1], "starttls": protocol}


async def until_the_end(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Say nothing, and stay for as long as whoever has connected does."""
    try:
        await reader.read()
    except (OSError, ssl.SSLError):
        pass
    finally:
        writer.close()


async def _speak_http(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.read(100)
    writer.write(b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n")
    writer.close()


async def _cut(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.read(100)
    writer.transport.abort()


async def _mail_without(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(b"220 farm\r\n")
    await reader.readline()
    writer.write(b"250-farm\r\n250 SIZE 1000\r\n")
    await until_the_end(reader, writer)


_PLAIN: Mapping[str, Serve] = {
    "hangs": until_the_end,
    "speaks_http": _speak_http,
    "cuts": _cut,
    "smtp_without": _mail_without,
}
_TALKS: Mapping[str, tuple[bytes, tuple[bytes, ...]]] = {
    "smtp": (b"220-farm\r\n220 ready\r\n", (b"250-farm\r\n250-SIZE 1000\r\n250 STARTTLS\r\n", b"220 go ahead\r\n")),
    "imap": (b"* OK farm\r\n", (b"* CAPABILITY IMAP4rev2 STARTTLS\r\na1 OK\r\n", b"a2 OK\r\n")),
    "pop3": (b"+OK farm\r\n", (b"+OK\r\n",)),
}
"""The greeting, and the answers to each line that follows."""


def _mail(protocol: str, context: ssl.SSLContext) -> Serve:
    greeting, answers = _TALKS[protocol]

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            writer.write(greeting)
            for answer in answers:
                await reader.readline()
                writer.write(answer)
            await writer.start_tls(context)
            await reader.read()
        except (OSError, ssl.SSLError):
            pass
        finally:
            writer.close()

    return serve


async def serve(folder: Path, count: int) -> None:
    """Serve so many endpoints until the standard input ends."""
    async with AsyncExitStack() as stack:
        responder = await stack.enter_async_context(responding())
        farm = Farm(folder, responder.address)
        responder.answers = {"/crl": lambda _: farm.list_of_revoked(), "/ocsp": farm.ocsp}
        opened = [await farm.open(number, kind, stack) for number, kind in enumerate(behaviours(count))]
        (folder / "endpoints.json").write_text(json.dumps(opened), encoding="utf-8")
        sys.stdout.write("ready\n")
        sys.stdout.flush()
        await asyncio.to_thread(sys.stdin.read)


def main() -> None:
    """Read the command line and serve."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--endpoints", type=int, default=5000)
    given = parser.parse_args()
    # asyncio tells of connections that end after STARTTLS or are open at the end; here both are as they should be.
    logging.getLogger("asyncio").setLevel(logging.CRITICAL)
    asyncio.run(serve(given.folder, given.endpoints))


if __name__ == "__main__":
    main()
