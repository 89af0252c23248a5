"""What `add_run_fields` does: bring a database that another product filled up to our promises.

Every step may be interrupted and repeated, and may run while traffic flows: fields are added where
they are missing, a base is created once, hours are rebuilt a few at a time in transactions that
conflict with concurrent counting, and contacts are merged so that repeating changes nothing.
"""

from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta
from functools import partial
from typing import Any

import msgspec
from bson import Int64
from pymongo import UpdateOne
from pymongo.client_session import ClientSession
from pymongo.database import Database

from tracking.maintenance.contacts import merge_contacts
from tracking.maintenance.drift_store import DriftStore
from tracking.mongo.indexes import STATS_RETENTION
from tracking.mongo.transactions import run_in_transaction
from tracking.rollups.hours import build_base_id
from tracking.rollups.rebuild import HourRebuilder, hold_base
from tracking.rollups.totals import Total, TotalStore, newest_of, parse_count

Document = dict[str, Any]


class BackfillReport(msgspec.Struct, rename="camel"):
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
        # Older hours would be gone with the next TTL; their runs are in the total all the same.
        oldest = now - STATS_RETENTION + timedelta(days=1)
        if retention is not None:
            oldest = max(oldest, now - retention + timedelta(hours=1))
        self._rebuilder = HourRebuilder(database, now=now, oldest=oldest)
        self._automations = database["automations"]
        self._stats = database["automation_run_stats"]
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
            is_open = base.get("claimsUntil") or base.get("rollupsSince")
            if recount or is_open:
                report.contacts_written += merge_contacts(self._database, automation_id)
                report.hours_rebuilt += self._rebuilder.rebuild(automation_id)
                # Last, so that an interrupted automation is done again as a whole.
                if is_open or "unrolled" in base:
                    self._settle(automation_id)
        report.automations_updated = self._write_fields(batch)
        return report

    def _settle(self, automation_id: str) -> None:
        """Note that hours and contacts are complete, and how many runs stand in no hour."""
        run_in_transaction(
            self._database.client,
            partial(self._settle_in, automation_id),
            seconds=60.0,
        )

    def _settle_in(self, automation_id: str, session: ClientSession) -> None:
        with hold_base(self._stats, automation_id, session):
            counts = DriftStore(self._database, now=self._now).read_counts(
                automation_id, None, since=self._now, session=session
            )
            base = counts.base or {}
            unrolled = counts.total - parse_count(base.get("base")) - counts.rolled
            change = {
                "rollupsSince": None,
                "claimsUntil": None,
                "unrolled": Int64(max(unrolled, 0)),
                "hoursSince": counts.oldest_hour or base.get("takenAt"),
            }
            query = {"_id": build_base_id(automation_id), "automationId": automation_id}
            self._stats.update_one(query, {"$set": change}, session=session)

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
        # Some got theirs together with their base.
        self._automations.bulk_write(writes, ordered=False)
        return len(writes)

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
            query = {"_id": build_base_id(automation_id), "automationId": automation_id}
            self._stats.update_one(query, update, session=session)
        return int(wanted > total.runs)


def _is_changed(document: Document, total: Total) -> bool:
    stored = document.get("totalRuns")
    is_behind = parse_count(stored) < total.runs or not isinstance(stored, int | float)
    newest = newest_of(document.get("lastRunAt"))
    is_older = total.last_run_at is not None and (newest is None or newest < total.last_run_at)
    return is_behind or is_older or "lastRunAt" not in document
