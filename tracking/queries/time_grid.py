"""Hours and days of a time zone, and how the stored counts add up to them. Pure.

The grain is a quarter of an hour, because every zone in use is a multiple of 15 minutes away from
UTC (tests look at all of them since the year 2000). An hour of UTC that lies in one bucket is added
as a whole; one that a bucket's edge cuts, as in Asia/Kolkata, is added by its quarters.
"""

from bisect import bisect_right
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, date, datetime, timedelta, tzinfo
from enum import StrEnum
from typing import Any

import msgspec

QUARTERS = 4
QUARTER = timedelta(minutes=15)
OLDEST = datetime(2000, 1, 1, tzinfo=UTC)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_DAY = timedelta(days=1)
_MINUTES = 15


class Unit(StrEnum):
    """How long a bucket is: an hour or a day of the zone's clocks."""

    HOUR = "hour"
    DAY = "day"


# The hours of 92 days, the days of three years.
MOST_BUCKETS = {Unit.HOUR: 92 * 24 + 1, Unit.DAY: 3 * 366}


class BadRange(ValueError):
    """The range cannot be read or drawn; the message says what to ask for instead."""


class Counts(msgspec.Struct):
    """What happened in some time: runs, duplicates, and people who ran it for the first time."""

    counted: int = 0
    duplicates: int = 0
    new_people: int = 0

    def add(self, other: "Counts") -> None:
        self.counted += other.counted
        self.duplicates += other.duplicates
        self.new_people += other.new_people


class Grid:
    """The buckets that cover a range: `starts`, aware UTC, and `end`, where the last one ends."""

    def __init__(self, boundaries: Sequence[datetime]) -> None:
        self.starts = tuple(boundaries[:-1])
        self.end = boundaries[-1]
        self._quarters = [quarter_of(moment) for moment in boundaries]

    @property
    def start(self) -> datetime:
        return self.starts[0]

    @property
    def hours(self) -> range:
        """The numbers of the hours since 1970 that the buckets overlap."""
        return range(self._quarters[0] // QUARTERS, -(-self._quarters[-1] // QUARTERS))

    @property
    def cut_hours(self) -> list[int]:
        """The hours that do not lie in one bucket, or not as a whole in the range."""
        return sorted({edge // QUARTERS for edge in self._quarters if edge % QUARTERS})

    def find_bucket(self, quarter: int) -> int | None:
        """Return the number of the bucket that holds a quarter since 1970, None outside."""
        bucket = bisect_right(self._quarters, quarter) - 1
        return bucket if 0 <= bucket < len(self.starts) else None

    def build_counts(self) -> list[Counts]:
        return [Counts() for _ in self.starts]


def build_grid(unit: Unit, *, zone: tzinfo, from_: datetime, to: datetime) -> Grid:
    """Return the hours or days of `zone` that overlap [from_, to), the outer ones as a whole.

    An hour begins where the clock shows a full one, and wherever it is moved: an hour that a clock
    shows twice is two buckets. A day begins at the first instant of its date. Raises BadRange.
    """
    if from_ >= to:
        raise BadRange("'from' should be before 'to'.")
    if from_ < OLDEST:
        raise BadRange("'from' should be in the year 2000 or later.")
    shortest = timedelta(hours=1) if unit is Unit.HOUR else timedelta(days=1)
    most = MOST_BUCKETS[unit]
    if (to - from_) / shortest > most:
        longer = " or for days" if unit is Unit.HOUR else ""
        raise BadRange(
            f"'from' and 'to' should be at most {most} {unit}s apart: ask for a shorter "
            f"range{longer}."
        )
    walk = _walk_hours if unit is Unit.HOUR else _walk_days
    boundaries: list[datetime] = []
    for boundary in walk(zone, from_):
        boundaries.append(boundary)
        if boundary >= to:
            break
    return Grid(boundaries)


def quarter_of(moment: datetime) -> int:
    return (moment - _EPOCH) // QUARTER


def start_of_day(day: date, zone: tzinfo) -> datetime:
    """Return the first instant, in UTC, at which a clock of the zone shows this date or a later.

    A clock that skips midnight is read with the offset from before (fold 0), which is the instant
    at which it is moved.
    """
    return datetime(day.year, day.month, day.day, tzinfo=zone).astimezone(UTC)


def _walk_days(zone: tzinfo, from_: datetime) -> Iterator[datetime]:
    day = from_.astimezone(zone).date()
    before = None
    while True:
        start = start_of_day(day, zone)
        if start != before:  # a date that the zone left out
            yield start
        before, day = start, day + _DAY


def _walk_hours(zone: tzinfo, from_: datetime) -> Iterator[datetime]:
    quarter = quarter_of(from_)
    shown = _read_clock(quarter, zone)
    while _read_clock(quarter - 1, zone) == shown:
        quarter -= 1
    while True:
        yield _EPOCH + quarter * QUARTER
        shown = _read_clock(quarter, zone)
        while _read_clock(quarter, zone) == shown:
            quarter += 1


def _read_clock(quarter: int, zone: tzinfo) -> tuple[date, int, timedelta | None]:
    local = (_EPOCH + quarter * QUARTER).astimezone(zone)
    return local.date(), local.hour, local.utcoffset()


def sum_hour(parts: Mapping[str, Any]) -> Counts:
    """Return the counts of an hour's `{n, m, d, p}` (`tracking/rollups/hours.py`)."""
    duplicates, people = parts.get("d", {}), parts.get("p", {})
    return Counts(parts.get("n", 0), sum(duplicates.values()), sum(people.values()))


def split_hour(parts: Mapping[str, Any]) -> list[Counts]:
    quarters = [Counts() for _ in range(QUARTERS)]
    for minute, count in parts.get("m", {}).items():
        quarters[int(minute) // _MINUTES].counted += count
    for quarter, count in parts.get("d", {}).items():
        quarters[int(quarter)].duplicates += count
    for quarter, count in parts.get("p", {}).items():
        quarters[int(quarter)].new_people += count
    return quarters
