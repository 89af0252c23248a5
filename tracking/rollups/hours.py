"""Counts per automation, hour and minute: their keys, their increments and their sums. Pure.

The *base* document of an automation holds its total and, in `h`, the hours that are still open:
`{runs, lastRunAt, h: {<hour>: {n, m, d, p}}}`, where an hour is its number since 1970 (UTC), `n`
its runs, `m` runs by minute, and `d` (duplicates) and `p` (new people) by quarter of the hour,
because every time zone in use is a multiple of 15 minutes away from UTC. Closed hours are folded
into an hour document of the same four fields, and their `n` into `days` and `hours` of the base,
of which an answer reads eight sums and two days.
"""

import math
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

from tracking.ids import list_stored_forms
from tracking.runs import Decision, Outcome

RECENT_DAYS = 9
HOURS_PER_DAY = 24
LAST_24_HOURS = timedelta(hours=24)
LAST_7_DAYS = timedelta(days=7)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
HOUR = timedelta(hours=1)
MINUTE = timedelta(minutes=1)
# What the doubles of an older product hold exactly: past it, a stored count is nonsense.
LARGEST_COUNT = 2**53


def start_of_hour(hour: int) -> datetime:
    """Return the first instant of an hour."""
    return _EPOCH + hour * HOUR


# Between these, 1981 and 2084, an hour has six digits, so that texts sort as numbers do. No hour,
# window or list holds a run whose `createdAt` is no single date between them.
EARLIEST, LATEST = start_of_hour(100_000), start_of_hour(1_000_000)
IS_ARRAY = {"$type": "array"}  # which MongoDB finds by each of its values
IS_DATED: dict[str, Any] = {"$gte": EARLIEST, "$lt": LATEST, "$not": IS_ARRAY}
# The same as an expression.
HAS_DATE = {"$and": [{"$gte": ["$createdAt", EARLIEST]}, {"$lt": ["$createdAt", LATEST]}]}
# By an index, all but arrays.
UNDATED = [{"createdAt": {"$not": {"$gte": EARLIEST}}}, {"createdAt": {"$gte": LATEST}}]
# What lies further in the future was written by a clock that was ahead.
AHEAD = MINUTE


def build_base_id(automation_id: str) -> str:
    """Return the `_id` of the automation's base document."""
    return f"{automation_id}:b"


def build_hour_id(automation_id: str, hour: int) -> str:
    """Return the `_id` of the automation's document of a closed hour."""
    return f"{automation_id}:h{hour}"


def hour_of(moment: datetime) -> int:
    """Return the number of the hour since 1970 that holds `moment`."""
    return (moment - _EPOCH) // HOUR


def build_number(unit: timedelta) -> dict[str, Any]:
    """Return the expression that numbers a run's hours or minutes since 1970, null for no date."""
    milliseconds = {"$convert": {"input": "$createdAt", "to": "long", "onError": None}}
    return {"$floor": {"$divide": [milliseconds, int(unit.total_seconds() * 1000)]}}


def build_hours_pipeline(
    automation_id: str, times: Mapping[str, datetime], *, unit: timedelta = HOUR
) -> list[dict[str, Any]]:
    """Return the pipeline that counts runs by hour (or minute) number since 1970."""
    return [
        {"$match": {"automationId": {"$in": list_stored_forms(automation_id)}, "createdAt": times}},
        {"$group": {"_id": build_number(unit), "runs": {"$sum": 1}}},
        {"$match": {"_id": {"$ne": None}}},
    ]


def build_increments(increments: dict[str, int], moment: datetime, decision: Decision) -> None:
    """Add a decided trigger to the `$inc` of its automation's open hours, in place."""
    moment = moment.astimezone(UTC)
    hour = f"h.{hour_of(moment)}"
    quarter = moment.minute // 15
    if decision.outcome is Outcome.DUPLICATE:
        paths = [f"{hour}.d.{quarter}"]
    else:
        paths = [f"{hour}.n", f"{hour}.m.{moment.minute}"]
        if decision.is_new_person:
            paths.append(f"{hour}.p.{quarter}")
    for path in paths:
        increments[path] = increments.get(path, 0) + 1


