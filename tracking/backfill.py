"""What `add_run_fields` does: bring a database that another product filled up to our promises.

Every step may be interrupted and repeated, and may run while traffic flows: fields are added where
they are missing, a base is created once, hours are rebuilt a few at a time in transactions that
conflict with concurrent counting, and contacts are merged so that repeating changes nothing.
"""

from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta
from typing import Any

import msgspec
from bson import Int64
from pymongo import ReplaceOne, UpdateOne
from pymongo.client_session import ClientSession
from pymongo.database import Database

from tracking.rollups import (
    build_base_id,
    build_hour_id,
    build_live_ids,
    merge_hours,
    start_of_hour,
)
from tracking.runs import build_contact_id
from tracking.totals import Total, TotalStore, is_recent_hour, newest_of, parse_count
from tracking.transactions import run_in_transaction

Document = dict[str, Any]

_RUNS_PER_TRANSACTION = 100_000
_HOURS_PER_TRANSACTION = 48
_CONTACTS_PER_WRITE = 1000
_MILLISECONDS_PER_MINUTE = 60_000
# Our own runs name their event; those of an older product do not.
_EARLIER = {"eventId": {"$exists": False}}


class BackfillReport(msgspec.Struct):
    """What a backfill changed, or would change."""

    automations: int = 0
    automations_updated: int = 0
    bases_created: int = 0
    totals_raised: int = 0
    hours_rebuilt: int = 0
    contacts_written: int = 0

    def add(self, other: "BackfillReport") -> None:
        """Add another report's figures to this one."""
        for name in self.__struct_fields__:
            setattr(self, name, getattr(self, name) + getattr(other, name))


