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
    """A ticket to open. `text` is plain text; blank lines part paragraphs."""

    queue: str
    title: str
    text: str
    kind: str = "Task"


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
OPEN = Capability("ticket.open", Effect.WRITE, NewTicket, TicketState, "Open a ticket.")
COMMENT = Capability("ticket.comment", Effect.WRITE, Comment, CommentState, "Leave a comment on a ticket.")
CLOSE = Capability("ticket.close", Effect.WRITE, Closing, TicketState, "Move a ticket to its finished status.")
