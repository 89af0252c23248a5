"""The contacts of earlier runs: those that another product stored."""

from typing import Any

from pymongo import UpdateOne
from pymongo.database import Database

from tracking.ids import build_contact_id

Document = dict[str, Any]

_CONTACTS_PER_WRITE = 1000
# Our own runs name their event; those of an older product do not.
_EARLIER = {"eventId": {"$exists": False}}


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
