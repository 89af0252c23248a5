"""Contacts beside the runs of their pairs: compared at a snapshot, repaired, and imported."""

from collections.abc import Collection, Iterator, Sequence
from datetime import datetime
from typing import Any

from pymongo import UpdateOne
from pymongo.client_session import ClientSession
from pymongo.database import Database

from tracking.ids import build_contact_id
from tracking.maintenance.drift import PairRuns, build_contact_change
from tracking.mongo.transactions import read_at_snapshot

Document = dict[str, Any]

_BATCH = 500

_CONTACTS_PER_WRITE = 1000
# Our own runs name their event; those of an older product do not.
_EARLIER = {"eventId": {"$exists": False}}


class ContactStore:
    """Reads and writes of `automation_contacts` for comparisons with the runs."""

    def __init__(self, database: Database[Document]) -> None:
        self._client = database.client
        self._contacts = database["automation_contacts"]
        self._runs = database["automation_runs"]

    def list_people(self, automation_id: str, *, newest: int | None) -> Iterator[list[str]]:
        """Yield batches of the people of an automation's runs: of the newest ones, or of all."""
        match = {"automationId": automation_id, "createdAt": {"$type": "date"}}
        if newest is not None:
            found = self._runs.find(match, {"userId": 1}).sort("createdAt", -1).limit(newest)
            people = {run["userId"] for run in found if isinstance(run["userId"], str)}
            yield from _chunk(sorted(people))
            return
        batch: list[str] = []
        for row in self._runs.aggregate([
            {"$match": {"automationId": automation_id, "userId": {"$type": "string"}}},
            {"$group": {"_id": "$userId"}},
        ], allowDiskUse=True):  # fmt: skip
            batch.append(row["_id"])
            if len(batch) >= _BATCH:
                yield batch
                batch = []
        if batch:
            yield batch

    def measure(
        self, automation_id: str, people: Collection[str], *, oldest: datetime
    ) -> dict[str, Document]:
        """Return what `find_changes` does, at a snapshot of its own."""
        return read_at_snapshot(
            self._client,
            lambda session: self.find_changes(
                automation_id, people, oldest=oldest, session=session
            ),
            seconds=60.0,
        )

    def find_changes(
        self,
        automation_id: str,
        people: Collection[str],
        *,
        oldest: datetime,
        session: ClientSession,
    ) -> dict[str, Document]:
        """Return what should be changed, by contact id; all reads see the session's snapshot."""
        pairs = self._list_pairs(automation_id, people, session)
        ids = [build_contact_id(automation_id, pair.user_id) for pair in pairs]
        cursor = self._contacts.find({"_id": {"$in": ids}}, session=session, batch_size=1000)
        contacts = {contact["_id"]: contact for contact in cursor}
        changes = {}
        for contact_id, pair in zip(ids, pairs, strict=True):
            change = build_contact_change(pair, contacts.get(contact_id), oldest=oldest)
            if change:
                owner = {"automationId": automation_id, "userId": pair.user_id}
                changes[contact_id] = change | owner | {"workspaceId": pair.workspace_id}
        return changes

    def update_contacts(self, changes: dict[str, Document], session: ClientSession) -> None:
        """Write changes; a batch that counts one of these pairs meanwhile conflicts."""
        writes = []
        for contact_id, change in changes.items():
            owner = {name: change[name] for name in ("automationId", "userId", "workspaceId")}
            fields = {name: value for name, value in change.items() if name not in owner}
            new = {name: owner[name] for name in ("userId", "workspaceId")}
            update = {"$set": fields, "$setOnInsert": new}
            query = {"_id": contact_id, "automationId": owner["automationId"]}
            writes.append(UpdateOne(query, update, upsert=True))
        if writes:
            self._contacts.bulk_write(writes, ordered=False, session=session)

    def _list_pairs(
        self, automation_id: str, people: Collection[str], session: ClientSession
    ) -> list[PairRuns]:
        earlier = {"$cond": [{"$eq": [{"$type": "$eventId"}, "missing"]}, 1, 0]}
        rows = self._runs.aggregate([
            {"$match": {"automationId": automation_id, "userId": {"$in": list(people)},
                        "createdAt": {"$type": "date"}}},
            {"$group": {
                "_id": "$userId",
                "workspaceId": {"$first": "$workspaceId"},
                "first": {"$min": "$createdAt"},
                "newest": {"$max": {"at": "$createdAt", "id": "$_id"}},
                "runs": {"$sum": 1},
                "earlier": {"$sum": earlier},
            }},
        ], session=session, batchSize=1000)  # fmt: skip
        return [
            PairRuns(
                user_id=row["_id"], workspace_id=row["workspaceId"], first_at=row["first"],
                newest_at=row["newest"]["at"], newest_id=row["newest"]["id"],
                runs=row["runs"], earlier=row["earlier"],
            )
            for row in rows
        ]  # fmt: skip


def _chunk(people: Sequence[str]) -> Iterator[list[str]]:
    for start in range(0, len(people), _BATCH):
        yield list(people[start : start + _BATCH])


def merge_contacts(database: Database[Document], automation_id: str) -> int:
    """Give every pair of an automation's earlier runs its contact; return how many there are.

    A contact's `runs` are ours, added one by one, plus `earlier`, set here as a whole: repeating
    changes nothing.
    """
    rows = database["automation_runs"].aggregate(
        build_contacts_pipeline(automation_id), allowDiskUse=True
    )
    contacts = database["automation_contacts"]
    writes: list[UpdateOne] = []
    written = 0
    for row in rows:
        writes.append(_build_contact_write(automation_id, row))
        if len(writes) >= _CONTACTS_PER_WRITE:
            written += len(writes)
            contacts.bulk_write(writes, ordered=False)
            writes = []
    if writes:
        written += len(writes)
        contacts.bulk_write(writes, ordered=False)
    return written


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
        "userId": {"$literal": row["_id"]},
        "workspaceId": {"$ifNull": ["$workspaceId", {"$literal": row["workspaceId"]}]},
        "firstRunAt": {"$min": ["$firstRunAt", row["first"]]},
        "lastRunId": {"$cond": [is_newer, {"$literal": newest["id"]}, "$lastRunId"]},
        "lastRunAt": {"$max": ["$lastRunAt", newest["at"]]},
        "runs": {"$add": [own, earlier]},
        "earlier": earlier,
    }
    contact_id = build_contact_id(automation_id, row["_id"])
    query = {"_id": contact_id, "automationId": automation_id}
    return UpdateOne(query, [{"$set": change}], upsert=True)
