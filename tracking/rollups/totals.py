"""Totals: the base an automation had before us, and the copy kept in `automations`.

The base document is created once per automation, before it is first counted: its `runs` are
max(stored `totalRuns`, number of existing runs), its `base` is that minus the existing runs.
Counting adds to `runs`, which is the automation's total from then on.
"""

from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from contextlib import suppress
from datetime import datetime
from functools import partial
from typing import Any

import msgspec
from bson import Int64
from pymongo.client_session import ClientSession
from pymongo.collection import Collection as MongoCollection
from pymongo.database import Database
from pymongo.errors import DuplicateKeyError

from tracking.ids import list_all_forms, list_names, name_id
from tracking.mongo.transactions import (
    read_at_snapshot,
    run_find,
    run_in_transaction,
    run_update,
    transact,
)
from tracking.rollups.hours import (
    EARLIEST,
    HAS_DATE,
    HOURS_PER_DAY,
    LATEST,
    RECENT_DAYS,
    build_base_id,
    build_hours_pipeline,
    find_count,
    hour_of,
    newest_of,
    parse_count,
)

Document = dict[str, Any]


class Total(msgspec.Struct, frozen=True):
    """An automation's total and its newest run."""

    runs: int
    last_run_at: datetime | None


class TotalStore:
    """Bases and totals of automations."""

    def __init__(self, database: Database[Document]) -> None:
        self._database = database
        self._automations = database["automations"]
        self._runs: MongoCollection[Document] = database["automation_runs"]
        self._stats = database["automation_run_stats"]

    def find_existing(self, automation_ids: Iterable[str]) -> dict[str, Any]:
        """Return the stored `_id`s by text form; the runs of other ids are orphaned.

        Engines often hold an ObjectId as its text, and a text `_id` may look like one.
        """
        query = {"_id": {"$in": list_all_forms(automation_ids)}}
        return {
            name_id(one["_id"]): one["_id"] for one in self._automations.find(query, {"_id": 1})
        }

    def find_bases(
        self, automation_ids: Collection[str], session: ClientSession | None = None
    ) -> dict[str, Document]:
        """Return the base documents among `automation_ids`, by automation id."""
        ids = [build_base_id(automation_id) for automation_id in automation_ids]
        query = {"_id": {"$in": ids}, "base": {"$exists": True}}
        cursor = self._stats.find(query, session=session, batch_size=len(ids) + 1)
        return {document["automationId"]: document for document in cursor}

    def ensure_bases(
        self,
        keys: Mapping[str, Any],
        *,
        now: datetime,
        seconds: float = 2.0,
        session: ClientSession | None = None,
    ) -> dict[str, Document]:
        """Create the base documents that are missing and return all of them.

        `keys` maps automation ids to the automations' own typed `_id`s. A counter writes them in
        its own `session`, once.
        """
        bases = self.find_bases(keys)
        missing = {key: value for key, value in keys.items() if key not in bases}
        if missing:
            # Counting millions of runs takes longer than a transaction may. It need not be in one:
            # nothing of an automation is counted before it has a base.
            client = self._database.client
            documents = read_at_snapshot(
                client, lambda session: self.build_bases(missing, now, session), seconds=seconds
            )
            insert = partial(self._insert_bases, documents)
            # Another process may be first: its base is as good.
            with suppress(DuplicateKeyError):
                if session is None:
                    run_in_transaction(client, insert, seconds=seconds)
                else:
                    transact(session, insert)
            bases = self.find_bases(keys)
        return bases

    def build_bases(
        self, keys: Mapping[str, Any], now: datetime, session: ClientSession | None = None
    ) -> list[Document]:
        """Return the base documents that automations without one would get now."""
        found = {
            name_id(document["_id"]): document
            for document in self._automations.find(
                {"_id": {"$in": list(keys.values())}},
                {"totalRuns": 1, "lastRunAt": 1}, session=session, batch_size=len(keys) + 1,
            )
        }  # fmt: skip
        existing = self.count_runs(keys, session)
        documents = []
        for automation_id, key in keys.items():
            automation = found.get(automation_id, {})
            runs, newest_run = existing.get(automation_id, (0, None))
            stored = parse_count(automation.get("totalRuns"))
            # One that holds no count has lost none.
            gone = self._count_gone(automation_id, session) if stored or runs else 0
            taken = max(stored, runs + gone)
            until = newest_of(now, newest_run)
            documents.append({
                "_id": build_base_id(automation_id),
                "automationId": automation_id,
                "automationKey": key,
                "runs": Int64(taken),
                "base": Int64(taken - runs - gone),
                "lastRunAt": newest_of(automation.get("lastRunAt"), newest_run),
                "takenAt": now,
                # Rollups are complete from after here on; None: from the very first run.
                "rollupsSince": until if runs or gone else None,
                # Pairs of earlier runs have no contacts; None: there are no earlier runs.
                "claimsUntil": (newest_run or until) if runs else None,
            })  # fmt: skip
        return documents

    def _count_gone(self, automation_id: str, session: ClientSession | None) -> int:
        """Return how many runs hours hold and no document any more, where a base was lost."""
        hours: Counter[int] = Counter()
        query = {
            "_id": {"$gte": build_base_id(automation_id), "$lt": f"{automation_id}:i"},
            "automationId": automation_id,
        }
        for one in self._stats.find(query, {"hour": 1, "n": 1, "h": 1}, session=session):
            if "hour" in one:
                hours[hour_of(one["hour"])] += one.get("n", 0)
            for hour, parts in one.get("h", {}).items():
                hours[int(hour)] += parts.get("n", 0)
        if not hours:
            return 0
        times = {"$gte": EARLIEST, "$lt": LATEST}
        pipeline = build_hours_pipeline(automation_id, times)
        for row in self._runs.aggregate(pipeline, session=session):
            hours[int(row["_id"])] -= row["runs"]
        return sum((+hours).values())

    def _insert_bases(self, documents: Sequence[Document], session: ClientSession) -> None:
        present = self.find_bases([one["automationId"] for one in documents], session)
        missing = [one for one in documents if one["automationId"] not in present]
        if not missing:
            return
        bases = {one["automationId"]: one for one in missing}
        keys = [one["automationKey"] for one in missing]
        automations = self._automations.find(
            {"_id": {"$in": keys}}, {"totalRuns": 1}, session=session
        )
        updates = []
        for automation in automations:
            base = bases[name_id(automation["_id"])]
            newest = {} if base["lastRunAt"] is None else {"lastRunAt": base["lastRunAt"]}
            total = {"totalRuns": base["runs"]}
            stored = automation.get("totalRuns")
            if find_count(stored) is None:
                change = {"$max": newest}
            elif stored is None or isinstance(stored, int | float):
                change = {"$max": total | newest}
            else:  # text or a decimal
                change = {"$set": total, "$max": newest}
            updates.append({"q": {"_id": automation["_id"]}, "u": change})
        # A document that has lost its base keeps its hours.
        bases_written = [{
            "q": {"_id": one.pop("_id"), "automationId": one.pop("automationId"),
                  "base": {"$exists": False}},
            "u": {"$max": {"runs": one.pop("runs"), "lastRunAt": one.pop("lastRunAt")},
                  "$set": one, "$setOnInsert": {"days": {}, "hours": {}, "h": {}}},
            "upsert": True,
        } for one in missing]  # fmt: skip
        run_update(self._database, "automation_run_stats", bases_written, session)
        if updates:
            run_update(self._database, "automations", updates, session)

    def count_runs(
        self, automation_ids: Iterable[str], session: ClientSession | None = None
    ) -> dict[str, tuple[int, datetime | None]]:
        """Return (number of run documents, the newest one's time) by automation id."""
        newest: Document = {"$max": {"$cond": [HAS_DATE, "$createdAt", None]}}
        rows = self._runs.aggregate(
            [
                {"$match": {"automationId": {"$in": list_all_forms(automation_ids)}}},
                {"$group": {"_id": "$automationId", "runs": {"$sum": 1}, "newest": newest}},
            ],
            session=session,
        )  # fmt: skip
        found: dict[str, tuple[int, datetime | None]] = {}
        for row in rows:
            for name in list_names(row["_id"]):
                runs, last = found.get(name, (0, None))
                found[name] = runs + row["runs"], newest_of(last, row["newest"])
        return found

    def list_totals(
        self, automation_ids: Iterable[str], session: ClientSession | None = None
    ) -> dict[str, Total]:
        """Return each automation's total, of those that have a base."""
        ids = [build_base_id(automation_id) for automation_id in automation_ids]
        found = run_find(
            self._database, "automation_run_stats",
            {"_id": {"$in": ids}, "base": {"$exists": True}},
            ("automationId", "runs", "lastRunAt"), most=len(ids), session=session,
        )  # fmt: skip
        return {
            one["automationId"]: Total(
                parse_count(one.get("runs")), newest_of(one.get("lastRunAt"))
            )
            for one in found
        }


def is_recent_day(day: int, now: datetime) -> bool:
    """Return whether a day is young enough to be kept in a base document."""
    return day > hour_of(now) // HOURS_PER_DAY - RECENT_DAYS
