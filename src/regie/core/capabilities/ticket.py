"""Capabilities about tickets: the requests people make and the place where they read the answer."""

from __future__ import annotations

from pydantic import JsonValue

from regie.core.capability import Capability, Effect, Record


class TicketQuery(Record):
    """Which ticket: its key in the tenant's ticket system, such as `ITSM-12`."""

    ticket: str


class Person(Record):
    """Somebody as the ticket system knows them; `email` is empty where it does not tell."""

    id: str
    display_name: str
    email: str = ""


class Ticket(Record):
    """A ticket as found now.

    Attributes:
        queue: The project or queue it lies in.
        request_type: What was asked for, as the portal names it; empty for a ticket that is no request.
        status: The status's own name.
        is_done: Whether the ticket system counts that status as finished.
        fields: The fields that the tenant's connection maps to names, by that name.
    """

    key: str
    queue: str
    request_type: str
    title: str
    status: str
    is_done: bool
    reporter: Person
    fields: dict[str, JsonValue]


class NewTicket(Record):
    """A ticket to open.

    Attributes:
        text: Plain text; blank lines part paragraphs, `- ` starts a list item.
        kind: The ticket system's name of the type.
        priority: Its name of the priority; the queue's own when it is empty.
        fields: Further fields, by the names that the tenant's connection gives them.
        key: Names the ticket for good, such as what it is about and for which period: a ticket that was opened with the
            same key is found instead of opening another, whichever run opened it. Without it each step opens its own.
    """

    queue: str
    title: str
    text: str
    kind: str = "Task"
    priority: str = ""
    fields: dict[str, JsonValue] = {}
    key: str = ""


class TicketUpdate(Record):
    """What a ticket should say; what is empty is left as it is. `text` and `fields` are as in a new ticket."""

    ticket: str
    title: str = ""
    text: str = ""
    priority: str = ""
    fields: dict[str, JsonValue] = {}


class TicketState(Record):
    """Where a ticket stands; `ticket` is its key, empty while it is only planned."""

    ticket: str
    status: str
    is_done: bool


class Comment(Record):
    """A comment to leave on a ticket. `text` is plain text; blank lines part paragraphs, `- ` starts a list item."""

    ticket: str
    text: str


class CommentState(Record):
    """Whether our comment stands on the ticket; `comment` is the ticket system's id of it, empty while only planned."""

    ticket: str
    comment: str


class Closing(Record):
    """A ticket to close."""

    ticket: str


READ = Capability("ticket.read", Effect.READ, TicketQuery, Ticket, "Read a ticket back from the ticket system.")
OPEN = Capability("ticket.open", Effect.WRITE, NewTicket, TicketState, "Open a ticket.", named_by="key")
UPDATE = Capability("ticket.update", Effect.WRITE, TicketUpdate, TicketState, "Bring a ticket up to date.")
COMMENT = Capability("ticket.comment", Effect.WRITE, Comment, CommentState, "Leave a comment on a ticket.")
CLOSE = Capability("ticket.close", Effect.WRITE, Closing, TicketState, "Move a ticket to its finished status.")
