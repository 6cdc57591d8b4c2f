"""The stages of certificates: examples from what authorities issue, and what holds for every certificate."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from regie.domains.certificates.stages import Rules, Stage, Window, chosen_moment, in_words, marks_of, told

BORN = datetime(2026, 1, 1, tzinfo=UTC)
ORDER = [Stage.HEALTHY, Stage.DUE, Stage.OVERDUE, Stage.URGENT, Stage.EXPIRED]

moments = st.datetimes(datetime(2000, 1, 1), datetime(2090, 1, 1), timezones=st.just(UTC))  # noqa: DTZ001  hypothesis adds the zone
lifetimes = st.timedeltas(timedelta(minutes=5), timedelta(days=800))
parts = st.floats(0.01, 0.99)
rules = st.builds(
    Rules,
    renew_when_left=parts,
    ticket_when_left=parts,
    alert_when_left=parts,
    ticket_days=st.floats(0.1, 400),
    alert_days=st.floats(0.1, 400),
)
windows = st.none() | st.builds(lambda at, long: Window(start=at, end=at + long), moments, lifetimes)


def stage_when_left(days: float, left: float, *, by_hand: bool = False, window: Window | None = None) -> Stage:
    """The stage of a certificate of so many days when so many are left, by the rules that ship."""
    dies = BORN + timedelta(days=days)
    return marks_of("1f", BORN, dies, Rules(), by_hand=by_hand, window=window).stage(dies - timedelta(days=left))


@pytest.mark.parametrize(
    ("days", "left", "stage"),
    [
        (398, 132, Stage.HEALTHY),
        (398, 131, Stage.DUE),
        (398, 31, Stage.DUE),
        (398, 30, Stage.OVERDUE),
        (398, 7, Stage.URGENT),
        (398, 0, Stage.EXPIRED),
        (90, 30, Stage.HEALTHY),
        (90, 29.7, Stage.DUE),
        (90, 22.6, Stage.DUE),
        (90, 22.5, Stage.OVERDUE),
        (45, 30, Stage.HEALTHY),
        (45, 14, Stage.DUE),
        (45, 11, Stage.OVERDUE),
        (45, 4.5, Stage.URGENT),
        (6, 3, Stage.HEALTHY),
        (6, 1.5, Stage.OVERDUE),
        (6, 0.6, Stage.URGENT),
    ],
)
def test_what_is_renewed_by_itself(days: float, left: float, stage: Stage) -> None:
    assert stage_when_left(days, left) is stage


@pytest.mark.parametrize(
    ("days", "left", "stage"),
    [
        (398, 31, Stage.HEALTHY),
        (398, 30, Stage.OVERDUE),
        (398, 7.1, Stage.OVERDUE),
        (398, 7, Stage.URGENT),
        (398, 0, Stage.EXPIRED),
        (90, 29.8, Stage.HEALTHY),
        (90, 29.7, Stage.OVERDUE),
        (6, 2, Stage.HEALTHY),
        (6, 1.9, Stage.OVERDUE),
    ],
)
def test_what_people_renew(days: float, left: float, stage: Stage) -> None:
    assert stage_when_left(days, left, by_hand=True) is stage


def test_the_authoritys_window_goes_before_the_part_of_the_lifetime() -> None:
    early = Window(start=BORN + timedelta(days=5), end=BORN + timedelta(days=6))
    assert stage_when_left(90, 84, window=early) is Stage.DUE
    late = Window(start=BORN + timedelta(days=70), end=BORN + timedelta(days=72))
    assert stage_when_left(90, 21, window=late) is Stage.HEALTHY
    assert stage_when_left(90, 17.9, window=late) is Stage.OVERDUE


def test_a_window_that_ends_with_the_certificate_keeps_no_alarm_back() -> None:
    useless = Window(start=BORN + timedelta(days=89), end=BORN + timedelta(days=95))
    assert stage_when_left(90, 6.9, window=useless) is Stage.URGENT


@given(born=moments, lifetime=lifetimes, chosen=rules, by_hand=st.booleans(), window=windows, at=st.lists(moments))
def test_a_certificate_only_ever_gets_worse(  # noqa: PLR0917  hypothesis gives them by name
    born: datetime,
    lifetime: timedelta,
    chosen: Rules,
    by_hand: bool,  # noqa: FBT001  hypothesis gives it by name
    window: Window | None,
    at: list[datetime],
) -> None:
    marks = marks_of("1f", born, born + lifetime, chosen, by_hand=by_hand, window=window)
    assert marks.due_at <= marks.overdue_at <= marks.urgent_at <= marks.expires_at == born + lifetime
    places = [ORDER.index(marks.stage(moment)) for moment in sorted(at)]
    assert places == sorted(places)


@given(born=moments, lifetime=lifetimes, by_hand=st.booleans())
def test_what_was_just_issued_is_healthy_however_short_its_life(
    born: datetime,
    lifetime: timedelta,
    by_hand: bool,  # noqa: FBT001  hypothesis gives it by name
) -> None:
    assert marks_of("1f", born, born + lifetime, Rules(), by_hand=by_hand).stage(born) is Stage.HEALTHY


@given(start=moments, long=lifetimes, serial=st.text())
def test_the_moment_in_a_window_is_inside_and_always_the_same(start: datetime, long: timedelta, serial: str) -> None:
    window = Window(start=start, end=start + long)
    assert window.start <= chosen_moment(serial, window) < window.end
    assert chosen_moment(serial, window) == chosen_moment(serial, window)


def test_certificates_do_not_all_choose_the_same_moment() -> None:
    window = Window(start=BORN, end=BORN + timedelta(days=2))
    hours = {int((chosen_moment(f"{each:x}", window) - BORN) / timedelta(hours=6)) for each in range(100)}
    assert hours == set(range(8))


@given(born=moments, lifetime=lifetimes, at=st.lists(moments), ladder=st.lists(st.text(), max_size=5, unique=True))
def test_reminders_climb_in_order_and_never_back(
    born: datetime, lifetime: timedelta, at: list[datetime], ladder: list[str]
) -> None:
    marks = marks_of("1f", born, born + lifetime, Rules(), by_hand=True)
    heard = [told(ladder, marks, moment) for moment in sorted(at)]
    assert all(each == ladder[: len(each)] for each in heard)
    assert [len(each) for each in heard] == sorted(len(each) for each in heard)
    assert told(ladder, marks, marks.expires_at) == ladder
    assert told(ladder, marks, marks.overdue_at) == ladder[:1]


@pytest.mark.parametrize(
    ("left", "words"),
    [
        (timedelta(days=7), "7 days"),
        (timedelta(days=2), "2 days"),
        (timedelta(hours=47, minutes=59), "47 hours"),
        (timedelta(hours=1), "1 hour"),
        (timedelta(0), "0 hours"),
        (timedelta(days=-3), "3 days ago"),
    ],
)
def test_how_long_is_left_in_words(left: timedelta, words: str) -> None:
    assert in_words(left) == words
