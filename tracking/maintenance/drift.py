"""Where an automation's stored counts differ from its runs: the comparison alone. Pure.

What holds at every snapshot, whatever is counted and folded meanwhile:

- an hour that the TTL has not touched holds the runs that were created in it, minute by minute;
- the closed hours of the last days stand in the base document, too;
- total = `base` + `unrolled` + the runs of all hours. `unrolled` are earlier runs that no hour
  holds: `add_run_fields` met them when the TTL may have taken some of their hour already.

Hours are kept 400 days: past that, the last line can be told no more.
"""

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any

import msgspec

from tracking.rollups.hours import HOURS_PER_DAY, RECENT_DAYS, hour_of, start_of_hour

MINUTES_PER_HOUR = 60


class Counts(msgspec.Struct, kw_only=True):
    """One automation's counts at one snapshot.

    `rolled` is the sum over all hours; the mappings hold what is not older than the comparison:
    runs by minute since 1970 as `minutes` (of the hours) and `raw_minutes` (of the runs), by hour
    as `hours` (their own sums), `closed` (of the hour documents) and `recent` (of the base).
    """

    automation_id: str
    base: Mapping[str, Any] | None
    total: int
    last_run_at: datetime | None
    rolled: int = 0
    minutes: dict[int, int]
    raw_minutes: dict[int, int]
    hours: dict[int, int]
    closed: dict[int, int]
    recent: dict[int, int]
    copy: Mapping[str, Any] | None
    oldest_hour: datetime | None = None  # of those that are older than the comparison
    newest_run: datetime | None = None

    def count_raw_hours(self) -> dict[int, int]:
        """Return how many runs were created in each hour."""
        hours: dict[int, int] = {}
        for minute, runs in self.raw_minutes.items():
            hour = minute // MINUTES_PER_HOUR
            hours[hour] = hours.get(hour, 0) + runs
        return hours


class Drift(msgspec.Struct, frozen=True, kw_only=True):
    """What differs. `expected_total` is None where it cannot be told.

    `hours_difference` is how many runs the hours that differ lack. `newest_run` is set where the
    total's `lastRunAt` is behind it.
    """

    hours: list[int]
    hours_difference: int
    total: int
    expected_total: int | None
    newest_run: datetime | None = None

    @property
    def total_difference(self) -> int:
        """How many runs the total lacks, negative if it has too many; 0 where it is not known."""
        return 0 if self.expected_total is None else self.expected_total - self.total

    @property
    def is_none(self) -> bool:
        """Whether everything is as it should be."""
        return not self.hours and not self.total_difference and self.newest_run is None


def find_drift(counts: Counts, *, now: datetime, hours_kept: timedelta) -> Drift:
    """Compare counts with each other; an automation whose hours are not built yet has no drift."""
    if counts.base is None or counts.base.get("rollupsSince") is not None:
        return Drift(hours=[], hours_difference=0, total=counts.total, expected_total=None)
    newest_day = hour_of(now) // HOURS_PER_DAY
    numbers = {
        minute // MINUTES_PER_HOUR
        for minute in counts.minutes.keys() | counts.raw_minutes.keys()
        if counts.minutes.get(minute, 0) != counts.raw_minutes.get(minute, 0)
    }
    sums: dict[int, int] = {}
    for minute, runs in counts.minutes.items():
        hour = minute // MINUTES_PER_HOUR
        sums[hour] = sums.get(hour, 0) + runs
    numbers |= {
        hour
        for hour in counts.hours.keys() | sums.keys()
        if counts.hours.get(hour, 0) != sums.get(hour, 0)
    }
    numbers |= {
        hour
        for hour in counts.recent.keys() | counts.closed.keys()
        if hour // HOURS_PER_DAY > newest_day - RECENT_DAYS
        and counts.recent.get(hour, 0) != counts.closed.get(hour, 0)
    }
    raw = sum(
        runs for minute, runs in counts.raw_minutes.items() if minute // MINUTES_PER_HOUR in numbers
    )
    newest, last = counts.newest_run, counts.last_run_at
    is_behind = newest is not None and (last is None or last < newest)
    return Drift(
        newest_run=newest if is_behind else None,
        hours=sorted(numbers),
        hours_difference=raw - sum(counts.hours.get(hour, 0) for hour in numbers),
        total=counts.total,
        expected_total=find_expected_total(
            counts.base, rolled=counts.rolled, now=now, hours_kept=hours_kept
        ),
    )


def is_copy_right(
    counts: Counts, *, total: int | None = None, last_run_at: datetime | None = None
) -> bool:
    """Return whether `automations` shows the total, that of `counts` unless another is given.

    An automation that is gone shows nothing.
    """
    if counts.copy is None:
        return True
    shown = counts.copy.get("totalRuns"), counts.copy.get("lastRunAt")
    wanted = counts.total if total is None else total
    return shown == (wanted, counts.last_run_at if last_run_at is None else last_run_at)


def find_expected_total(
    base: Mapping[str, Any], *, rolled: int, now: datetime, hours_kept: timedelta
) -> int | None:
    """Return what the total should be by its hours, None where some of those are gone."""
    since = base.get("hoursSince") or base.get("takenAt")
    if not isinstance(since, datetime) or since <= now - hours_kept:
        return None
    expected: int = base.get("base", 0) + base.get("unrolled", 0) + rolled
    return expected


def round_past(moment: datetime) -> datetime:
    """Return the start of the first hour whose runs are all there if a TTL deletes up to `moment`.

    Not the hour that it cuts, and one more for the TTL's own delay and for clocks.
    """
    return start_of_hour(hour_of(moment) + 2)


class PairRuns(msgspec.Struct, frozen=True, kw_only=True):
    """The runs of one automation and person that exist; `earlier` are an older product's."""

    user_id: str
    workspace_id: Any
    first_at: datetime
    newest_at: datetime
    newest_id: Any
    runs: int
    earlier: int


def build_contact_change(
    pair: PairRuns, contact: Mapping[str, Any] | None, *, oldest: datetime
) -> dict[str, Any]:
    """Return the fields of a contact that should be others, none if it is right.

    Runs before `oldest` may be gone, so that a contact that is older keeps its number of runs.
    """
    if pair.newest_at < oldest:
        return {}
    change: dict[str, Any] = {}
    stored = contact or {}
    if stored.get("lastRunAt") != pair.newest_at:
        change |= {"lastRunAt": pair.newest_at, "lastRunId": pair.newest_id}
    first_at = min(pair.first_at, stored.get("firstRunAt") or pair.first_at)
    is_whole = contact is None or first_at >= oldest
    counts = stored.get("runs"), stored.get("earlier", 0)
    if is_whole and counts != (pair.runs, pair.earlier):
        change |= {"runs": pair.runs, "earlier": pair.earlier}
    if change and stored.get("firstRunAt") != first_at:
        change["firstRunAt"] = first_at
    return change
