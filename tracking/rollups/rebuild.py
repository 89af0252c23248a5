"""Hour rollups, counted again from the runs that exist."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime
from functools import partial
from typing import Any

from pymongo import ReplaceOne, UpdateOne
from pymongo.client_session import ClientSession
from pymongo.collection import Collection
from pymongo.database import Database

from tracking.mongo.transactions import run_in_transaction
from tracking.rollups.hours import (
    EARLIEST,
    HOURS_PER_DAY,
    LATEST,
    MINUTE,
    build_base_id,
    build_hour_id,
    build_hours_pipeline,
    build_recent,
    hour_of,
    merge_hours,
    start_of_hour,
)
from tracking.rollups.totals import is_recent_day

Document = dict[str, Any]

_RUNS_PER_TRANSACTION = 100_000
_HOURS_PER_TRANSACTION = 500


class HourRebuilder:
    """Rebuilds the hours of an automation, a few of them in a transaction.

    Hours that begin before `oldest` are left as they are: the TTL may have taken runs from them.
    """

    def __init__(
        self, database: Database[Document], *, now: datetime, oldest: datetime | None
    ) -> None:
        self._database = database
        self._now = now
        self._oldest = max(oldest or EARLIEST, EARLIEST)
        self._runs = database["automation_runs"]
        self._stats = database["automation_run_stats"]

    def rebuild(self, automation_id: str) -> int:
        """Rebuild every hour that has runs; return how many there are."""
        # Always a range: it keeps to values that are dates.
        times = {"$gte": self._oldest, "$lt": LATEST}
        pipeline = build_hours_pipeline(automation_id, times)
        rows = self._runs.aggregate(pipeline, allowDiskUse=True)
        counts = {int(row["_id"]): row["runs"] for row in rows}
        hours = [hour for hour in sorted(counts) if start_of_hour(hour) >= self._oldest]
        for chunk in chunk_hours(hours, counts):
            rebuild = partial(self.rebuild_hours, automation_id, chunk)
            run_in_transaction(self._database.client, rebuild, seconds=120.0)
        return len(hours)

    def rebuild_hours(
        self, automation_id: str, hours: Sequence[int], session: ClientSession
    ) -> int:
        """Replace the run counts of some hours by a count of the runs in the same snapshot.

        Duplicates and new people are carried over. Return how many runs the hours have more.
        """
        with hold_base(self._stats, automation_id, session):
            return self._rebuild_hours(automation_id, hours, session)

    def _rebuild_hours(
        self, automation_id: str, hours: Sequence[int], session: ClientSession
    ) -> int:
        of_this = {"automationId": automation_id}
        raw = self._count_minutes(automation_id, hours, session)
        hour_ids = [build_hour_id(automation_id, hour) for hour in hours]
        found = self._stats.find({"_id": {"$in": hour_ids}, **of_this}, session=session)
        closed = {hour_of(document["hour"]): document for document in found}
        base_query = {"_id": build_base_id(automation_id), **of_this}
        base = self._stats.find_one(base_query, session=session) or {}
        open_hours = base.get("h", {})
        counts: dict[int, int] = {}
        change: Document = {}
        rise = 0
        writes: list[ReplaceOne[Document] | UpdateOne] = []
        for hour in hours:
            minutes = raw.get(hour, {})
            seen = [closed.get(hour, {}), open_hours.get(str(hour), {})]
            before = merge_hours(seen)
            document = before | {
                "_id": build_hour_id(automation_id, hour),
                **of_this,
                "hour": start_of_hour(hour),
                "n": sum(minutes.values()),
                "m": minutes,
            }
            rise += document["n"] - before["n"]
            if str(hour) in open_hours:
                change.setdefault("$unset", {})[f"h.{hour}"] = ""
            if document != closed.get(hour):
                writes.append(
                    ReplaceOne({"_id": document["_id"], **of_this}, document, upsert=True)
                )
            if is_recent_day(hour // HOURS_PER_DAY, self._now):
                counts[hour] = document["n"]
        if recent := _build_recent_change(base, counts):
            change["$set"] = recent
        if change:
            writes.append(UpdateOne(base_query, change))
        if writes:
            self._stats.bulk_write(writes, ordered=False, session=session)
        return rise

    def _count_minutes(
        self, automation_id: str, hours: Sequence[int], session: ClientSession
    ) -> dict[int, dict[str, int]]:
        times = {"$gte": start_of_hour(hours[0]), "$lt": start_of_hour(hours[-1] + 1)}
        pipeline = build_hours_pipeline(automation_id, times, unit=MINUTE)
        minutes: dict[int, dict[str, int]] = {}
        for row in self._runs.aggregate(pipeline, session=session):
            hour, minute = divmod(int(row["_id"]), 60)
            minutes.setdefault(hour, {})[str(minute)] = row["runs"]
        return minutes


@contextmanager
def hold_base(
    stats: Collection[Document], automation_id: str, session: ClientSession
) -> Iterator[None]:
    """Keep a transaction's base from being counted in; must be the transaction's first write.

    A batch that is counted meanwhile conflicts. Without it a busy automation would never let a
    transaction that writes its base at the end come through. Nothing of it is stored.
    """
    query = {"_id": build_base_id(automation_id), "automationId": automation_id}
    stats.update_one(query, {"$set": {"isHeld": True}}, session=session)
    yield
    stats.update_one(query, {"$unset": {"isHeld": ""}}, session=session)


def _build_recent_change(base: Document, counts: dict[int, int]) -> Document:
    """Return the `$set` that puts these hours' counts into a base document, days as a whole.

    Only what differs from what the base has.
    """
    days = {str(hour // HOURS_PER_DAY) for hour in counts}
    known = {
        int(hour): count
        for day, hours in base.get("hours", {}).items()
        for hour, count in hours.items()
        if day in days
    }
    recent = build_recent(known | counts)
    return {
        f"{name}.{day}": recent[name][day]
        for day in days
        for name in ("days", "hours")
        if base.get(name, {}).get(day) != recent[name][day]
    }


def chunk_hours(hours: Sequence[int], counts: Mapping[int, int]) -> Iterator[list[int]]:
    """Yield hours in order, few enough and with few enough runs for one short transaction."""
    chunk: list[int] = []
    runs = 0
    for hour in hours:
        is_full = chunk and (
            len(chunk) >= _HOURS_PER_TRANSACTION
            or runs + counts.get(hour, 0) > _RUNS_PER_TRANSACTION
        )
        if is_full:
            yield chunk
            chunk, runs = [], 0
        chunk.append(hour)
        runs += counts.get(hour, 0)
    if chunk:
        yield chunk
