from __future__ import annotations

import itertools
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from regie.core.schedule import ON_TIME_S, CronFault, check_cron, distance_s, latest_until, next_after, settle
from regie.core.schedule import trigger_key as trigger_of
from regie.core.starts import Missed, ScheduleStart

AMSTERDAM = "Europe/Amsterdam"
ZONES = (AMSTERDAM, "UTC", "America/New_York", "Australia/Lord_Howe", "America/Havana", "Asia/Kolkata")
"""Among them one that jumps by half an hour, and one that jumps at midnight."""
MINUTE = timedelta(minutes=1)


def at(year: int, month: int, day: int, hour: int = 0, minute: int = 0) -> datetime:
    return datetime(year, month, day, hour, minute, tzinfo=UTC)


def several(cron: str, zone: str, after: datetime, count: int) -> list[datetime]:
    found: list[datetime] = []
    for _ in range(count):
        moment = next_after(cron, zone, found[-1] if found else after)
        assert moment is not None
        found.append(moment)
    return found


def test_the_clock_of_the_zone_counts_in_summer_and_in_winter() -> None:
    assert next_after("30 7 * * 1-5", AMSTERDAM, at(2026, 3, 27, 12)) == at(2026, 3, 30, 5, 30)
    assert next_after("30 7 * * 1-5", AMSTERDAM, at(2026, 3, 26, 12)) == at(2026, 3, 27, 6, 30)


@pytest.mark.parametrize("cron", ["30 2 * * *", "*/15 2 * * *", "5,55 2 * * *", "0 2 * * SUN"])
def test_a_skipped_hour_is_due_once_right_after_it(cron: str) -> None:
    # On 29 March 2026 the clock goes from 02:00 to 03:00, which is 01:00 UTC.
    found = several(cron, AMSTERDAM, at(2026, 3, 28, 12), 2)
    assert found[0] == at(2026, 3, 29, 1)
    assert found[1] > at(2026, 3, 29, 12)


@pytest.mark.parametrize(("cron", "times"), [("30 2 * * *", 1), ("*/15 2 * * *", 4)])
def test_a_doubled_hour_counts_once(cron: str, times: int) -> None:
    # On 25 October 2026 02:00 to 03:00 comes twice, from 00:00 UTC and from 01:00 UTC.
    found = several(cron, AMSTERDAM, at(2026, 10, 24, 12), times + 1)
    assert all(at(2026, 10, 25, 0) <= moment < at(2026, 10, 25, 1) for moment in found[:times])
    assert found[times] > at(2026, 10, 26, 0)


def test_what_runs_every_hour_goes_on_as_time_does() -> None:
    found = several("0 * * * *", AMSTERDAM, at(2026, 10, 24, 22, 30), 5)
    assert [b - a for a, b in itertools.pairwise(found)] == [timedelta(hours=1)] * 4


FIELDS = st.tuples(
    st.one_of(st.just("*/20"), st.integers(0, 59).map(str), st.just("0,30")),
    st.one_of(st.just("*"), st.integers(0, 23).map(str), st.just("1-3"), st.just("*/6")),
    st.one_of(st.just("*"), st.integers(1, 28).map(str)),
    st.one_of(st.just("*"), st.just("3,10")),
    st.one_of(st.just("*"), st.just("1-5"), st.just("0")),
)
MOMENTS = st.timedeltas(timedelta(), timedelta(days=2_000)).map(lambda since: at(2024, 1, 1) + since)


