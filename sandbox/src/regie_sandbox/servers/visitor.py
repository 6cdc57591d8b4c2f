"""A client that connects all the time and counts: what a customer's own customers notice of a renewal."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from cryptography import x509

PAUSE_S = 0.02
"""Between two handshakes at one door."""
PATIENCE_S = 10.0


@dataclass(frozen=True)
class Door:
    """Where to connect, and whom to ask for."""

    name: str
    port: int
    server_name: str


@dataclass
class Seen:
    """What was met at one door.

    Attributes:
        serials: Each that was presented, in order; one that follows itself is named once.
        trouble: Why the last one failed.
    """

    handshakes: int = 0
    failed: int = 0
    serials: list[str] = field(default_factory=list)
    trouble: str = ""


class Visitor:
    """Visits doors until it is told to go. Each handshake is a new one, and its chain and name are verified.

    Args:
        doors: Where.
        roots: PEM of the authorities that count.
    """

    def __init__(self, doors: Sequence[Door], roots: Callable[[], str]) -> None:
        self._doors, self._roots = doors, roots
        self._tasks: list[asyncio.Task[None]] = []
        self.seen: dict[str, Seen] = {}

    def come(self) -> None:
        """Begin, counting from nothing."""
        self.seen = {door.name: Seen() for door in self._doors}
        context = ssl.create_default_context(cadata=self._roots())
        # A session that is taken up again would show the former certificate.
        context.options |= ssl.OP_NO_TICKET
        self._tasks = [asyncio.create_task(self._visit(door, context)) for door in self._doors]

    async def go(self) -> None:
        """Stop."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._tasks = []

    async def _visit(self, door: Door, context: ssl.SSLContext) -> None:
        seen = self.seen[door.name]
        while True:
            try:
                async with asyncio.timeout(PATIENCE_S):
                    serial = await served(door, context)
            except (OSError, TimeoutError) as error:
                seen.failed += 1
                seen.trouble = f"{type(error).__name__}: {error}"
            else:
                seen.handshakes += 1
                if seen.serials[-1:] != [serial]:
                    seen.serials.append(serial)
            await asyncio.sleep(PAUSE_S)


async def served(door: Door, context: ssl.SSLContext) -> str:
    """The serial that is presented at a door, lower-case hexadecimal.

    Raises:
        OSError: No handshake comes about, or what is presented does not count.
    """
    _, writer = await asyncio.open_connection("127.0.0.1", door.port, ssl=context, server_hostname=door.server_name)
    try:
        shown = writer.get_extra_info("ssl_object").getpeercert(binary_form=True)
        return f"{x509.load_der_x509_certificate(shown).serial_number:x}"
    finally:
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()
