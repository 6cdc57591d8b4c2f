"""Waiting for a length of time and until a moment: what the timer is asked for, and what goes on meanwhile."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import JsonValue, ValidationError

from regie.core.moments import read_moment, read_zone
from regie.core.outside_event import LARGEST_DATA, MOST_FIELDS, OutsideEvent, marks_of
from regie.core.run_commands import AwaitEvent, ForgetEvent, SetTimer
from regie.core.run_events import EventArrived, TimerFired
from regie.core.tenant import Tenant

from .trial import Trial

# --- moments ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "zone", "moment"),
    [
        ("2026-11-30T17:00:00+01:00", "UTC", "2026-11-30T16:00:00+00:00"),
        ("2026-11-30T17:00:00Z", "Europe/Amsterdam", "2026-11-30T17:00:00+00:00"),
        ("2026-11-30t17:00:00.25z", "UTC", "2026-11-30T17:00:00.250000+00:00"),
        ("2026-11-30", "UTC", "2026-11-30T00:00:00+00:00"),
        ("2026-11-30", "Europe/Amsterdam", "2026-11-29T23:00:00+00:00"),
        ("2026-07-01", "Europe/Amsterdam", "2026-06-30T22:00:00+00:00"),
        # The night in which clocks go forward or back does not change when its day begins.
        ("2026-03-29", "Europe/Amsterdam", "2026-03-28T23:00:00+00:00"),
        ("2026-10-25", "Europe/Amsterdam", "2026-10-24T22:00:00+00:00"),
        # In Havana clocks go from 0:00 to 1:00 in spring, and from 1:00 back to 0:00 in autumn.
        ("2026-03-08", "America/Havana", "2026-03-08T05:00:00+00:00"),
        ("2026-11-01", "America/Havana", "2026-11-01T04:00:00+00:00"),
    ],
)
def test_what_moment_is_meant(text: str, zone: str, moment: str) -> None:
    assert read_moment(text, read_zone(zone)).isoformat() == moment


@given(st.datetimes(datetime(1970, 1, 2), datetime(9000, 1, 1)), st.integers(-14 * 60, 14 * 60))  # noqa: DTZ001  hypothesis wants bounds without a zone
def test_a_time_that_is_written_is_the_time_that_is_read(naive: datetime, minutes: int) -> None:
    moment = naive.replace(tzinfo=timezone(timedelta(minutes=minutes)))
    assert read_moment(moment.isoformat(), read_zone("Asia/Tokyo")) == moment


@pytest.mark.parametrize(
    "text",
    [
        "", "soon", "2026-11-30T17:00:00", "2026-11-30T17:00", "20261130", "2026-W48-1", "2026-02-30", "17:00",
        "0001-01-01T00:00:00+14:00", "2026-11-30T25:00:00Z", 7, None, ["2026-11-30"],
    ],
)  # fmt: skip
def test_what_is_no_moment(text: JsonValue) -> None:
    with pytest.raises(ValueError, match="is not"):
        read_moment(text, UTC)


@pytest.mark.parametrize("name", ["", "Amsterdam", "Europe", "../etc/passwd", "/etc/localtime", "CEST?", "utc+1"])
def test_a_tenant_has_a_time_zone_that_there_is(name: str) -> None:
    parts = {"tenant": "acme", "title": "Acme", "domains": ("things",), "connections": {}}
    assert Tenant.model_validate(parts).time_zone == "UTC"
    assert Tenant.model_validate({**parts, "time_zone": "Europe/Amsterdam"}).time_zone == "Europe/Amsterdam"
    with pytest.raises(ValidationError, match="is not a time zone"):
        Tenant.model_validate({**parts, "time_zone": name})


# --- steps that wait --------------------------------------------------------------------------------------------------


def test_a_step_waits_for_a_length_of_time_and_holds_nothing() -> None:
    trial = Trial("""
        - id: pause
          wait: 1h30m
        - uses: thing.look
          with: { value: "${{ steps.pause.outcome }}" }
        """)
    assert (trial.status, trial.outcome("pause")) == ("waiting", "waiting")
    assert trial.timers == {"wait:pause:0": 5400.0}
    assert trial.outstanding() == ()
    trial.fires("wait:pause:0")
    assert trial.outcome("pause") == "done"
    assert trial.out["1"].arguments == {"value": "done"}  # type: ignore[union-attr]  # the only work there is
    trial.ok("1")
    assert trial.status == "done"


def test_a_length_of_time_may_come_from_data() -> None:
    trial = Trial("- wait: ${{ settings.cooling_down }}", settings={"cooling_down": "2d"})
    assert trial.timers == {"wait:0:0": 2 * 86_400.0}


@pytest.mark.parametrize(
    ("until", "zone", "at"),
    [
        ("2026-11-30", "Europe/Amsterdam", "2026-11-29T23:00:00+00:00"),
        ("2026-11-30T08:00:00-05:00", "Europe/Amsterdam", "2026-11-30T13:00:00+00:00"),
        ("${{ input.last_day }}", "UTC", "2026-12-24T00:00:00+00:00"),
    ],
)
def test_a_step_waits_until_a_moment(until: str, zone: str, at: str) -> None:
    head = "input: { last_day: { type: date, default: '2026-12-24' } }"
    trial = Trial(f"- wait: {{ until: '{until}' }}", head=head, time_zone=zone)
    assert trial.notes == [SetTimer(timer="wait:0:0", at=at)]
    trial.fires("wait:0:0")
    assert trial.status == "done"


@pytest.mark.parametrize("value", ["soon", "", 7, None, {"until": "2026-11-30"}])
@pytest.mark.parametrize("wait", ["${{ settings.when }}", "{ until: '${{ settings.when }}' }"])
def test_what_cannot_be_waited_for_fails_the_step(wait: str, value: JsonValue) -> None:
    trial = Trial(
        f"""
        - wait: {wait}
          on-error:
            - uses: thing.look
              with: {{ value: "${{{{ error.kind }}}}" }}
        """,
        settings={"when": value},
    )
    if wait.startswith("$") and isinstance(value, dict):
        assert trial.timers
        return
    assert trial.out["0/on-error/0"].arguments == {"value": "EvaluationError"}  # type: ignore[union-attr]  # the only work there is
    assert trial.timers == {}


def test_branches_and_items_wait_beside_each_other() -> None:
    trial = Trial("""
        - parallel:
            - wait: 1h
            - do:
                - wait: 2h
                - uses: thing.look
            - for-each: item in ['5m', '10m', '15m']
              at-most: 2
              do:
                - wait: ${{ item }}
                - uses: thing.write
            - uses: thing.look
        """)
    assert trial.status == "running"
    assert trial.timers == {"wait:0/0:0": 3600, "wait:0/1/0:0": 7200, "wait:0/2/0[0]:0": 300, "wait:0/2/0[1]:0": 600}
    trial.ok("0/3")
    assert trial.status == "waiting"
    trial.fires("wait:0/2/0[1]:0")
    assert set(trial.out) == {"0/2/1[1]"}
    trial.ok("0/2/1[1]")
    assert trial.timers["wait:0/2/0[2]:0"] == 900
    trial.fires("wait:0/1/0:0")
    assert set(trial.out) == {"0/1/1"}
    assert trial.outcome("0/0") == "waiting"
    trial.ok("0/1/1")
    for timer in list(trial.timers):
        trial.fires(timer)
    for place in list(trial.out):
        trial.ok(place)
    assert trial.status == "done"


def test_the_end_of_another_timer_ends_no_waiting() -> None:
    trial = Trial("""
        - id: pause
          wait: 1h
        """)
    for timer in ("again:pause:0", "rung:pause:0", "wait:pause:1", "wait:other:0", "wait:pause"):
        assert trial.take(TimerFired(timer=timer)) == ()
    assert trial.outcome("pause") == "waiting"


def test_a_timer_of_a_waiting_step_ends_no_other_step() -> None:
    trial = Trial("- uses: thing.write")
    trial.postpones("0", None, 60)
    assert trial.take(TimerFired(timer="wait:0:0")) == ()
    assert trial.outcome("0") == "waiting"


def test_a_dry_run_waits_for_nothing() -> None:
    trial = Trial(
        """
        - wait: 4w
        - wait: { until: 2030-01-01 }
        - uses: thing.write
        """,
        dry=True,
    )
    assert trial.timers == {}
    assert set(trial.out) == {"2"}


# --- waiting for events -----------------------------------------------------------------------------------------------

SIGNED = """
- id: signed
  wait: { event: contract.sign, where: { who: "${{ input.who }}", pages: 2 }, within: 8h }
