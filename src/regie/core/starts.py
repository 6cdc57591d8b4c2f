"""The ways a run starts by itself, as a workflow file says them under `start:`. Part of a definition.

`reading_starts.py` makes them; the web asks for tickets and forms, the worker for schedules and polls, the engine for
events. A further kind
is a record here, a word in `reading_starts.py`, and whoever drives it.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Discriminator, JsonValue, Tag

from regie.core import canonical
from regie.core.durations import in_words

POLL_PLACE = "start/poll"
"""Where a poll stands among the places of a workflow: before there is a run there is no step."""


class Kind(StrEnum):
    """Each is the word that says so in the file."""

    TICKET = "ticket"
    SCHEDULE = "schedule"
    POLL = "poll"
    FORM = "form"
    EVENT = "event"


class Missed(StrEnum):
    """What becomes of a time at which nobody was there to start the run."""

    RUN_ONCE = "run-once"
    """One run for the latest of them, as soon as somebody is there."""
    SKIP = "skip"
    """No run."""


class WrittenStart(BaseModel):
    """A start as written."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class TicketStart(WrittenStart):
    """Starts a run for each new ticket of that request type."""

    kind: Literal[Kind.TICKET] = Kind.TICKET
    system: str
    project: str
    request_type: str

    @property
    def in_words(self) -> str:
        """For people."""
        return f"a {self.system} ticket of type {self.request_type} in {self.project}"


class ScheduleStart(WrittenStart):
    """Starts a run for each tenant at the times that a cron expression names.

    Attributes:
        cron: Five fields, see `schedule.py`.
        zone: IANA name of the time zone whose clock is meant.
        spread_s: Tenants start up to so many seconds later, each always at its own distance.
    """

    kind: Literal[Kind.SCHEDULE] = Kind.SCHEDULE
    cron: str
    zone: str
    missed: Missed = Missed.RUN_ONCE
    spread_s: float = 0.0

    @property
    def identity(self) -> str:
        """Names it among the starts of its workflow; another time or zone makes it another one."""
        return canonical.digest([self.cron, self.zone, self.spread_s])

    @property
    def in_words(self) -> str:
        """For people."""
        return f"the schedule {self.cron} in {self.zone}"


class PollStart(WrittenStart):
    """Asks a reading block again and again, and starts a run for each item that is new.

    Attributes:
        arguments: What the block is given, `${{ settings.NAME }}` and `${{ poll.cursor }}` in it.
        items: Which list of what the block gives holds the items; none when it gives just one.
        key: Path to what tells items apart, such as `item.id`.
    """

    kind: Literal[Kind.POLL] = Kind.POLL
    uses: str
    arguments: dict[str, JsonValue] = {}
    every_s: float
    items: str | None = None
    key: str

    @property
    def identity(self) -> str:
        """Names it among the starts of its workflow; another question makes it another one, with its own cursor."""
        return canonical.digest([self.uses, self.arguments])

    @property
    def in_words(self) -> str:
        """For people."""
        return f"each new item of {self.uses}, asked every {in_words(self.every_s)}"


class FormStart(WrittenStart):
    """Lets people start a run from a page made of the input's fields.

    Attributes:
        who: `everyone` who belongs to the tenant, or `role:NAME`.
    """

    kind: Literal[Kind.FORM] = Kind.FORM
    who: str

    @property
    def role(self) -> str | None:
        """The role one must hold for the tenant; none when everyone who belongs to it may."""
        return self.who.removeprefix("role:") if self.who.startswith("role:") else None

    @property
    def in_words(self) -> str:
        """For people."""
        return "a form for everyone" if self.role is None else f"a form for who has the role {self.role}"


class EventStart(WrittenStart):
    """Starts a run for each event of a name whose data fits, be it told by a program or published by another run.

    Attributes:
        event: Its name, `noun.verb`.
        where: Fields of its data, and what each must be equal to.
        condition: The `if:` expression over `event` and `settings`, if any.
    """

    kind: Literal[Kind.EVENT] = Kind.EVENT
    event: str
    where: dict[str, JsonValue] = {}
    condition: str | None = None

    @property
    def identity(self) -> str:
        """Names it among the starts of its workflow."""
        return canonical.digest([self.event, self.where, self.condition])

    @property
    def in_words(self) -> str:
        """For people."""
        return f"the event {self.event}" + (" with certain data" if self.where or self.condition else "")


def _kind_of(start: Any) -> str:
    """The kind of a start; releases from before there were several name none."""
    kind = start.get("kind", Kind.TICKET) if isinstance(start, Mapping) else getattr(start, "kind", Kind.TICKET)
    return str(kind)


Start = Annotated[
    Annotated[TicketStart, Tag("ticket")]
    | Annotated[ScheduleStart, Tag("schedule")]
    | Annotated[PollStart, Tag("poll")]
    | Annotated[FormStart, Tag("form")]
    | Annotated[EventStart, Tag("event")],
    Discriminator(_kind_of),
]
"""Any way to start a run."""
