"""How long a step took and what of that it waited, from the records of its attempts. API and pages show it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from regie.core.definition import Definition, Kind, Step
from regie.core.places import written_place
from regie.store.approvals import Approval
from regie.store.steps import StepRecord


@dataclass(frozen=True, slots=True)
class StepTimes:
    """The times of one step in seconds, over all its attempts.

    Attributes:
        attempts: How many were begun.
        queued_s: Waiting for a worker.
        ran_s: At work.
        waited_s: Its own wait, the rest from when it could begin until its end: for people, for the pause before
            another attempt, or for a vendor that finishes later.
    """

    attempts: int = 0
    queued_s: float = 0.0
    ran_s: float = 0.0
    waited_s: float = 0.0

    @property
    def total_s(self) -> float:
        """From when it could begin until its end."""
        return self.queued_s + self.ran_s + self.waited_s


def times_of(
    records: Sequence[StepRecord],
    asked: Iterable[Approval],
    definition: Definition,
    *,
    started_at: datetime,
    now: datetime,
) -> dict[str, StepTimes]:
    """The times of each step, by its place.

    Args:
        records: Of all attempts in the run.
        asked: The run's approvals: how long people took, or have been taking until now.
        started_at: When the run was started.
        now: Up to when waiting counts that has not ended.
    """
    by_place: dict[str, list[StepRecord]] = {}
    for record in records:
        by_place.setdefault(record.place, []).append(record)
    times = {place: _times(made) for place, made in by_place.items()}
    for approval in asked:
        waited_s = max(0.0, ((approval.decided_at or now) - approval.asked_at).total_seconds())
        before = times.get(approval.place, StepTimes())
        times[approval.place] = replace(
            before, attempts=max(1, before.attempts), waited_s=max(before.waited_s, waited_s)
        )
    began = dict(_begun(definition.steps, started_at, by_place, is_parallel=False))
    for place, made in by_place.items():
        # No worker does these, so nothing but their end is recorded.
        written = definition.by_place.get(place)
        ended_at = made[-1].ended_at
        if written is not None and written.kind in {Kind.WAIT, Kind.RUN} and ended_at and place in began:
            waited_s = max(0.0, (ended_at - began[place]).total_seconds())
            times[place] = replace(times[place], attempts=max(1, times[place].attempts), waited_s=waited_s)
    return times


def _begun(
    steps: Sequence[Step], since: datetime, by_place: Mapping[str, Sequence[StepRecord]], *, is_parallel: bool
) -> Iterator[tuple[str, datetime]]:
    """When each written step could begin: at the end of what stands before it. Rounds of a loop are left out."""
    for step in steps:
        yield step.place, since
        yield from _begun(step.steps, since, by_place, is_parallel=step.kind is Kind.PARALLEL)
        if not is_parallel:
            within = {step.place, *(inner.place for inner in step.walk())}
            ended = (
                record.ended_at
                for place, made in by_place.items()
                if written_place(place) in within
                for record in made
                if record.ended_at
            )
            since = max(ended, default=since)


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
