"""Where an automation's stored counts differ from its runs: the comparison alone. Pure.

What holds at every snapshot, whatever is counted and folded meanwhile:

- an hour that the TTL has not touched holds the runs that were created in it, minute by minute;
- the closed hours of the last days stand in the base document, too;
- total = `base` + `unrolled` + the runs of all hours. `unrolled` are earlier runs that no hour
  holds: `add_run_fields` met them when the TTL may have taken some of their hour already.

Hours are kept 400 days: past that, the last line can be told no more.
"""

from collections import Counter
from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any

import msgspec

from tracking.rollups.hours import (
    AHEAD,
    HOURS_PER_DAY,
    RECENT_DAYS,
    find_count,
    hour_of,
    start_of_hour,
)


class Counts(msgspec.Struct, kw_only=True):
    """One automation's counts at one snapshot.

    `rolled` is the sum over all hours; the counters hold what is not older than the comparison:
    runs by minute since 1970 as `minutes` (of the hours) and `raw_minutes` (of the runs), by hour
    as `hours` (their own sums), `closed` (of the hour documents) and `recent` (of the base).
    """

    automation_id: str
    base: Mapping[str, Any] | None
    total: int
    last_run_at: datetime | None
    rolled: int = 0
    minutes: Counter[int] = msgspec.field(default_factory=Counter)
    raw_minutes: Counter[int]
    hours: Counter[int] = msgspec.field(default_factory=Counter)
    closed: Counter[int] = msgspec.field(default_factory=Counter)
    recent: Counter[int]
    copy: Mapping[str, Any] | None
    oldest_hour: datetime | None = None  # of those that are older than the comparison
    newest_run: datetime | None = None


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


def find_drift(counts: Counts, *, now: datetime, hours_kept: timedelta) -> Drift:
    """Compare counts with each other; an automation whose hours are not built yet has no drift."""
    base = counts.base
    if base is None or "base" not in base or base.get("rollupsSince") is not None:
        return Drift(hours=[], hours_difference=0, total=counts.total, expected_total=None)
    oldest_day = hour_of(now) // HOURS_PER_DAY - RECENT_DAYS
    differing = {one // 60 for one in _compare(counts.minutes, counts.raw_minutes)}
    differing |= _compare(counts.hours, sum_hours(counts.minutes))
    recent = _compare(counts.recent, counts.closed)
    differing |= {hour for hour in recent if hour // HOURS_PER_DAY > oldest_day}
    raw_hours = sum_hours(counts.raw_minutes)
    since = base.get("hoursSince") or base.get("takenAt")
    expected_total = None  # where some of the hours are gone
    if isinstance(since, datetime) and since > now - hours_kept:
        expected_total = base.get("base", 0) + base.get("unrolled", 0) + counts.rolled
    newest, last = counts.newest_run, counts.last_run_at
    is_behind = newest is not None and (last is None or last < newest)
    if newest is not None and last is not None and newest < last:
        is_behind = last > now + AHEAD  # a clock was ahead
    return Drift(
        newest_run=newest if is_behind else None,
        hours=sorted(differing),
        hours_difference=sum(raw_hours[hour] - counts.hours[hour] for hour in differing),
        total=counts.total,
        expected_total=expected_total,
    )


def sum_hours(minutes: Counter[int]) -> Counter[int]:
    hours: Counter[int] = Counter()
    for minute, runs in minutes.items():
        hours[minute // 60] += runs
    return hours


def _compare(one: Counter[int], other: Counter[int]) -> set[int]:
    return {number for number in one.keys() | other.keys() if one[number] != other[number]}


def is_copy_right(
    counts: Counts, *, total: int | None = None, last_run_at: datetime | None = None
) -> bool:
    """Return whether `automations` shows the total, that of `counts` unless another is given.

    An automation that is gone shows nothing.
    """
    if counts.copy is None:
        return True
    shown = counts.copy.get("totalRuns")
    wanted = counts.total if total is None else total
    # What is no count is kept as it is, and named by `check_fields`.
    is_right = shown == wanted or find_count(shown) is None
    newest = counts.last_run_at if last_run_at is None else last_run_at
    return is_right and counts.copy.get("lastRunAt") == newest


def round_past(moment: datetime) -> datetime:
    """Return the start of the first hour whose runs are all there if a TTL deletes up to `moment`.

    Not the hour that it cuts, and one more for the TTL's own delay and for clocks.
    """
    return start_of_hour(hour_of(moment) + 2)


def build_contact_change(
    pair: Mapping[str, Any], contact: Mapping[str, Any] | None, *, oldest: datetime
) -> dict[str, Any]:
    """Return the fields of a contact that should be others, none if it is right.

    `pair` holds the runs that exist: `first`, `newest` (`at` and `id`), how many `runs` there are,
    and how many are `earlier`, an older product's. Runs before `oldest` may be gone, so that a
    contact that is older keeps its number of runs.
    """
    newest_at = pair["newest"]["at"]
    if newest_at < oldest:
        return {}
    change: dict[str, Any] = {}
    stored = contact or {}
    if stored.get("lastRunAt") != newest_at:
        change |= {"lastRunAt": newest_at, "lastRunId": pair["newest"]["id"]}
    first_at = min(pair["first"], stored.get("firstRunAt") or pair["first"])
    is_whole = contact is None or first_at >= oldest
    counts = stored.get("runs"), stored.get("earlier", 0)
    if is_whole and counts != (pair["runs"], pair["earlier"]):
        change |= {"runs": pair["runs"], "earlier": pair["earlier"]}
    if change and stored.get("firstRunAt") != first_at:
        change["firstRunAt"] = first_at
    return change
