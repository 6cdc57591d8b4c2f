"""Blocks about events: what has happened, for other runs."""

from __future__ import annotations

from pydantic import JsonValue

from regie.core.block import interpreted
from regie.core.capability import Record
from regie.core.outside_event import Name


class EventToPublish(Record):
    """An event of a run: its name, `noun.verb`, and its fields."""

    event: Name
    data: dict[str, JsonValue] = {}


class PublishedEvent(Record):
    """The event as published. `id` is empty in a dry run, which tells nobody."""

    id: str


publish = interpreted(
    "event.publish",
    arguments=EventToPublish,
    gives=PublishedEvent,
    doc="""
    Tell the other runs of the same customer and domain that something has happened.

    Workflows with `start: { event: ... }` of that name start, and steps that `wait` for it go on, as if a program had
    told it. It is told once, when the step is done, whatever crashes. A run that was started by such an event may
    publish events itself: eight runs may stand in a row, then the step fails.

    Example:
        uses: event.publish
        with:
          event: employee.leave
          data: { employee: jan.janssen@example.com }
    """,
)
