"""Blocks about tickets."""

from __future__ import annotations

from pydantic import JsonValue

from regie.core.block import Context, block
from regie.core.capabilities import ticket as tickets


@block("ticket.read", needs=(tickets.READ,))
async def read(ctx: Context, ticket: str) -> tickets.Ticket:
    """Read a ticket back from the ticket system.

    `fields` holds the ticket's own fields under the names that the tenant's connection gives them.

    Example:
        uses: ticket.read
        with: { ticket: ITSM-12 }
    """
    return await ctx.call(tickets.READ, tickets.TicketQuery(ticket=ticket))


@block("ticket.open", needs=(tickets.OPEN,))
async def open_ticket(
    ctx: Context,
    *,
    queue: str,
    title: str,
    text: str,
    kind: str = "Task",
    priority: str = "",
    fields: dict[str, JsonValue] = {},  # noqa: B006  read for the block's arguments, never changed
    key: str = "",
) -> tickets.TicketState:
    """Open a ticket. A repeat of the same step finds the ticket it opened instead of opening another.

    With a `key` there is one ticket for all runs that use the same key: put what it is about and the period into it. It
    is found even when it was closed since: look at `is_done`. `ticket.update` brings it up to date.

    Example:
        uses: ticket.open
        with: { queue: SOC, title: Malware on host-1, text: "Found at 10:04. Please isolate." }
    """
    new = tickets.NewTicket(queue=queue, title=title, text=text, kind=kind, priority=priority, fields=fields, key=key)
    return await ctx.change(tickets.OPEN, new)


@block("ticket.update", needs=(tickets.UPDATE,))
async def update(
    ctx: Context,
    *,
    ticket: str,
    title: str = "",
    text: str = "",
    priority: str = "",
    fields: dict[str, JsonValue] = {},  # noqa: B006  read for the block's arguments, never changed
) -> tickets.TicketState:
    """Bring a ticket up to date. What is not given is left as it is; what is as wanted already is not written.

    Example:
        uses: ticket.update
        with: { ticket: ITSM-12, priority: High, text: "Two days are left." }
    """
    wanted = tickets.TicketUpdate(ticket=ticket, title=title, text=text, priority=priority, fields=fields)
    return await ctx.change(tickets.UPDATE, wanted)


@block("ticket.comment", needs=(tickets.COMMENT,))
async def comment(ctx: Context, ticket: str, text: str) -> tickets.CommentState:
    """Leave a comment on a ticket. Blank lines part paragraphs, `- ` starts a list item.

    A repeat of the same step finds the comment it left instead of leaving another.

    Example:
        uses: ticket.comment
        with: { ticket: ITSM-12, text: The account is closed. }
    """
    return await ctx.change(tickets.COMMENT, tickets.Comment(ticket=ticket, text=text))


@block("ticket.close", needs=(tickets.CLOSE,))
async def close(ctx: Context, ticket: str) -> tickets.TicketState:
    """Move a ticket to its finished status.

    Example:
        uses: ticket.close
        with: { ticket: ITSM-12 }
    """
    return await ctx.change(tickets.CLOSE, tickets.Closing(ticket=ticket))
