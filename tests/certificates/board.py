"""Tickets and chat of the tests: a folder with a file for each ticket and each message, found again by their keys."""

from __future__ import annotations

import hashlib
import json
from typing import Any

from regie.core.capabilities import message, ticket
from regie.core.effect import Repeat
from regie.core.plan import Change, NoChange, Receipt
from regie.kit.connector import Connector, Seen, Write, provides
from regie.kit.discovery import Found
from regie.kit.host import Host
from regie.kit.manifest import HostRules, Manifest, Nobody, Quality, Setting


def name_of(key: str) -> str:
    """The ticket that a key names."""
    return f"T-{hashlib.sha256(key.encode()).hexdigest()[:8]}"


async def _read(host: Host, folder: Any, name: str) -> Seen:
    found = await host.read(f"{folder}/{name}.json")
    return dict(json.loads(found)) if found else {}


async def _write(host: Host, folder: Any, name: str, **fields: str) -> Receipt:
    content = {**await _read(host, folder, name), **fields}
    await host.write(f"{folder}/{name}.json", json.dumps(content).encode())
    return Receipt(remote_id=name)


class Board(Connector):
    """Everything is a file."""

    @provides(ticket.OPEN, permissions=["write"])
    class Open(Write[ticket.NewTicket, ticket.TicketState]):
        """Open one, or find the one with its key."""

        repeat = Repeat.OBSERVABLE

        async def observe(self, want: ticket.NewTicket, marker: str) -> Seen:
            return await _read(self.host, self.settings["folder"], name_of(want.key))

        def plan(self, want: ticket.NewTicket, seen: Seen) -> NoChange | Change:
            target = f"ticket:{name_of(want.key)}"
            if seen:
                return self.no_change(target, "it is there")
            return self.change(target, want.title, ("title", None, want.title))

        async def apply(self, want: ticket.NewTicket, change: Change, marker: str) -> Receipt:
            return await _write(
                self.host, self.settings["folder"], name_of(want.key), title=want.title, text=want.text, status="open"
            )

        def gives(self, want: ticket.NewTicket, seen: Seen) -> ticket.TicketState:
            status = str(seen.get("status", ""))
            name = name_of(want.key) if status else ""
            return ticket.TicketState(ticket=name, status=status, is_done=status == "closed")

    @provides(ticket.UPDATE, permissions=["write"])
    class Update(Write[ticket.TicketUpdate, ticket.TicketState]):
        """Set title and text."""

        repeat = Repeat.OBSERVABLE

        async def observe(self, want: ticket.TicketUpdate, marker: str) -> Seen:
            return await _read(self.host, self.settings["folder"], want.ticket)

        def plan(self, want: ticket.TicketUpdate, seen: Seen) -> NoChange | Change:
            target = f"ticket:{want.ticket}"
            if (seen["title"], seen["text"]) == (want.title, want.text):
                return self.no_change(target, "it says so")
            return self.change(target, want.title, ("title", seen["title"], want.title))

        async def apply(self, want: ticket.TicketUpdate, change: Change, marker: str) -> Receipt:
            folder = self.settings["folder"]
            return await _write(self.host, folder, want.ticket, title=want.title, text=want.text)

        def gives(self, want: ticket.TicketUpdate, seen: Seen) -> ticket.TicketState:
            status = str(seen["status"])
            return ticket.TicketState(ticket=want.ticket, status=status, is_done=status == "closed")

    @provides(ticket.CLOSE, permissions=["write"])
    class Close(Write[ticket.Closing, ticket.TicketState]):
        """Set the status."""

        repeat = Repeat.OBSERVABLE

        async def observe(self, want: ticket.Closing, marker: str) -> Seen:
            return await _read(self.host, self.settings["folder"], want.ticket)

        def plan(self, want: ticket.Closing, seen: Seen) -> NoChange | Change:
            target = f"ticket:{want.ticket}"
            if seen["status"] == "closed":
                return self.no_change(target, "it is closed")
            return self.change(target, want.ticket, ("status", seen["status"], "closed"))

        async def apply(self, want: ticket.Closing, change: Change, marker: str) -> Receipt:
            return await _write(self.host, self.settings["folder"], want.ticket, status="closed")

        def gives(self, want: ticket.Closing, seen: Seen) -> ticket.TicketState:
            return ticket.TicketState(ticket=want.ticket, status=str(seen["status"]), is_done=True)

    @provides(message.SEND, permissions=["write"])
    class Send(Write[message.NewMessage, message.MessageState]):
        """Write it down."""

        repeat = Repeat.OBSERVABLE

        async def observe(self, want: message.NewMessage, marker: str) -> Seen:
            return await _read(self.host, self.settings["folder"], f"M-{name_of(f'{want.to} {want.key}')}")

        def plan(self, want: message.NewMessage, seen: Seen) -> NoChange | Change:
            target = f"message:{want.to}:{want.key}"
            if seen.get("text") == want.text:
                return self.no_change(target, "it says so")
            return self.change(target, want.to, ("text", seen.get("text"), want.text))

        async def apply(self, want: message.NewMessage, change: Change, marker: str) -> Receipt:
            name = f"M-{name_of(f'{want.to} {want.key}')}"
            return await _write(self.host, self.settings["folder"], name, to=want.to, text=want.text)

        def gives(self, want: message.NewMessage, seen: Seen) -> message.MessageState:
            return message.MessageState(channel=want.to, message=want.key)


FOUND = Found(
    "board",
    Board,
    Manifest(
        name="board",
        title="Board",
        docs="https://board.example.test",
        owner="team:implementation",
        quality=Quality(level="bronze", rules={}),
        access="host",
        authentication=Nobody(kind="nobody"),
        host=HostRules(folders=("folder",)),
        settings={"folder": Setting(about="Where it is.", example="/srv/board")},
        secrets={},
        permissions=("write",),
        limits=(),
    ),
)
