"""Moments as people write them: a time with its offset (RFC 3339), or a date, which means the beginning of that day.

Used by the reader, by the interpreter where a step waits until a moment, and by the tenant's file for its time zone.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime, tzinfo
from zoneinfo import ZoneInfo

from pydantic import JsonValue

_DATE = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")
_TIME = re.compile(_DATE.pattern + r"[Tt ][0-9]{2}:[0-9]{2}:[0-9]{2}(\.[0-9]+)?([Zz]|[+-][0-9]{2}:[0-9]{2})")


def read_zone(name: str) -> tzinfo:
    """A time zone by its IANA name, such as `Europe/Amsterdam`.

    Raises:
        ValueError: There is none of that name on this machine.
    """
    if name == "UTC":
        return UTC
    try:
        return ZoneInfo(name)
    # What stands for a name may be a folder, or lead out of the place where zones are.
    except (LookupError, OSError, ValueError) as error:
        raise ValueError(f"{name!r} is not a time zone: write its IANA name, like Europe/Amsterdam") from error


def read_moment(text: JsonValue, zone: tzinfo) -> datetime:
    """The moment, in UTC, that a written time or date stands for.

    A day begins at its first midnight; where clocks skip that midnight, at the moment they do (PEP 495, fold 0).

    Args:
        text: RFC 3339 time with offset (section 5.6), or a date YYYY-MM-DD.
        zone: Where the date's day is meant.

    Raises:
        ValueError: The text is neither, or outside of the calendar.
    """
    written = text.strip() if isinstance(text, str) else ""
    try:
        if _DATE.fullmatch(written):
            return datetime.fromisoformat(written).replace(tzinfo=zone).astimezone(UTC)
        if _TIME.fullmatch(written):
            return datetime.fromisoformat(written.upper()).astimezone(UTC)
    except (ValueError, OverflowError):
        raise ValueError(f"{text!r} is not in the calendar") from None
    raise ValueError(f"{text!r} is not a moment: write 2026-11-30T17:00:00+01:00, or a date like 2026-11-30")