def merge_hours(parts: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    """Return the sum of several hours' `{n, m, d, p}`."""
    merged: dict[str, Any] = {"n": 0}
    for part in parts:
        merged["n"] += part.get("n", 0)
        for name in ("m", "d", "p"):
            counts = part.get(name)
            if counts:
                total = merged.setdefault(name, {})
                for key, count in counts.items():
                    total[key] = total.get(key, 0) + count
    return merged


def build_recent(counts: Mapping[int, int]) -> dict[str, dict[str, Any]]:
    """Return the runs of closed hours, by hour number, as a base document keeps them."""
    recent: dict[str, dict[str, Any]] = {"days": {}, "hours": {}}
    for hour, count in counts.items():
        day = str(hour // HOURS_PER_DAY)
        recent["days"][day] = recent["days"].get(day, 0) + count
        recent["hours"].setdefault(day, {})[str(hour)] = count
    return recent


class WindowEdge:
    """Where a window that starts at `start` cuts through an hour and a minute."""

    def __init__(self, start: datetime) -> None:
        # Minutes are those of UTC: some zones are half an hour away from it.
        start = start.astimezone(UTC)
        self.start = start
        self.hour = hour_of(start)
        self.day = self.hour // HOURS_PER_DAY
        self.minute = start.minute
        self.minute_end = start.replace(second=0, microsecond=0) + MINUTE
        self._cut_minute = str(start.minute)
        self._later_minutes = frozenset(map(str, range(start.minute + 1, 60)))
        # A window that starts on a full minute cuts through none.
        self.is_even = start.second == 0 and start.microsecond == 0

    def count_whole(
        self,
        recent: Mapping[str, Mapping[str, Any]],
        open_hours: Mapping[str, Mapping[str, Any]],
        edge_hour: Mapping[str, Any] | None,
    ) -> tuple[int, int]:
        """Return (runs in the whole minutes of the window, runs in the minute that is cut).

        `recent` is the base document, of whose `hours` the day that is cut is enough,
        `open_hours` its `h`, `edge_hour` is the closed document of the hour that is cut, or None.
        """
        # Numbers as texts: days have five digits from 1997 to 2243, hours six from 1981 to 2084.
        key, day = str(self.hour), str(self.day)
        whole = sum([count for number, count in recent.get("days", {}).items() if number > day])
        hours_of_day = recent.get("hours", {}).get(day, {})
        whole += sum([count for number, count in hours_of_day.items() if number > key])
        edges = [edge_hour] if edge_hour is not None else []
        for number, parts in open_hours.items():
            if number > key:
                whole += parts.get("n", 0)
            elif number == key:
                edges.append(parts)
        cut = 0
        for parts in edges:
            for minute, count in parts.get("m", {}).items():
                if minute in self._later_minutes:
                    whole += count
                elif minute == self._cut_minute:
                    cut += count
        if self.is_even:
            whole, cut = whole + cut, 0
        return whole, cut


def newest_of(*moments: Any) -> datetime | None:
    """Return the newest of several times; what is not a time does not count."""
    return max((m for m in moments if isinstance(m, datetime)), default=None)


def find_count(value: Any) -> int | None:
    """Return the count that an older product stored, 0 for null, None for what is no count."""
    if isinstance(value, str) and value.isascii() and value.isdecimal() and len(value) < 20:
        value = int(value)
    number = value.to_decimal() if hasattr(value, "to_decimal") else value
    if number is None or (isinstance(number, float | Decimal) and math.isnan(number)):
        return 0
    if isinstance(number, bool) or not isinstance(number, int | float | Decimal):
        return None
    return int(max(number, 0)) if number <= LARGEST_COUNT else None


def parse_count(value: Any) -> int:
    """Return a stored count as an int; what is no count counts as 0."""
    return find_count(value) or 0
