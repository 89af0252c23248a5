"""What `reconcile_runs` does: put right what `verify_run_tracking` finds, an automation at a time.

The runs are what is true: hours are counted anew from them where they differ, the total follows
from the hours, the copy in `automations` from the total, and contacts from the runs of their pairs.
Hours that a TTL may have touched are left alone. Every step is one transaction that reads what it
judges: it may be killed, repeated, and run under traffic. All steps of one automation write its
base, as counting does, so that two of them never build on each other's past.

Coming back from an older product (`is_adopting`), its runs are found as such a difference, and what
its counter has beyond them joins the base: it is never lost, and never counted twice.
"""

import logging
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from functools import partial
from typing import Any

import msgspec
from bson import Int64
from pymongo import UpdateOne
from pymongo.client_session import ClientSession
from pymongo.database import Database

from tracking.clock import truncate_to_milliseconds
from tracking.conf import conf
from tracking.ids import list_all_forms, list_stored_forms, name_id, name_person
from tracking.maintenance.backfill import Backfill
from tracking.maintenance.contacts import ContactStore
from tracking.maintenance.drift import Counts, Drift, is_copy_right, sum_hours
from tracking.maintenance.drift_store import DriftStore
from tracking.mongo.indexes import find_retention
from tracking.mongo.transactions import run_in_transaction
from tracking.rollups.hours import (
    AHEAD,
    IS_DATED,
    LATEST,
    build_base_id,
    find_count,
    newest_of,
    parse_count,
)
from tracking.rollups.rebuild import HourRebuilder, chunk_hours, hold_base

logger = logging.getLogger("tracking")

Document = dict[str, Any]

_RUNS_PER_MOVE = 500
_BUILT = "built by add_run_fields"


class Repair(msgspec.Struct, frozen=True):
    """One line of what differs: `stored` is what is there, `wanted` what it should be.

    One that `needs_adopting` is only shown: it may be what an older product has counted.
    """

    automation_id: str
    what: str
    stored: str
    wanted: str
    needs_adopting: bool = False


