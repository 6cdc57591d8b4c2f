"""What the page of records draws: when things are due, as bars over time, and how far through its time each is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from pydantic import JsonValue

from regie.core.tenant import RecordKind
from regie.store.records import Shown
from regie.web.pages.wording import counted, moment

WEEKS = 26
"""How far ahead the bars reach, each a week."""
HIGH = 96
"""Of the highest bar, in pixels."""
LEAST = 4
"""Of the lowest one: a single thing must not vanish beside a thousand."""


@dataclass(frozen=True, slots=True)
class Piece:
    """What of a bar is in one state, in pixels from the top."""

    tone: str
    y: float
    height: float


@dataclass(frozen=True, slots=True)
class Bar:
    """What is due in one part of time. The first is everything before now, the last everything after the weeks."""

    x: float
    width: float
    number: int
    pieces: list[Piece]
    words: str
    since: datetime | None
    until: datetime | None


@dataclass(frozen=True, slots=True)
class Label:
    """A month's name under the bar in which it begins."""

    x: float
    text: str


@dataclass(frozen=True, slots=True)
class Timeline:
    """The bars. Places and widths are hundredths of the whole width."""

    bars: list[Bar]
    labels: list[Label]
    now: float
    total: int


def edges_of(now: datetime) -> list[datetime]:
    """Where the parts of time meet: now, and each week from then on."""
    return [now + timedelta(weeks=week) for week in range(WEEKS + 1)]


def timeline(kind: RecordKind, edges: Sequence[datetime], due: Mapping[tuple[int, str], int]) -> Timeline:
    """The bars of what is due.

    Args:
        due: How many are due in each part, by part and state; part 0 is before the first edge.
    """
    parts = len(edges) + 1
    numbers = [sum(number for (at, _), number in due.items() if at == part) for part in range(parts)]
    most = max(numbers, default=0)
    width = 100 / parts
    bars = [
        Bar(
            x=round(part * width, 3),
            width=round(width, 3),
            number=number,
            pieces=_pieces(kind, part, due, number, most),
            words=_words(edges, part, number),
            since=edges[part - 1] if part else None,
            until=edges[part] if part < len(edges) else None,
        )
        for part, number in enumerate(numbers)
    ]
    labels = [
        # Beside the words at both ends there is no room.
        Label(round((max(week, 2) + 1.5) * width, 3), f"{edge:%b}")
        for week, edge in enumerate(edges[:-3])
        if week and edge.month != edges[week - 1].month
    ]
    return Timeline(bars, labels, now=round(width, 3), total=sum(numbers))


def _pieces(kind: RecordKind, part: int, due: Mapping[tuple[int, str], int], number: int, most: int) -> list[Piece]:
    if not number:
        return []
    height = max(LEAST, HIGH * number / most)
    pieces: list[Piece] = []
    y = HIGH - height
    declared = [each.state for each in kind.states]
    # The most pressing stands at the ground, where bars are compared.
    for state in reversed([*declared, *sorted({state for at, state in due if at == part} - set(declared))]):
        share = due.get((part, state), 0) / number
        if share:
            pieces.append(Piece(kind.state(state).tone, round(y, 2), round(height * share, 2)))
            y += height * share
    return pieces


def _words(edges: Sequence[datetime], part: int, number: int) -> str:
    if part == 0:
        return f"{number} before now"
    if part == len(edges):
        return f"{number} later than {edges[-1]:%d %B %Y}"
    return f"{number} in the week from {edges[part - 1]:%d %B}"


@dataclass(frozen=True, slots=True)
class RecordView:
    """A record as the page shows it.

    Attributes:
        when: When it is due, in words.
        gone: How much of its time is over, in hundredths; None where that cannot be said.
        glance: What is shown in the list itself: names and values, without those that are empty.
        fields: The others.
    """

    shown: Shown
    title: str
    tone: str
    when: str
    gone: float | None
    glance: list[tuple[str, str]]
    fields: list[tuple[str, str]]


def view_of(kind: RecordKind, shown: Shown, now: datetime) -> RecordView:
    """What the page says of one record."""
    record = shown.record
    state = kind.state(record.state)
    begins = _moment(record.value.get(kind.begins)) if kind.begins else None
    gone = None
    if begins is not None and record.due_at is not None and record.due_at > begins:
        gone = round(100 * min(1.0, max(0.0, (now - begins) / (record.due_at - begins))), 2)
    told = [(each, in_words(record.value.get(each.field))) for each in kind.fields]
    return RecordView(
        shown=shown,
        title=state.title,
        tone=state.tone,
        when=_when(record.due_at, now),
        gone=gone,
        glance=[(each.title, text) for each, text in told if text and each.at_a_glance],
        fields=[(each.title, text) for each, text in told if text and not each.at_a_glance],
    )


def in_words(value: JsonValue) -> str:
    """A field of a record for people; nothing for what is empty."""
    match value:
        case None | "" | []:
            return ""
        case bool():
            return "yes" if value else "no"
        case list():
            return ", ".join(in_words(each) for each in value)
        case dict():
            return ", ".join(f"{name}: {in_words(each)}" for name, each in value.items())
        case _:
            at = _moment(value)
            return moment(at) if at else str(value)


def _when(due_at: datetime | None, now: datetime) -> str:
    if due_at is None:
        return ""
    days = abs(due_at - now) / timedelta(days=1)
    hours = int(days * 24)
    long = f"{int(days)} days" if days >= 2 else counted(hours, "hour", "hours") if hours else "less than an hour"
    return f"{long} ago" if due_at < now else f"in {long}"


def _moment(value: JsonValue) -> datetime | None:
    """A time with its zone, as records carry it; a date by itself is a text like any other."""
    if not isinstance(value, str) or "T" not in value:
        return None
    try:
        at = datetime.fromisoformat(value)
    except ValueError:
        return None
    return at.astimezone(UTC) if at.tzinfo else None
