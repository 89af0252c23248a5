"""Reading what `drift` compares: one automation's counts, all at one snapshot."""

from collections import Counter
from datetime import datetime, timedelta
from functools import partial
from typing import Any

from pymongo.client_session import ClientSession
from pymongo.database import Database

from tracking.ids import list_stored_forms
from tracking.maintenance.drift import Counts, Drift, find_drift, round_past
from tracking.mongo.indexes import STATS_RETENTION, find_retention
from tracking.mongo.transactions import read_at_snapshot
from tracking.rollups.hours import (
    EARLIEST,
    IS_DATED,
    LATEST,
    MINUTE,
    build_base_id,
    build_hour_id,
    build_hours_pipeline,
    hour_of,
    newest_of,
    parse_count,
    start_of_hour,
)

Document = dict[str, Any]

# Hours go with the TTL some time after they are too old.
_HOURS_KEPT = STATS_RETENTION - timedelta(days=1)


class DriftStore:
    """Reads for comparisons. Every method that takes a session reads at its snapshot."""

    def __init__(self, database: Database[Document], *, now: datetime) -> None:
        self._now = now
        self._automations = database["automations"]
        self._runs = database["automation_runs"]
        self._stats = database["automation_run_stats"]
        self._database = database

    def find_first_hour(self, configured: timedelta) -> datetime:
        """Return the start of the first hour that no TTL has touched.

        A TTL that was shorter for a while has left hours without runs: what lies before the oldest
        run is gone then, too.
        """
        retention = find_retention(self._database, configured)
        if retention is None:
            return EARLIEST
        first = round_past(self._now - retention)
        times = {"createdAt": IS_DATED | {"$gte": first}}
        found = self._runs.find_one(times, {"createdAt": 1}, sort=[("createdAt", 1)])
        oldest = found["createdAt"] if found else self._now
        before = {"$gte": first, "$lt": start_of_hour(hour_of(oldest))}
        is_cut = self._stats.find_one({"hour": before, "n": {"$gt": 0}}, {"_id": 1})
        return round_past(oldest) if is_cut else first

    def measure(self, automation_id: str, key: Any, *, since: datetime) -> tuple[Counts, Drift]:
        """Return what `read_drift` does, at a snapshot of its own."""
        read = partial(self.read_drift, automation_id, key, since)
        return read_at_snapshot(self._database.client, read, seconds=60.0)

    def read_drift(
        self, automation_id: str, key: Any, since: datetime, session: ClientSession
    ) -> tuple[Counts, Drift]:
        """Return an automation's counts from the hour `since` on, and where they differ.

        `key` is its own typed `_id`.
        """
        first = hour_of(since)
        base = self._stats.find_one({"_id": build_base_id(automation_id)}, session=session)
        known = base or {}
        recent = {
            int(hour): count
            for hours in known.get("hours", {}).values()
            for hour, count in hours.items()
            if int(hour) >= first
        }
        query = {"automationId": {"$in": list_stored_forms(automation_id)}, "createdAt": IS_DATED}
        newest = self._runs.find_one(
            query, {"_id": 0, "createdAt": 1}, sort=[("createdAt", -1)], session=session
        )
        times = {"$gte": since, "$lt": LATEST}
        pipeline = build_hours_pipeline(automation_id, times, unit=MINUTE)
        rows = self._runs.aggregate(pipeline, session=session, batchSize=10_000)
        counts = Counts(
            automation_id=automation_id,
            base=base,
            total=parse_count(known.get("runs")),
            last_run_at=newest_of(known.get("lastRunAt")),
            raw_minutes=Counter({int(row["_id"]): row["runs"] for row in rows}),
            recent=Counter(recent),
            newest_run=newest["createdAt"] if newest else None,
            copy=self._automations.find_one(
                {"_id": key}, {"totalRuns": 1, "lastRunAt": 1}, session=session
            ),
        )
        for hour, parts in known.get("h", {}).items():
            _add_hour(counts, int(hour), parts, first=first)
        self._add_closed(counts, first, session)
        return counts, find_drift(counts, now=self._now, hours_kept=_HOURS_KEPT)

    def _add_closed(self, counts: Counts, first: int, session: ClientSession) -> None:
        """Add the hour documents: the old ones as a sum, the others minute by minute."""
        automation_id = counts.automation_id
        # The other documents of an automation sort before and after, those of another one are left
        # out.
        edge = build_hour_id(automation_id, first)
        old = {"_id": {"$gte": f"{automation_id}:h", "$lt": edge}, "automationId": automation_id}
        pipeline: list[Document] = [
            {"$match": old},
            {"$group": {"_id": None, "runs": {"$sum": "$n"}, "oldest": {"$min": "$hour"}}},
        ]
        for row in self._stats.aggregate(pipeline, session=session):
            counts.rolled += row["runs"]
            counts.oldest_hour = row["oldest"]
        new = {"_id": {"$gte": edge, "$lt": f"{automation_id}:i"}, "automationId": automation_id}
        fields = {"hour": 1, "n": 1, "m": 1}
        for document in self._stats.find(new, fields, session=session, batch_size=1000):
            hour = hour_of(document["hour"])
            counts.closed[hour] = document.get("n", 0)
            _add_hour(counts, hour, document, first=first)


def _add_hour(counts: Counts, hour: int, parts: Document, *, first: int) -> None:
    counts.rolled += parts.get("n", 0)
    if hour < first:
        return
    counts.hours[hour] += parts.get("n", 0)
    for minute, runs in parts.get("m", {}).items():
        counts.minutes[hour * 60 + int(minute)] += runs
