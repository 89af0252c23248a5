"""Contacts beside the runs of their pairs: compared at a snapshot, repaired, and imported."""

from collections.abc import Iterator
from datetime import datetime
from functools import partial
from typing import Any

from pymongo import UpdateOne
from pymongo.client_session import ClientSession
from pymongo.database import Database

from tracking.ids import (
    PERSON,
    build_contact_id,
    list_all_forms,
    list_stored_forms,
    name_person,
)
from tracking.maintenance.drift import build_contact_change
from tracking.mongo.transactions import batched, read_at_snapshot
from tracking.rollups.hours import IS_DATED

Document = dict[str, Any]

_BATCH = 500
_CONTACTS_PER_WRITE = 1000


class ContactStore:
    def __init__(self, database: Database[Document]) -> None:
        self._client = database.client
        self._contacts = database["automation_contacts"]
        self._runs = database["automation_runs"]

    def compare(
        self, automation_id: str, *, oldest: datetime, newest: int | None = None
    ) -> Iterator[tuple[list[str], list[UpdateOne]]]:
        """Yield people and a change for each contact that differs, a batch at a snapshot.

        They are those of all runs, or of the `newest` ones; runs before `oldest` may be gone.
        """
        for people in self._list_people(automation_id, newest):
            find = partial(self._find_changes, automation_id, people, oldest)
            yield people, read_at_snapshot(self._client, find, seconds=60.0)

    def repair(
        self, automation_id: str, people: list[str], oldest: datetime, session: ClientSession
    ) -> None:
        """Correct the contacts that differ. It conflicts with a batch that counts their pairs."""
        if changes := self._find_changes(automation_id, people, oldest, session):
            self._contacts.bulk_write(changes, ordered=False, session=session)

    def _list_people(self, automation_id: str, newest: int | None) -> Iterator[list[str]]:
        if newest is not None:
            match = _build_match(automation_id)
            found = self._runs.find(match, {"userId": 1}).sort("createdAt", -1).limit(newest)
            people = {name_person(run.get("userId")) for run in found}
            return batched(sorted(one for one in people if one is not None), _BATCH)
        match = {"automationId": {"$in": list_stored_forms(automation_id)}}
        pipeline: list[Document] = [{"$match": match}, {"$group": {"_id": PERSON}}]
        rows = self._runs.aggregate(pipeline, allowDiskUse=True)
        return batched((row["_id"] for row in rows if row["_id"] is not None), _BATCH)

    def _find_changes(
        self, automation_id: str, people: list[str], oldest: datetime, session: ClientSession
    ) -> list[UpdateOne]:
        match = _build_match(automation_id) | {"userId": {"$in": list_all_forms(people)}}
        rows = self._runs.aggregate(_build_pipeline(match), session=session, batchSize=1000)
        pairs = {build_contact_id(automation_id, row["_id"]): row for row in rows}
        cursor = self._contacts.find(
            {"_id": {"$in": list(pairs)}}, session=session, batch_size=1000
        )
        contacts = {contact["_id"]: contact for contact in cursor}
        changes = []
        for contact_id, pair in pairs.items():
            change = build_contact_change(pair, contacts.get(contact_id), oldest=oldest)
            if change:
                owner = {"userId": pair["_id"], "workspaceId": pair["workspaceId"]}
                update = {"$set": change, "$setOnInsert": owner}
                query = {"_id": contact_id, "automationId": automation_id}
                changes.append(UpdateOne(query, update, upsert=True))
        return changes


def merge_contacts(database: Database[Document], automation_id: str) -> int:
    """Give every pair of an automation's earlier runs its contact; return how many there are.

    A contact's `runs` are ours, added one by one, plus `earlier`, set here as a whole: repeating
    changes nothing.
    """
    # Our own runs name their event; those of an older product do not.
    pipeline = _build_pipeline(_build_match(automation_id) | {"eventId": {"$exists": False}})
    rows = database["automation_runs"].aggregate(pipeline, allowDiskUse=True)
    written = 0
    for batch in batched(rows, _CONTACTS_PER_WRITE):
        writes = [_build_contact_write(automation_id, row) for row in batch]
        database["automation_contacts"].bulk_write(writes, ordered=False)
        written += len(writes)
    return written


def _build_match(automation_id: str) -> Document:
    return {"automationId": {"$in": list_stored_forms(automation_id)}, "createdAt": IS_DATED}


def _build_pipeline(match: Document) -> list[Document]:
    """Return the pipeline that groups runs by person; `earlier` are an older product's."""
    is_earlier = {"$eq": [{"$type": "$eventId"}, "missing"]}
    group = {
        "_id": PERSON,
        "workspaceId": {"$first": "$workspaceId"},
        "first": {"$min": "$createdAt"},
        "newest": {"$max": {"at": "$createdAt", "id": "$_id"}},
        "runs": {"$sum": 1},
        "earlier": {"$sum": {"$cond": [is_earlier, 1, 0]}},
    }
    return [{"$match": match}, {"$group": group}, {"$match": {"_id": {"$ne": None}}}]


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
