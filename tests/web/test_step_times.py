"""The times of steps: what they queued, what they waited on their own account, what they worked."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from regie.core.definition import Definition
from regie.core.reading import read_definition
from regie.core.status import StepStatus
from regie.store.steps import StepRecord
from regie.web.step_times import StepTimes, times_of

BEGAN = datetime(2026, 1, 1, tzinfo=UTC)
DEFINITION, _ = read_definition(
    """\
workflow: things.wait
title: Wait
owner: team:test
steps:
  - { id: first, uses: thing.act }
  - id: pause
    wait: 1h
  - parallel:
      - id: other_pause
        wait: 2h
      - { id: beside, uses: thing.act }
""",
    "wait.yaml",
)


def at(seconds: float | None) -> datetime | None:
    return None if seconds is None else BEGAN + timedelta(seconds=seconds)


def record(place: str, attempt: int, queued: float | None, started: float | None, ended: float | None) -> StepRecord:
    return StepRecord(
        place=place,
        attempt=attempt,
        uses="thing.act",
        status=StepStatus.DONE,
        input_sha256="",
        output_json=None,
        failure=None,
        queued_at=at(queued),
        started_at=at(started),
        ended_at=at(ended),
        seq=1,
    )


def times(*records: StepRecord, definition: Definition = DEFINITION) -> dict[str, StepTimes]:
    return times_of(records, [], definition, started_at=BEGAN, now=BEGAN)


def test_the_pause_between_two_attempts_is_its_own_wait() -> None:
    found = times(record("first", 1, 0, 1, 3), record("first", 2, 10, 10.5, 11))
    assert found == {"first": StepTimes(attempts=2, queued_s=1.5, ran_s=2.5, waited_s=7)}


def test_a_step_that_only_waits_has_waited_since_what_stood_before_it() -> None:
    found = times(
        record("first", 1, 0, 1, 3),
        record("pause", 1, None, None, 3603),
        record("beside", 1, 3603, 3603, 3700),
        record("other_pause", 1, None, None, 10_803),
    )
    assert found["pause"] == StepTimes(attempts=1, waited_s=3600)
    assert found["other_pause"] == StepTimes(attempts=1, waited_s=7200)


@given(st.lists(st.tuples(*[st.floats(0, 1e6)] * 3), min_size=1, max_size=5))
def test_parts_are_never_negative_and_make_up_the_whole(lengths: list[tuple[float, float, float]]) -> None:
    made, now = [], 0.0
    for attempt, (queued_s, ran_s, pause_s) in enumerate(lengths, start=1):
        made.append(record("first", attempt, now, now + queued_s, now + queued_s + ran_s))
        now += queued_s + ran_s + pause_s
    found = times(*made)["first"]
    assert found.attempts == len(lengths)
    assert min(found.queued_s, found.ran_s, found.waited_s) >= 0
    last_ended, first_queued = made[-1].ended_at, made[0].queued_at
    assert last_ended is not None
    assert first_queued is not None
    assert abs(found.total_s - (last_ended - first_queued).total_seconds()) < 1e-3
