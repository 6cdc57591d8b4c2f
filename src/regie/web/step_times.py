"""How long a step took and what of that it waited, from the records of its attempts. API and pages show it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime

from regie.store.steps import StepRecord


@dataclass(frozen=True, slots=True)
class StepTimes:
    """The times of one step in seconds, over all its attempts.

    Attributes:
        attempts: How many were begun.
        queued_s: Waiting for a worker.
        ran_s: At work.
        waited_s: The rest, from when it could begin until its end: for people, for time, for the pause before another
            attempt, or for a vendor that finishes later.
    """

    attempts: int = 0
    queued_s: float = 0.0
    ran_s: float = 0.0
    waited_s: float = 0.0

    @property
    def total_s(self) -> float:
        """From when it could begin until its end."""
        return self.queued_s + self.ran_s + self.waited_s


def times_of(records: Iterable[StepRecord]) -> dict[str, StepTimes]:
    """The times of each step, by its place."""
    by_place: dict[str, list[StepRecord]] = {}
    for record in records:
        by_place.setdefault(record.place, []).append(record)
    return {place: _times(made) for place, made in by_place.items()}


def _times(made: Sequence[StepRecord]) -> StepTimes:
    queued_s = _total((record.queued_at, record.started_at) for record in made)
    ran_s = _total((record.started_at, record.ended_at) for record in made)
    began = [record.queued_at for record in made if record.queued_at]
    ended = [record.ended_at for record in made if record.ended_at]
    whole_s = (max(ended) - min(began)).total_seconds() if began and ended else 0.0
    return StepTimes(
        attempts=sum(record.started_at is not None for record in made),
        queued_s=queued_s,
        ran_s=ran_s,
        waited_s=max(0.0, whole_s - queued_s - ran_s),
    )


def _total(moments: Iterable[tuple[datetime | None, datetime | None]]) -> float:
    """Seconds between two moments, over all attempts that have both."""
    return sum((max(0.0, (to - since).total_seconds()) for since, to in moments if since and to), 0.0)
