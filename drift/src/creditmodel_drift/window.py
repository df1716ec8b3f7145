"""The window of time that a check looks at."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta

from creditmodel_drift.errors import BadInput

__all__ = ["Period", "parse_duration", "parse_time", "period"]

_DURATION = re.compile(r"([1-9][0-9]{0,5})([smhdw])")
_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days", "w": "weeks"}
_SLACK = timedelta(days=1)


@dataclass(frozen=True, slots=True)
class Period:
    """From `start` (within; None is the beginning of time) to `end` (without), both UTC.

    `now` is the clock of whoever checks, where rows are to be noticed that a clock which runs ahead has dated after it.
    """

    start: datetime | None
    end: datetime
    now: datetime | None = None

    def may_hold(self, day: date) -> bool:
        """Whether a log partition of this day may hold rows of the period.

        A part is filed when it is written, which may be after midnight for a row scored before: one day of slack.
        """
        begun = self.start is None or (self.start - _SLACK).date() <= day
        return begun and day <= (self.end + _SLACK).date()


def period(length: timedelta | None, until: datetime | None, now: datetime) -> Period | None:
    """The period that ends at `until`, else now; None (everything) when neither length nor end is given."""
    if length is None and until is None:
        return None
    end = until or now
    return Period(None if length is None else end - length, end, now)


def parse_duration(text: str) -> timedelta:
    """A duration such as 24h. Raises BadInput."""
    match = _DURATION.fullmatch(text)
    if match is None:
        raise BadInput(f"{text!r} is no duration: write a number and s, m, h, d or w, such as 24h or 7d")
    return timedelta(**{_UNITS[match[2]]: int(match[1])})


def parse_time(text: str) -> datetime:
    """A time in ISO 8601, UTC where it names no zone. Raises BadInput."""
    try:
        time = datetime.fromisoformat(text)
    except ValueError as e:
        raise BadInput(f"{text!r} is no ISO 8601 time such as 2026-11-23T06:00:00Z") from e
    return time.replace(tzinfo=UTC) if time.tzinfo is None else time.astimezone(UTC)
