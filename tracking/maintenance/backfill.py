"""What `add_run_fields` does: bring a database that another product filled up to our promises.

Every step may be interrupted and repeated, and may run while traffic flows: fields are added where
they are missing, a base is created once, hours are rebuilt a few at a time in transactions that
conflict with concurrent counting, and contacts are merged so that repeating changes nothing.
"""

from collections import Counter
from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta
from functools import partial
from typing import Any

from bson import Int64
from pymongo import UpdateOne
from pymongo.client_session import ClientSession
from pymongo.database import Database

from tracking.ids import name_id
from tracking.maintenance.contacts import merge_contacts
from tracking.maintenance.drift_store import DriftStore
from tracking.mongo.indexes import STATS_RETENTION
from tracking.mongo.transactions import batched, run_in_transaction
from tracking.rollups.hours import build_base_id, find_count, newest_of, parse_count
from tracking.rollups.rebuild import HourRebuilder, hold_base
from tracking.rollups.totals import Total, TotalStore

Document = dict[str, Any]


class Backfill:
    """Works on a batch of automations at a time; reports are by the names of `--json`."""

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

    def list_batches(self, batch_size: int) -> Iterator[list[Document]]:
        """Yield all automations (`_id`, `totalRuns`, `lastRunAt`) in batches, by `_id`."""
        fields = {"totalRuns": 1, "lastRunAt": 1}
        return batched(self._automations.find({}, fields).sort("_id", 1), batch_size)

    def preview_batch(self, batch: Sequence[Document], *, recount: bool) -> Counter[str]:
        """Report what `run_batch` would change, as far as it is known without doing it."""
        keys = [name_id(document["_id"]) for document in batch]
        totals = self._totals.list_totals(keys)
        without = {
            key: one["_id"] for key, one in zip(keys, batch, strict=True) if key not in totals
        }
        bases = {one["automationId"]: one for one in self._totals.build_bases(without, self._now)}
        existing = self._totals.count_runs(totals) if recount else {}
        report = Counter(automations=len(batch), basesCreated=len(bases))
        for automation_id, document in zip(keys, batch, strict=True):
            if automation_id in bases:
                base = bases[automation_id]
                wanted = Total(base["runs"], base["lastRunAt"])
            else:
                runs, _ = existing.get(automation_id, (0, None))
                found = max(parse_count(document.get("totalRuns")), runs)
                total = totals[automation_id]
                wanted = Total(max(total.runs, found if recount else 0), total.last_run_at)
                report["totalsRaised"] += wanted.runs > total.runs
            report["automationsUpdated"] += _is_changed(document, wanted)
        return report

    def run_batch(self, batch: Sequence[Document], *, recount: bool) -> Counter[str]:
        keys = {name_id(document["_id"]): document["_id"] for document in batch}
        before = self._totals.find_bases(keys)
        bases = self._totals.ensure_bases(keys, now=self._now, seconds=600.0)
        report = Counter(automations=len(batch), basesCreated=len(bases) - len(before))
        client = self._database.client
        for automation_id, base in bases.items():
            if recount and automation_id in before:
                raise_total = partial(self._raise_total, automation_id, keys[automation_id])
                report["totalsRaised"] += run_in_transaction(client, raise_total, seconds=600.0)
            is_open = base.get("claimsUntil") or base.get("rollupsSince")
            if recount or is_open:
                report["contactsWritten"] += merge_contacts(self._database, automation_id)
                report["hoursRebuilt"] += self._rebuilder.rebuild(automation_id)
                # Last, so that an interrupted automation is done again as a whole.
                if is_open or "unrolled" in base:
                    run_in_transaction(client, partial(self._settle, automation_id), seconds=60.0)
        report["automationsUpdated"] = self._write_fields(batch)
        return report

    def _settle(self, automation_id: str, session: ClientSession) -> None:
        """Note that hours and contacts are complete, and how many runs stand in no hour."""
        with hold_base(self._stats, automation_id, session):
            store = DriftStore(self._database, now=self._now)
            counts, _ = store.read_drift(automation_id, None, self._now, session)
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
        totals = self._totals.list_totals([name_id(document["_id"]) for document in batch])
        writes = []
        for document in batch:
            total = totals[name_id(document["_id"])]
            if not _is_changed(document, total):
                continue
            last_run_at: Any = {"$ifNull": ["$lastRunAt", None]}
            if total.last_run_at is not None:
                last_run_at = {"$max": ["$lastRunAt", total.last_run_at]}
            # A pipeline: traffic may have raised the copy since it was read.
            number = {"$cond": [{"$isNumber": "$totalRuns"}, "$totalRuns", 0]}
            stored = {"$convert": {"input": number, "to": "long", "onError": Int64(0)}}
            change = {"lastRunAt": last_run_at}
            if find_count(document.get("totalRuns")) is not None:
                change["totalRuns"] = {"$max": [stored, Int64(total.runs)]}
            writes.append(UpdateOne({"_id": document["_id"]}, [{"$set": change}]))
        if writes:  # some got theirs together with their base
            self._automations.bulk_write(writes, ordered=False)
        return len(writes)

    def _raise_total(self, automation_id: str, key: Any, session: ClientSession) -> bool:
        total = self._totals.list_totals([automation_id], session)[automation_id]
        existing = self._totals.count_runs([automation_id], session)
        runs, newest = existing.get(automation_id, (0, None))
        automation = self._automations.find_one({"_id": key}, session=session) or {}
        counted = max(total.runs, runs)
        wanted = max(counted, parse_count(automation.get("totalRuns")))
        update: Document = {}
        if wanted > total.runs:
            # What no run accounts for was there before us: it belongs to the base.
            update["$inc"] = {"runs": Int64(wanted - total.runs), "base": Int64(wanted - counted)}
        if newest is not None:
            update["$max"] = {"lastRunAt": newest}
        if update:
            query = {"_id": build_base_id(automation_id), "automationId": automation_id}
            self._stats.update_one(query, update, session=session)
        return wanted > total.runs


def _is_changed(document: Document, total: Total) -> bool:
    stored = document.get("totalRuns")
    count = find_count(stored)
    is_behind = count is not None and (count < total.runs or not isinstance(stored, int | float))
    newest = newest_of(document.get("lastRunAt"))
    is_older = total.last_run_at is not None and (newest is None or newest < total.last_run_at)
    return is_behind or is_older or "lastRunAt" not in document
