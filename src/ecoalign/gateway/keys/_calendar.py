"""Where a window begins and ends: fixed seconds, or the days, weeks and months of a time zone.

Fixed windows are aligned to the epoch. A calendar window begins with a midnight of its zone: of
every day, of Monday, or of the first of the month; so a day has 23 or 25 hours where the clocks
change, and the windows of a zone follow each other without a gap or an overlap.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta, tzinfo
from functools import lru_cache
from typing import Literal, get_args

from ecoalign.errors import InputError

Calendar = Literal["day", "week", "month"]

CALENDARS: tuple[Calendar, ...] = get_args(Calendar)


@dataclass(frozen=True, slots=True)
class Span:
    """A window in time, from `start` up to and without `end`; seconds since the epoch."""

    start: float
    end: float

    @property
    def seconds(self) -> int:
        """Its length."""
        return round(self.end - self.start)


def window_start(now: float, seconds: int) -> float:
    """Start of the fixed window that `now` is in, seconds since the epoch."""
    return float(math.floor(now / seconds) * seconds)


def fixed(now: float, seconds: int) -> Span:
    """The fixed window that `now` is in."""
    start = window_start(now, seconds)
    return Span(start, start + seconds)


def calendar_span(now: float, calendar: Calendar, zone: str) -> Span:
    """The calendar window that `now` is in.

    Raises:
        InputError: there is no such time zone here.
    """
    where = zone_named(zone)
    first = _first(datetime.fromtimestamp(now, where).date(), calendar)
    # Where a zone jumps at midnight, the date on the clock and the window may differ for a moment.
    while _midnight(first, where) > now:
        first = _first(first - timedelta(days=1), calendar)
    while (end := _midnight(_next(first, calendar), where)) <= now:
        first = _next(first, calendar)
    return Span(_midnight(first, where), end)


@lru_cache(64)
def zone_named(name: str) -> tzinfo:
    """A time zone by its name in the IANA database, as in Europe/Berlin; UTC is always known.

    Raises:
        InputError: it is not known here.
    """
    if name == "UTC":
        return UTC
    from zoneinfo import ZoneInfo

    try:
        return ZoneInfo(name)
    except (OSError, ValueError, LookupError):
        raise InputError(
            f"there is no time zone {name[:60]!r} here: give a name such as Europe/Berlin or UTC "
            "(where the system has no time zones: pip install tzdata)"
        ) from None


def _midnight(day: date, zone: tzinfo) -> float:
    return datetime(day.year, day.month, day.day, tzinfo=zone).timestamp()


def _first(day: date, calendar: Calendar) -> date:
    """The first day of the window that `day` is in."""
    if calendar == "week":
        return day - timedelta(days=day.weekday())
    return day.replace(day=1) if calendar == "month" else day


def _next(first: date, calendar: Calendar) -> date:
    """The first day of the window after the one that begins with `first`."""
    if calendar == "month":
        return (first + timedelta(days=31)).replace(day=1)
    return first + timedelta(days=7 if calendar == "week" else 1)