class Backfill:
    """Adds fields, bases, rollups and contacts, a batch of automations at a time."""

    def __init__(
        self, database: Database[Document], *, now: datetime, retention: timedelta | None
    ) -> None:
        self._database = database
        self._now = now
        # The TTL may have taken runs from older hours: these are left as they are.
        self._oldest = None if retention is None else now - retention + timedelta(hours=1)
        self._automations = database["automations"]
        self._runs = database["automation_runs"]
        self._stats = database["automation_run_stats"]
        self._contacts = database["automation_contacts"]
        self._totals = TotalStore(database)

    def count_automations(self) -> int:
        """Return how many automations there are."""
        return self._automations.count_documents({})

    def list_batches(self, batch_size: int) -> Iterator[list[Document]]:
        """Yield all automations (`_id`, `totalRuns`, `lastRunAt`) in batches, by `_id`."""
        fields = {"totalRuns": 1, "lastRunAt": 1}
        batch: list[Document] = []
        for document in self._automations.find({}, fields).sort("_id", 1):
            batch.append(document)
            if len(batch) >= batch_size:
                yield batch
                batch = []
        if batch:
            yield batch

    def preview_batch(self, batch: Sequence[Document], *, recount: bool) -> BackfillReport:
        """Return what `run_batch` would change, as far as it is known without doing it."""
        keys = {str(document["_id"]): document["_id"] for document in batch}
        bases = self._totals.find_bases(keys)
        totals = self._totals.list_totals(keys)
        existing = self._totals.count_runs(keys)
        report = BackfillReport(automations=len(batch))
        for document in batch:
            automation_id = str(document["_id"])
            runs, newest = existing.get(automation_id, (0, None))
            base = bases.get(automation_id)
            total = totals.get(automation_id, Total(0, None))
            stored = parse_count(document.get("totalRuns"))
            wanted = total.runs
            if base is None:
                wanted = max(stored, runs - total.runs) + total.runs
                newest = newest_of(newest, total.last_run_at)
            else:
                newest = total.last_run_at
                if recount:
                    wanted = max(total.runs, stored, runs)
            report.bases_created += base is None
            report.totals_raised += base is not None and wanted > total.runs
            report.automations_updated += _is_changed(document, Total(wanted, newest))
        return report

    def run_batch(self, batch: Sequence[Document], *, recount: bool) -> BackfillReport:
        """Bring a batch of automations up to date and return what changed."""
        keys = {str(document["_id"]): document["_id"] for document in batch}
        report = BackfillReport(automations=len(batch))
        before = self._totals.find_bases(keys)
        bases = self._totals.ensure_bases(keys, now=self._now, seconds=600.0)
        report.bases_created = len(bases) - len(before)
        for automation_id, base in bases.items():
            if recount and automation_id in before:
                report.totals_raised += self._raise_total(automation_id, keys[automation_id])
            if recount or base.get("claimsUntil") or base.get("rollupsSince"):
                report.contacts_written += self._merge_contacts(automation_id)
                report.hours_rebuilt += self._rebuild_hours(automation_id)
                # Last, so that an interrupted automation is done again as a whole.
                self._stats.update_one(
                    {"_id": build_base_id(automation_id)},
                    {"$set": {"rollupsSince": None, "claimsUntil": None}},
                )
        report.automations_updated = self._write_fields(batch)
        return report

    def _write_fields(self, batch: Sequence[Document]) -> int:
        """Add missing fields and bring copies up to their totals; return documents changed."""
        totals = self._totals.list_totals([str(document["_id"]) for document in batch])
        writes = []
        for document in batch:
            total = totals[str(document["_id"])]
            if not _is_changed(document, total):
                continue
            last_run_at: Any = {"$ifNull": ["$lastRunAt", None]}
            if total.last_run_at is not None:
                last_run_at = {"$max": ["$lastRunAt", total.last_run_at]}
            # A pipeline: traffic may have raised the copy since it was read.
            number = {"$cond": [{"$isNumber": "$totalRuns"}, "$totalRuns", 0]}
            stored = {"$convert": {"input": number, "to": "long", "onError": Int64(0)}}
            change = {
                "totalRuns": {"$max": [stored, Int64(total.runs)]},
                "lastRunAt": last_run_at,
            }
            writes.append(UpdateOne({"_id": document["_id"]}, [{"$set": change}]))
        if not writes:
            return 0
        return self._automations.bulk_write(writes, ordered=False).modified_count

    def _raise_total(self, automation_id: str, key: Any) -> int:
        return run_in_transaction(
            self._database.client,
            lambda session: self._raise_total_in(automation_id, key, session),
            seconds=600.0,
        )

    def _raise_total_in(self, automation_id: str, key: Any, session: ClientSession) -> int:
        total = self._totals.list_totals([automation_id], session)[automation_id]
        runs, newest = self._totals.count_runs([automation_id], session).get(
            automation_id, (0, None)
        )
        automation = self._automations.find_one({"_id": key}, session=session) or {}
        counted = max(total.runs, runs)
        wanted = max(counted, parse_count(automation.get("totalRuns")))
        update: Document = {}
        if wanted > total.runs:
            # What no run accounts for was there before us: it belongs to the base.
            update["$inc"] = {
                "runs": Int64(wanted - total.runs),
                "base": Int64(wanted - counted),
            }
        if newest is not None:
            update["$max"] = {"lastRunAt": newest}
        if update:
            self._stats.update_one({"_id": build_base_id(automation_id)}, update, session=session)
        return int(wanted > total.runs)

    def _merge_contacts(self, automation_id: str) -> int:
        """Give every pair of earlier runs its contact; return how many there are.

        A contact's `runs` are ours, added one by one, plus `earlier`, set here as a whole.
        """
        rows = self._runs.aggregate(build_contacts_pipeline(automation_id), allowDiskUse=True)
        writes: list[UpdateOne] = []
        written = 0
        for row in rows:
            writes.append(_build_contact_write(automation_id, row))
            if len(writes) >= _CONTACTS_PER_WRITE:
                written += len(writes)
                self._contacts.bulk_write(writes, ordered=False)
                writes = []
        if writes:
            written += len(writes)
            self._contacts.bulk_write(writes, ordered=False)
        return written

    def _rebuild_hours(self, automation_id: str) -> int:
        match: Document = {"automationId": automation_id}
        # Always a range: it keeps to values that are dates.
        match["createdAt"] = {"$gte": self._oldest or start_of_hour(0)}
        rows = self._runs.aggregate(build_hours_pipeline(match), allowDiskUse=True)
        counts = {int(row["_id"]): row["runs"] for row in rows}
        first_whole = None if self._oldest is None else self._oldest
        hours = [
            hour
            for hour in sorted(counts)
            if first_whole is None or start_of_hour(hour) >= first_whole
        ]
        for chunk in _chunk_hours(hours, counts):
            run_in_transaction(
                self._database.client,
                lambda session, chunk=chunk: self.rebuild_hours_in(  # type: ignore[misc]
                    automation_id, chunk, session
                ),
                seconds=120.0,
            )
        return len(hours)

    def rebuild_hours_in(
        self, automation_id: str, hours: Sequence[int], session: ClientSession
    ) -> None:
        """Replace the run counts of some hours by a count of the runs in the same snapshot.

        A flush that counts in one of them meanwhile either conflicts, or writes a live document
        that is not seen here: exact both ways. Duplicates and new people are carried over.
        """
        raw = self._count_minutes(automation_id, hours, session)
        seen: dict[int, list[Document]] = {hour: [] for hour in hours}
        hour_ids = [build_hour_id(automation_id, hour) for hour in hours]
        for document in self._stats.find({"_id": {"$in": hour_ids}}, session=session):
            seen[int(document["_id"].rpartition(":h")[2])].append(document)
        writes: list[ReplaceOne[Document] | UpdateOne] = []
        live_ids = {"_id": {"$in": build_live_ids(automation_id)}}
        for document in self._stats.find(live_ids, session=session):
            present = [hour for hour in hours if str(hour) in document.get("h", {})]
            for hour in present:
                seen[hour].append(document["h"][str(hour)])
            if present:
                unset = {f"h.{hour}": "" for hour in present}
                writes.append(UpdateOne({"_id": document["_id"]}, {"$unset": unset}))
        recent: Document = {}
        for hour in hours:
            minutes = raw.get(hour, {})
            carried = merge_hours(seen[hour])
            document = carried | {
                "_id": build_hour_id(automation_id, hour),
                "automationId": automation_id,
                "hour": start_of_hour(hour),
                "n": sum(minutes.values()),
                "m": minutes,
            }
            writes.append(ReplaceOne({"_id": document["_id"]}, document, upsert=True))
            if is_recent_hour(hour, self._now):
                recent[f"h.{hour}"] = document["n"]
        if recent:
            writes.append(UpdateOne({"_id": build_base_id(automation_id)}, {"$set": recent}))
        self._stats.bulk_write(writes, ordered=False, session=session)

    def _count_minutes(
        self, automation_id: str, hours: Sequence[int], session: ClientSession
    ) -> dict[int, dict[str, int]]:
        match = {
            "automationId": automation_id,
            "createdAt": {"$gte": start_of_hour(hours[0]), "$lt": start_of_hour(hours[-1] + 1)},
        }
        minutes: dict[int, dict[str, int]] = {}
        for row in self._runs.aggregate(
            build_hours_pipeline(match, minutes_per_group=1), session=session
        ):
            hour, minute = divmod(int(row["_id"]), 60)
            minutes.setdefault(hour, {})[str(minute)] = row["runs"]
        return minutes


