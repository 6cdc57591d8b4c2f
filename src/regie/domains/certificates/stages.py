"""How far a certificate is through its lifetime, and what that asks for. Pure; the block of `reviewing.py` applies it.

Lifetimes get shorter (47 days at most from 2029 on: CA/Browser Forum ballot SC-081), so a fixed number of days before
the end fires on healthy certificates. Each mark is therefore a part of the lifetime, and a number of days where that is
later: a certificate of a year gets its ticket 30 days before the end, one of 45 days when a quarter is left.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Annotated

from pydantic import AwareDatetime, Field

from regie.core.capability import Record

Part = Annotated[float, Field(gt=0, lt=1)]


class Stage(StrEnum):
    """Where a certificate stands. Tickets and pages compare these words, so they stay as they are."""

    UNSEEN = "unseen"
    """Nothing has ever been presented."""
    UNUSED = "unused"
    """It lies in a store, and nothing uses it: it may end."""
    HEALTHY = "healthy"
    DUE = "due"
    """It is time to renew it."""
    OVERDUE = "overdue"
    """It should have been renewed: a ticket is open."""
    URGENT = "urgent"
    """Little time is left: people are told in chat as well."""
    EXPIRED = "expired"

    @property
    def needs_ticket(self) -> bool:
        """Whether people have to know."""
        return self in {Stage.OVERDUE, Stage.URGENT, Stage.EXPIRED}


class Rules(Record):
    """When a certificate reaches which stage.

    Attributes:
        renew_when_left: Part of the lifetime left when one that is renewed by itself is due.
        ticket_when_left: Part left when its renewal is overdue. One that is renewed by hand is overdue already when the
            part `renew_when_left` is left: people need the time.
        alert_when_left: Part left when it is urgent.
        ticket_days, alert_days: Days left at which these come at the earliest.
    """

    renew_when_left: Part = 0.33
    ticket_when_left: Part = 0.25
    alert_when_left: Part = 0.1
    ticket_days: Annotated[float, Field(gt=0)] = 30
    alert_days: Annotated[float, Field(gt=0)] = 7


class Window(Record):
    """When the authority wants a certificate renewed (RFC 9773)."""

    start: AwareDatetime
    end: AwareDatetime


@dataclass(frozen=True, slots=True)
class Marks:
    """When a certificate enters each stage; they never fall."""

    due_at: datetime
    overdue_at: datetime
    urgent_at: datetime
    expires_at: datetime

    def stage(self, now: datetime) -> Stage:
        """Where it stands now."""
        for stage, begins in (
            (Stage.EXPIRED, self.expires_at),
            (Stage.URGENT, self.urgent_at),
            (Stage.OVERDUE, self.overdue_at),
            (Stage.DUE, self.due_at),
        ):
            if now >= begins:
                return stage
        return Stage.HEALTHY


def marks_of(
    serial: str,
    not_before: datetime,
    not_after: datetime,
    rules: Rules,
    *,
    by_hand: bool,
    window: Window | None = None,
) -> Marks:
    """When a certificate enters each stage.

    Args:
        serial: Chooses the moment inside the window, so that not all certificates are renewed at once (RFC 9773, 4.2).
        by_hand: Whether people renew it.
        window: What its authority says; it goes before the part of the lifetime.
    """
    lifetime = max(not_after - not_before, timedelta(0))
    urgent_at = not_after - min(timedelta(days=rules.alert_days), lifetime * rules.alert_when_left)
    ticket_part = rules.renew_when_left if by_hand else rules.ticket_when_left
    overdue_at = not_after - min(timedelta(days=rules.ticket_days), lifetime * ticket_part)
    due_at = overdue_at if by_hand else not_after - lifetime * rules.renew_when_left
    if window is not None:
        due_at = chosen_moment(serial, window)
        overdue_at = max(overdue_at, window.end)
    overdue_at = min(overdue_at, urgent_at)
    return Marks(min(due_at, overdue_at), overdue_at, urgent_at, not_after)


def chosen_moment(serial: str, window: Window) -> datetime:
    """The moment inside a window at which a certificate is renewed: anywhere in it, and always the same."""
    drawn = int.from_bytes(hashlib.sha256(serial.encode()).digest()[:4]) / 2**32
    return window.start + max(window.end - window.start, timedelta(0)) * drawn


def told(ladder: Sequence[str], marks: Marks, now: datetime) -> list[str]:
    """Who has been told by now: the owner when it is overdue, those above one after the other until it expires.

    Args:
        ladder: The owner, the owner's owner, and so on.
    """
    if now < marks.overdue_at:
        return []
    left = marks.expires_at - marks.overdue_at
    return [who for number, who in enumerate(ladder) if now >= marks.overdue_at + left * number / len(ladder)]


def in_words(left: timedelta) -> str:
    """A length of time for people, rounded down to days or, below two days, to hours."""
    gone = "" if left >= timedelta(0) else " ago"
    hours = int(abs(left) / timedelta(hours=1))
    number, unit = (hours // 24, "day") if hours >= 48 else (hours, "hour")
    return f"{number} {unit}{'' if number == 1 else 's'}{gone}"