class Reconciler:
    def __init__(
        self,
        database: Database[Document],
        *,
        now: datetime,
        retention: timedelta,
        is_adopting: bool,
    ) -> None:
        self._database = database
        self._now = now
        self._is_adopting = is_adopting
        self._automations = database["automations"]
        self._runs = database["automation_runs"]
        self._stats = database["automation_run_stats"]
        self._contact_documents = database["automation_contacts"]
        self._contacts = ContactStore(database)
        self._drift = DriftStore(database, now=now)
        self._since = self._drift.find_first_hour(retention)
        self._rebuilder = HourRebuilder(database, now=now, oldest=self._since)
        in_force = find_retention(database, retention)
        self._backfill = Backfill(database, now=now, retention=in_force)

    def list_automations(self) -> dict[str, Any]:
        """Return the typed key of every automation, by its id: those that are stored or counted."""
        bases = self._stats.find(
            {"base": {"$exists": True}}, {"automationId": 1, "automationKey": 1}
        )
        keys = {base["automationId"]: base["automationKey"] for base in bases}
        return keys | {
            name_id(one["_id"]): one["_id"] for one in self._automations.find({}, {"_id": 1})
        }

    def preview(self, automation_id: str, key: Any) -> list[Repair]:
        """Return what `repair` would do, each kind of difference as one line. Reads only."""
        counts, drift = self._drift.measure(automation_id, key, since=self._since)
        base = counts.base or {}
        if "base" not in base or base.get("rollupsSince") is not None:
            has_runs = counts.newest_run is not None or (counts.copy or {}).get("totalRuns")
            missing = "hours" if "base" in base else "base"
            return [Repair(automation_id, missing, "none", _BUILT)] if has_runs else []
        ahead = self._count_ahead(automation_id)
        what = "runs and contacts in the future"
        repairs = [Repair(automation_id, what, str(ahead), "now or before")] if ahead else []
        repairs += self._compare(counts, drift)
        compared = self._contacts.compare(automation_id, oldest=self._since)
        wrong = sum(len(changes) for _, changes in compared)
        if wrong:
            repairs.append(Repair(automation_id, "contacts", f"{wrong} differ", "as their runs"))
        return repairs

    def repair(self, automation_id: str, key: Any) -> list[Repair]:
        """Put one automation right and return what differed; nothing is left of that."""
        repairs = self.preview(automation_id, key)
        if not repairs:
            return repairs
        if repairs[0].wanted == _BUILT:
            stored = self._automations.find_one({"_id": key}, {"totalRuns": 1, "lastRunAt": 1})
            self._backfill.run_batch([stored or {"_id": key}], recount=False)
        while self._runs.find_one(self._build_ahead("createdAt", automation_id), {"_id": 1}):
            self._run(automation_id, partial(self._move_back, automation_id))
        # First: until then a person whom another product counted may be counted again.
        for people, changes in self._contacts.compare(automation_id, oldest=self._since):
            if changes:
                repair = partial(self._contacts.repair, automation_id, people, self._since)
                self._run(automation_id, repair)
        for contact_id in self._list_stray(automation_id):
            self._contact_documents.update_one(
                {"_id": contact_id, "automationId": automation_id},
                [{"$set": {"lastRunAt": {"$min": ["$firstRunAt", self._now]}}}],
            )
        counts, drift = self._drift.measure(automation_id, key, since=self._since)
        for hours in chunk_hours(drift.hours, sum_hours(counts.raw_minutes)):
            self._run(automation_id, partial(self._rebuild, automation_id, hours, drift))
        self._run(automation_id, partial(self._settle, automation_id, key))
        self._run(automation_id, partial(self._repair_copy, automation_id, key))
        line = "ℹ️ [TRACKING] Reconciled %s, %s: %s -> %s"
        for one in repairs:
            logger.info(line, one.automation_id, one.what, one.stored, one.wanted)
        return repairs

    def _run(self, automation_id: str, work: Callable[[ClientSession], None]) -> None:
        def hold_and_work(session: ClientSession) -> None:
            with hold_base(self._stats, automation_id, session):
                work(session)

        run_in_transaction(self._database.client, hold_and_work, seconds=120.0)

    def _build_ahead(self, field: str, automation_id: str) -> Document:
        """Return the query of what we counted by a clock that was ahead."""
        query: Document = {
            "automationId": automation_id,
            field: {"$gt": self._now + AHEAD, "$lt": LATEST},
        }
        return query | ({"eventId": {"$exists": True}} if field == "createdAt" else {})

    def _count_ahead(self, automation_id: str) -> int:
        runs = self._runs.count_documents(self._build_ahead("createdAt", automation_id))
        return runs + len(self._list_stray(automation_id))

    def _list_stray(self, automation_id: str) -> list[str]:
        """Return the contacts in the future whose run is gone; the others follow their runs."""
        query = self._build_ahead("lastRunAt", automation_id)
        found = {one["_id"]: one.get("lastRunId") for one in self._contact_documents.find(query)}
        runs = self._runs.find({"_id": {"$in": list(found.values())}}, {"_id": 1})
        known = [one["_id"] for one in runs]
        return [contact_id for contact_id, run_id in found.items() if run_id not in known]

    def _move_back(self, automation_id: str, session: ClientSession) -> None:
        """Move runs of the future to now, those of a person in their order, a window apart.

        They happened no later than that, and people whom they stand for are not kept waiting.
        """
        query = self._build_ahead("createdAt", automation_id)
        found = self._runs.find(query, {"userId": 1}, session=session)
        ahead = list(found.sort("createdAt", -1).limit(_RUNS_PER_MOVE))
        people: dict[str, list[datetime]] = {run["userId"]: [] for run in ahead}
        query = {
            "automationId": {"$in": list_stored_forms(automation_id)},
            "userId": {"$in": list_all_forms(people)},
            "createdAt": IS_DATED | {"$lte": self._now},
        }
        for run in self._runs.find(query, {"userId": 1, "createdAt": 1}, session=session):
            people[name_person(run["userId"]) or ""].append(run["createdAt"])
        writes = []
        for run in ahead:
            at = truncate_to_milliseconds(self._now)
            for moment in sorted(people[run["userId"]], reverse=True):
                if abs(at - moment) <= conf.dedup_window:
                    at = moment - conf.dedup_window - timedelta(milliseconds=1)
            people[run["userId"]].append(at)
            key = {"_id": run["_id"], "automationId": automation_id}
            writes.append(UpdateOne(key, {"$set": {"createdAt": at}}))
        if writes:
            self._runs.bulk_write(writes, ordered=False, session=session)

    def _compare(self, counts: Counts, drift: Drift) -> Iterator[Repair]:
        name = counts.automation_id
        if drift.hours:
            stored = sum(counts.hours[hour] for hour in drift.hours)
            wanted = stored + drift.hours_difference
            yield Repair(name, f"runs in hours ({len(drift.hours)})", str(stored), str(wanted))
        total = self._find_total(drift, drift.hours_difference)
        shown = parse_count((counts.copy or {}).get("totalRuns"))
        surplus = max(shown - total, 0) if counts.copy is not None else 0
        if self._is_adopting:
            total += surplus
        if total != counts.total or drift.newest_run:
            yield Repair(name, "total", str(counts.total), str(total))
        newest = drift.newest_run or counts.last_run_at
        if self._is_adopting:
            newest = newest_of(newest, (counts.copy or {}).get("lastRunAt"))
        if not is_copy_right(counts, total=total, last_run_at=newest):
            is_foreign = self._must_adopt(counts, surplus)
            wanted_copy = "run with --adopt" if is_foreign else str(total)
            what = "copy in automations"
            yield Repair(name, what, str(shown), wanted_copy, needs_adopting=is_foreign)

    def _find_total(self, drift: Drift, hours_difference: int) -> int:
        """Return the total once the hours are right. It rises only, but where it is known."""
        if drift.expected_total is None:
            return drift.total + max(hours_difference, 0)
        expected = drift.expected_total + hours_difference
        return max(expected, drift.total) if self._is_adopting else expected

    def _must_adopt(self, counts: Counts, surplus: int) -> bool:
        """Return whether what a copy has too many may be what another product has counted.

        It may if that has stored runs since the base was taken.
        """
        if self._is_adopting or surplus <= 0:
            return False
        taken_at = (counts.base or {}).get("takenAt") or self._since
        query = {
            "automationId": {"$in": list_stored_forms(counts.automation_id)},
            "createdAt": {"$gt": taken_at},
            "eventId": {"$exists": False},
        }
        return self._runs.find_one(query, {"_id": 1}) is not None

    def _rebuild(
        self, automation_id: str, hours: list[int], drift: Drift, session: ClientSession
    ) -> None:
        """Count some hours again.

        Where old hours are gone, the total rises with these; else `_settle` sets it from all hours.
        """
        rise = self._rebuilder.rebuild_hours(automation_id, hours, session)
        if drift.expected_total is None:
            self._add_to_base(automation_id, session, runs=max(rise, 0))

    def _settle(self, automation_id: str, key: Any, session: ClientSession) -> None:
        """Bring the total up to its hours, and take in what another product's counter has more."""
        counts, drift = self._drift.read_drift(automation_id, key, self._now, session)
        total = self._find_total(drift, 0)
        newest, surplus = drift.newest_run or counts.last_run_at, 0
        if self._is_adopting and counts.copy is not None:
            # What no run accounts for belongs to the base.
            surplus = max(parse_count(counts.copy.get("totalRuns")) - total, 0)
            newest = newest_of(newest, counts.copy.get("lastRunAt"))
        rise = total - counts.total + surplus
        self._add_to_base(automation_id, session, runs=rise, base=surplus, newest=newest)

    def _add_to_base(
        self,
        automation_id: str,
        session: ClientSession,
        *,
        runs: int,
        base: int = 0,
        newest: datetime | None = None,
    ) -> None:
        increments = {"runs": Int64(runs), "base": Int64(base)}
        update: Document = {"$inc": increments, "$set": {"reconciledAt": self._now}}
        if newest is not None:
            update["$set"] |= {"lastRunAt": newest}
        query = {"_id": build_base_id(automation_id), "automationId": automation_id}
        self._stats.update_one(query, update, session=session)

    def _repair_copy(self, automation_id: str, key: Any, session: ClientSession) -> None:
        """Set a copy that is wrong; a batch that counts meanwhile writes it too, and conflicts."""
        counts, _ = self._drift.read_drift(automation_id, key, self._now, session)
        if counts.copy is None or is_copy_right(counts):
            return
        surplus = parse_count(counts.copy.get("totalRuns")) - counts.total
        if self._must_adopt(counts, surplus):
            return
        change: Document = {"lastRunAt": counts.last_run_at}
        if find_count(counts.copy.get("totalRuns")) is not None:
            change["totalRuns"] = Int64(counts.total)
        self._automations.update_one({"_id": key}, {"$set": change}, session=session)