def build_hours_pipeline(match: Document, *, minutes_per_group: int = 60) -> list[Document]:
    """Return the pipeline that counts runs by hour (or minute) number since 1970."""
    size = _MILLISECONDS_PER_MINUTE * minutes_per_group
    number = {"$floor": {"$divide": [{"$toLong": "$createdAt"}, size]}}
    return [{"$match": match}, {"$group": {"_id": number, "runs": {"$sum": 1}}}]


def build_contacts_pipeline(automation_id: str) -> list[Document]:
    """Return the pipeline that lists the people of an automation's earlier runs."""
    newest = {"$max": {"at": "$createdAt", "id": "$_id"}}
    return [
        {"$match": {"automationId": automation_id, "userId": {"$type": "string"}, **_EARLIER}},
        {
            "$group": {
                "_id": "$userId",
                "workspaceId": {"$first": "$workspaceId"},
                "first": {"$min": "$createdAt"},
                "newest": newest,
                "runs": {"$sum": 1},
            }
        },
    ]


def _build_contact_write(automation_id: str, row: Document) -> UpdateOne:
    newest = row["newest"]
    is_newer = {"$lt": [{"$ifNull": ["$lastRunAt", None]}, newest["at"]]}
    earlier = {"$max": [{"$ifNull": ["$earlier", 0]}, row["runs"]]}
    own = {"$subtract": [{"$ifNull": ["$runs", 0]}, {"$ifNull": ["$earlier", 0]}]}
    change = {
        "automationId": {"$literal": automation_id},
        "userId": {"$literal": row["_id"]},
        "workspaceId": {"$ifNull": ["$workspaceId", {"$literal": row["workspaceId"]}]},
        "firstRunAt": {"$min": ["$firstRunAt", row["first"]]},
        "lastRunId": {"$cond": [is_newer, {"$literal": newest["id"]}, "$lastRunId"]},
        "lastRunAt": {"$max": ["$lastRunAt", newest["at"]]},
        "runs": {"$add": [own, earlier]},
        "earlier": earlier,
    }
    contact_id = build_contact_id(automation_id, row["_id"])
    return UpdateOne({"_id": contact_id}, [{"$set": change}], upsert=True)


def _is_changed(document: Document, total: Total) -> bool:
    stored = document.get("totalRuns")
    is_behind = parse_count(stored) < total.runs or not isinstance(stored, int | float)
    newest = newest_of(document.get("lastRunAt"))
    is_older = total.last_run_at is not None and (newest is None or newest < total.last_run_at)
    return is_behind or is_older or "lastRunAt" not in document


def _chunk_hours(hours: Sequence[int], counts: dict[int, int]) -> Iterator[list[int]]:
    """Yield neighbouring hours, few enough for one short transaction."""
    chunk: list[int] = []
    runs = 0
    for hour in hours:
        is_full = chunk and (
            hour - chunk[0] >= _HOURS_PER_TRANSACTION or runs + counts[hour] > _RUNS_PER_TRANSACTION
        )
        if is_full:
            yield chunk
            chunk, runs = [], 0
        chunk.append(hour)
        runs += counts[hour]
    if chunk:
        yield chunk
