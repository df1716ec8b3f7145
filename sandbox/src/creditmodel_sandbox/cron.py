"""Cron schedules as Kubernetes reads them: five fields or a macro, in a time zone.

Day of month and day of week are alternatives when both are restricted. A local time that a change of the clocks leaves
out is skipped, one that it repeats happens twice.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta, tzinfo
from typing import Self
from zoneinfo import ZoneInfo

__all__ = ["Schedule", "ScheduleError", "time_zone"]

MACROS = {
    "@yearly": "0 0 1 1 *", "@annually": "0 0 1 1 *", "@monthly": "0 0 1 * *", "@weekly": "0 0 * * 0",
    "@daily": "0 0 * * *", "@midnight": "0 0 * * *", "@hourly": "0 * * * *",
}  # fmt: skip
MONTHS = {
    "jan": 1, "feb": 2, "mar": 3, "apr": 4, "may": 5, "jun": 6,
    "jul": 7, "aug": 8, "sep": 9, "oct": 10, "nov": 11, "dec": 12,
}  # fmt: skip
WEEKDAYS = {"sun": 0, "mon": 1, "tue": 2, "wed": 3, "thu": 4, "fri": 5, "sat": 6}
CLOCK_CHANGE = timedelta(hours=3)  # more than any change of the clocks
HORIZON = timedelta(days=5 * 366)  # a schedule with no time within five years never happens


class ScheduleError(ValueError):
    """The schedule or the time zone cannot be understood; the message says which part."""


def time_zone(name: str | None) -> tzinfo:
    """The IANA time zone of that name, UTC without one. Raises ScheduleError."""
    if not name or name in ("UTC", "Etc/UTC"):
        return UTC
    try:
        return ZoneInfo(name)
    except (KeyError, OSError, ValueError) as e:
        raise ScheduleError(f"unknown time zone {name}") from e


@dataclass(frozen=True)
class Schedule:
    """The times that match a cron expression."""

    minutes: tuple[int, ...]
    hours: tuple[int, ...]
    days: frozenset[int]
    months: frozenset[int]
    weekdays: frozenset[int]  # 0 is Sunday
    either_day: bool
    zone: tzinfo = UTC

    @classmethod
    def parse(cls, text: str, zone: tzinfo = UTC) -> Self:
        """Read an expression such as `*/15 8-18 * * mon-fri` or `@daily`. Raises ScheduleError."""
        fields = MACROS.get(text.strip(), text).split()
        if len(fields) != 5:
            raise ScheduleError(f"expected 5 fields or one of {', '.join(MACROS)}, found {text!r}")
        minutes, hours = _values(fields[0], 0, 59), _values(fields[1], 0, 23)
        days, months = _values(fields[2], 1, 31), _values(fields[3], 1, 12, MONTHS)
        weekdays = _values(fields[4], 0, 6, WEEKDAYS)
        either = not _is_star(fields[2]) and not _is_star(fields[4])
        return cls(tuple(sorted(minutes)), tuple(sorted(hours)), days, months, weekdays, either, zone)

    def next(self, after: datetime) -> datetime | None:
        """The first time after `after`, None if there is none."""
        times = (time for hour in self._hours(after, 1) for time in self._times(hour) if time > after)
        return next(times, None)

    def latest(self, until: datetime) -> datetime | None:
        """The last time not after `until`, None if there is none."""
        times = (time for hour in self._hours(until, -1) for time in reversed(self._times(hour)) if time <= until)
        return next(times, None)

    def _hours(self, start: datetime, step: int) -> Iterator[datetime]:
        """The matching local hours from `start` on, forward or back, begun a little early for changes of the clocks."""
        edge = start.astimezone(self.zone).replace(tzinfo=None) - step * CLOCK_CHANGE
        for offset in range(HORIZON.days):
            day = edge.date() + timedelta(days=step * offset)
            for hour in self.hours[::step] if self._is_day(day) else ():
                local = datetime(day.year, day.month, day.day, hour)  # noqa: DTZ001 - local time, zoned by _times
                if (local > edge) == (step > 0):
                    yield local

    def _is_day(self, day: date) -> bool:
        of_month, of_week = day.day in self.days, day.isoweekday() % 7 in self.weekdays
        return day.month in self.months and (of_month or of_week if self.either_day else of_month and of_week)

    def _times(self, hour: datetime) -> Sequence[datetime]:
        """The times within a local hour, in UTC and in order: none if it is left out, all twice if it is repeated."""
        found = set()
        for minute in self.minutes:
            for fold in (0, 1):
                local = hour.replace(minute=minute)
                time = local.replace(fold=fold, tzinfo=self.zone).astimezone(UTC)
                if time.astimezone(self.zone).replace(tzinfo=None) == local:
                    found.add(time)
        return sorted(found)


def _is_star(field: str) -> bool:
    """Whether some part of the field is an unrestricted star."""
    return any(part in ("*", "?", "*/1", "?/1") for part in field.split(","))


def _values(field: str, low: int, high: int, names: dict[str, int] | None = None) -> frozenset[int]:
    result: set[int] = set()
    for part in field.split(","):
        span, _, step = part.partition("/")
        first, _, last = span.partition("-")
        if first in ("*", "?") and not last:
            start, end = low, high
        else:
            start = _number(first, names, field)
            end = _number(last, names, field) if last else high if step else start
        every = _number(step, None, field) if step else 1
        if not low <= start <= end <= high or every < 1:
            raise ScheduleError(f"{part!r} is not within {low}-{high}")
        result.update(range(start, end + 1, every))
    return frozenset(result)


def _number(text: str, names: dict[str, int] | None, field: str) -> int:
    if names and text.lower() in names:
        return names[text.lower()]
    if not text.isascii() or not text.isdigit():
        raise ScheduleError(f"cannot read {text!r} in {field!r}")
    return int(text)