- uses: thing.look
  with: { value: "${{ steps.signed.event.page if not steps.signed.timed_out else 'silence' }}" }
"""
WHO = "input: { who: { type: text, default: Ann } }"


def arrives(place: str, **data: JsonValue) -> EventArrived:
    return EventArrived(place=place, event="contract.sign", id="1", data=data)


def test_a_step_waits_for_an_event_with_a_deadline_and_holds_nothing() -> None:
    trial = Trial(SIGNED, head=WHO)
    assert trial.notes == [
        AwaitEvent(place="signed", event="contract.sign", where={"who": "Ann", "pages": 2}),
        SetTimer(timer="wait:signed:0", after_s=8 * 3600),
    ]
    assert (trial.status, trial.outstanding()) == ("waiting", ())
    trial.take(arrives("signed", page=7))
    assert trial.step("signed").output == {"timed_out": False, "event": {"page": 7}}
    assert trial.timers == {}
    assert trial.out["1"].arguments == {"value": 7}  # type: ignore[union-attr]  # the only work there is


def test_an_event_that_does_not_come_is_a_result_and_one_that_comes_late_is_none() -> None:
    trial = Trial(SIGNED, head=WHO)
    trial.fires("wait:signed:0")
    assert ForgetEvent(place="signed") in trial.notes
    assert trial.step("signed").output == {"timed_out": True, "event": {}}
    assert trial.out["1"].arguments == {"value": "silence"}  # type: ignore[union-attr]  # the only work there is
    before = trial.state
    assert trial.take(arrives("signed", page=7)) == ()
    assert trial.state == before


def test_an_event_moves_only_a_step_that_waits_for_one() -> None:
    trial = Trial("- { id: pause, wait: 1h }\n")
    assert trial.take(arrives("pause")) == ()
    assert trial.take(arrives("nowhere")) == ()
    assert trial.status == "waiting"


def test_a_dry_run_takes_the_way_of_silence() -> None:
    trial = Trial(SIGNED, head=WHO, dry=True)
    assert trial.out["1"].arguments == {"value": "silence"}  # type: ignore[union-attr]  # the only work there is


def test_who_cancels_ends_the_wait_for_an_event() -> None:
    trial = Trial(SIGNED, head=WHO)
    trial.cancels()
    assert ForgetEvent(place="signed") in trial.notes
    assert trial.timers == {}
    assert trial.status == "cancelled"


@pytest.mark.parametrize("within", [7, None, "soon", "0s"])
def test_a_deadline_that_is_none_fails_the_step(within: JsonValue) -> None:
    trial = Trial("- wait: { event: a.b, within: '${{ settings.within }}' }\n", settings={"within": within})
    assert trial.state.failure is not None
    assert trial.state.failure.kind == "EvaluationError"
    assert trial.said(AwaitEvent) == []


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-5, 5) | st.sampled_from([0.5, 1.0, 2.0]) | st.sampled_from(["", "1", "a"]),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.sampled_from("ab"), inner, max_size=2),
    max_leaves=4,
)
DATA = st.dictionaries(st.sampled_from(["who", "what", "when"]), VALUES, max_size=3)


def is_same(one: JsonValue, other: JsonValue) -> bool:
    """Equality of JSON values, which Python's is not: there a boolean is a number."""
    if isinstance(one, bool) or isinstance(other, bool):
        return one is other
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(is_same, one, other))
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(is_same(one[key], other[key]) for key in one)
    return one == other


@given(DATA, DATA)
def test_an_event_meets_a_wait_when_every_wanted_field_is_equal(where: dict[str, JsonValue], more: JsonValue) -> None:
    assert isinstance(more, dict)
    for data in (more, {**more, **where}):
        event = OutsideEvent(tenant="acme", domain="things", id="1", name="contract.sign", data=data)
        is_met = all(field in data and is_same(value, data[field]) for field, value in where.items())
        assert (set(marks_of("contract.sign", where)) <= set(event.marks)) == is_met
        assert not set(marks_of("contract.close", where)) <= set(event.marks)


@pytest.mark.parametrize("data", [{"a": "x" * LARGEST_DATA}, {str(number): 1 for number in range(MOST_FIELDS + 1)}])
def test_an_event_is_small(data: dict[str, JsonValue]) -> None:
    with pytest.raises(ValidationError, match="at most"):
        OutsideEvent(tenant="acme", domain="things", id="1", name="contract.sign", data=data)
