"""Cron schedules, as tables of cases."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from creditmodel_sandbox.cron import Schedule, ScheduleError, time_zone


def at(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


# Each case: an expression, its zone, a time, and the next one after it.
NEXT = [
    ("* * * * *", "", "2026-03-02T12:00:00", "2026-03-02T12:01:00"),
    ("* * * * *", "", "2026-03-02T12:00:59", "2026-03-02T12:01:00"),
    ("*/15 * * * *", "", "2026-03-02T12:50:00", "2026-03-02T13:00:00"),
    ("5/20 * * * *", "", "2026-03-02T12:26:00", "2026-03-02T12:45:00"),
    ("0 8-18/5 * * *", "", "2026-03-02T13:30:00", "2026-03-02T18:00:00"),
    ("0 0 1,15 * *", "", "2026-03-02T00:00:00", "2026-03-15T00:00:00"),
    ("0 9 * * mon-FRI", "", "2026-03-06T09:00:00", "2026-03-09T09:00:00"),
    ("0 0 * * 0", "", "2026-03-02T00:00:00", "2026-03-08T00:00:00"),
    ("0 0 29 2 *", "", "2026-03-02T00:00:00", "2028-02-29T00:00:00"),
    ("30 6 * Dec ?", "", "2026-03-02T00:00:00", "2026-12-01T06:30:00"),
    ("0 0 13 * fri", "", "2026-03-02T00:00:00", "2026-03-06T00:00:00"),
    ("0 0 */2 * fri", "", "2026-03-02T00:00:00", "2026-03-03T00:00:00"),
    ("@hourly", "", "2026-03-02T12:00:00", "2026-03-02T13:00:00"),
    ("@daily", "", "2026-03-02T12:00:00", "2026-03-03T00:00:00"),
    ("@weekly", "", "2026-03-02T12:00:00", "2026-03-08T00:00:00"),
    ("@monthly", "", "2026-03-02T12:00:00", "2026-04-01T00:00:00"),
    ("@yearly", "", "2026-03-02T12:00:00", "2027-01-01T00:00:00"),
    ("0 9 * * *", "America/New_York", "2026-01-02T12:00:00", "2026-01-02T14:00:00"),
    ("0 9 * * *", "America/New_York", "2026-07-02T12:00:00", "2026-07-02T13:00:00"),
    ("0 9 * * *", "Asia/Tokyo", "2026-07-02T01:00:00", "2026-07-03T00:00:00"),
    # 02:30 does not exist on the day the clocks go forward, and 01:30 comes twice when they go back.
    ("30 2 * * *", "America/New_York", "2026-03-08T06:00:00", "2026-03-09T06:30:00"),
    ("30 1 * * *", "America/New_York", "2026-11-01T05:30:00", "2026-11-01T06:30:00"),
]


@pytest.mark.parametrize(("expression", "zone", "after", "expected"), NEXT)
def test_the_next_time_of_a_schedule(expression: str, zone: str, after: str, expected: str) -> None:
    schedule = Schedule.parse(expression, time_zone(zone))
    assert schedule.next(at(after)) == at(expected)


@pytest.mark.parametrize(("expression", "zone", "after", "expected"), NEXT)
def test_the_latest_time_is_the_inverse_of_the_next(expression: str, zone: str, after: str, expected: str) -> None:
    assert Schedule.parse(expression, time_zone(zone)).latest(at(expected)) == at(expected)
    following = Schedule.parse(expression, time_zone(zone)).next(at(expected))
    assert following is not None
    assert Schedule.parse(expression, time_zone(zone)).latest(following.replace(second=59)) == following


def test_a_date_that_never_comes_has_no_next_time() -> None:
    assert Schedule.parse("0 0 30 2 *").next(at("2026-03-02T00:00:00")) is None


@pytest.mark.parametrize(
    "expression",
    ["", "* * * *", "* * * * * *", "60 * * * *", "* 24 * * *", "* * 0 * *", "* * * 13 *", "* * * * 7", "*/0 * * * *",
     "5-1 * * * *", "a * * * *", "1,,2 * * * *", "@fortnightly", "-1 * * * *", "TZ=UTC 0 9 * * *"],
)  # fmt: skip
def test_what_is_no_schedule_is_refused(expression: str) -> None:
    with pytest.raises(ScheduleError):
        Schedule.parse(expression)


@pytest.mark.parametrize("zone", ["Mars/Olympus", "../etc/passwd", "/etc/localtime"])
def test_an_unknown_time_zone_is_refused_by_name(zone: str) -> None:
    with pytest.raises(ScheduleError, match="unknown time zone"):
        time_zone(zone)