@given(fields=FIELDS, zone=st.sampled_from(ZONES), after=MOMENTS)
@settings(max_examples=150, deadline=None)
def test_times_go_forward_and_show_on_the_clock_what_was_written(
    fields: tuple[str, ...], zone: str, after: datetime
) -> None:
    cron = " ".join(fields)
    check_cron(cron)
    previous = after
    for _ in range(5):
        found = next_after(cron, zone, previous)
        assert found is not None
        assert found > previous
        # Between the two there is nothing: asking from any moment between gives the same.
        assert next_after(cron, zone, previous + (found - previous) / 2) == found
        local = found.astimezone(ZoneInfo(zone))
        shown = f"{local.minute} {local.hour}"
        jumped = (found - MINUTE).astimezone(ZoneInfo(zone)).utcoffset() != local.utcoffset()
        if not jumped:
            wanted = " ".join((*shown.split(), *fields[2:]))
            assert next_after(f"{shown} * * *", zone, found - MINUTE / 2) == found, wanted
        previous = found


@given(
    fields=FIELDS,
    zone=st.sampled_from(ZONES),
    since=MOMENTS,
    away=st.timedeltas(timedelta(), timedelta(days=200)),
    missed=st.sampled_from(Missed),
)
@settings(max_examples=100, deadline=None)
def test_however_long_nobody_was_there_it_is_one_run_at_most(
    fields: tuple[str, ...], zone: str, since: datetime, away: timedelta, missed: Missed
) -> None:
    start = ScheduleStart(cron=" ".join(fields), zone=zone, missed=missed)
    planned = next_after(start.cron, zone, since)
    assert planned is not None
    now = planned + away
    settled = settle(start, planned, now)
    latest = latest_until(start.cron, zone, now, since=planned)
    assert latest is not None
    assert planned <= latest <= now
    assert settled.next_at is not None
    assert settled.next_at > now
    assert next_after(start.cron, zone, latest) == settled.next_at
    is_late = (now - latest).total_seconds() > ON_TIME_S
    if missed is Missed.RUN_ONCE or not is_late:
        assert settled.instant == latest
    else:
        assert (settled.instant, settled.missed) == (None, planned)
    assert (settled.missed is None) == (settled.instant == planned)


def test_times_years_apart_are_found_too() -> None:
    start = ScheduleStart(cron="0 5 29 2 *", zone="UTC")
    settled = settle(start, at(2020, 2, 29, 5), at(2026, 1, 1))
    assert (settled.instant, settled.missed, settled.next_at) == (
        at(2024, 2, 29, 5),
        at(2020, 2, 29, 5),
        at(2028, 2, 29, 5),
    )


@pytest.mark.parametrize("cron", ["0 0 31 2 *", "60 * * * *", "* * * * 8", "a * * * *", "*/0 * * * *", "5-1 * * * *"])
def test_what_is_no_time_is_refused(cron: str) -> None:
    with pytest.raises(CronFault):
        check_cron(cron)


@given(st.text(max_size=40) | st.text("0123456789*/,-LMON#@ ", max_size=20))
@settings(max_examples=300, deadline=None)
def test_any_text_is_a_time_or_is_refused(text: str) -> None:
    offset = fault_of(text)
    if offset is None:
        assert next_after(text, AMSTERDAM, at(2026, 1, 1)) is not None
    else:
        assert 0 <= offset <= len(text)


def fault_of(text: str) -> int | None:
    try:
        check_cron(text)
    except CronFault as fault:
        return fault.offset
    return None


def test_tenants_are_spread_each_at_its_own_distance() -> None:
    start = ScheduleStart(cron="0 7 * * *", zone="UTC", spread_s=600)
    drawn = [distance_s(start, f"tenant-{number}", "hr.report") for number in range(200)]
    assert all(0 <= distance < 600 for distance in drawn)
    assert len(set(drawn)) > 100
    assert drawn[0] == distance_s(start, "tenant-0", "hr.report")
    assert distance_s(start.model_copy(update={"spread_s": 0.0}), "tenant-0", "hr.report") == 0


def test_the_trigger_is_the_scheduled_time_wherever_its_clock_stands() -> None:
    moment = at(2026, 3, 29, 1)
    assert trigger_of("hr.report", moment) == "schedule:hr.report:2026-03-29T01:00:00Z"
    assert trigger_of("hr.report", moment.astimezone(ZoneInfo(AMSTERDAM))) == trigger_of("hr.report", moment)
