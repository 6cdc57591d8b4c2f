"""What a look at an installation finds, one line each: what `regie doctor` prints."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from enum import StrEnum


class Level(StrEnum):
    """How much a finding matters."""

    OK = "ok"
    INFO = "info"
    """How things are; nothing has to be done."""
    WARNING = "warning"
    """It works, and somebody should look."""
    PROBLEM = "problem"
    """Something does not work."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at.

    Attributes:
        check: What was looked at, in a word or two.
        message: What was found, in one sentence.
        remedy: What to do about it; empty when there is nothing to do.
    """

    check: str
    level: Level
    message: str
    remedy: str = ""

    def as_json(self) -> dict[str, str]:
        """For programs."""
        return {name: str(value) for name, value in asdict(self).items()}


def ok(check: str, message: str) -> Finding:
    """All is well."""
    return Finding(check, Level.OK, message)


def info(check: str, message: str, remedy: str = "") -> Finding:
    """So it is."""
    return Finding(check, Level.INFO, message, remedy)


def warning(check: str, message: str, remedy: str) -> Finding:
    """Somebody should look."""
    return Finding(check, Level.WARNING, message, remedy)


def problem(check: str, message: str, remedy: str) -> Finding:
    """Something does not work."""
    return Finding(check, Level.PROBLEM, message, remedy)
