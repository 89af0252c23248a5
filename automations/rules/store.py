"""Reads and writes of the collection `automations`. pymongo's errors stop here."""

import hashlib
from collections.abc import Collection, Mapping
from datetime import UTC, datetime
from typing import Any

import bson
from bson import ObjectId
from bson.raw_bson import RawBSONDocument
from pymongo import ReturnDocument
from pymongo.collection import Collection as MongoCollection
from pymongo.database import Database

from automations.conf import conf
from automations.rules.automation import find_fault, read_scalar, read_workspace_id
from tracking.ids import list_all_forms, list_stored_forms, name_id
from tracking.mongo import client as mongo
from tracking.mongo.errors import bounded

Document = dict[str, Any]
_BATCH = 1000
_LIST_SECONDS = 60.0
_OLDEST = datetime.min.replace(tzinfo=UTC)
# null matches a missing field too.
IS_THERE: Document = {"deletedAt": None}
CAN_MATCH: Document = {"isActive": True, **IS_THERE}


class OverBound(ValueError):
    """A workspace or account has its most already; `field` is None for the whole automation."""

    def __init__(self, field: str | None, said: str) -> None:
        super().__init__(said)
        self.field = field


def list_faults() -> list[str]:
    """Return the active automations that can never match, each with the reason."""
    with bounded(_LIST_SECONDS):
        automations = mongo.get_database()["automations"]
        found = list(automations.find({"isActive": True}, batch_size=_BATCH))
        owners = find_owners({read_scalar(one.get("accountId")) for one in found})
    faults = []
    for document in found:
        owner = owners.get(read_scalar(document.get("accountId")))
        is_free = owner is None or owner == read_workspace_id(document)
        taken = "" if is_free else f"its account belongs to workspace {owner}"
        if fault := find_fault(document) or taken:
            faults.append(f"{name_id(document['_id'])} ({fault})")
    return faults


def find_owners(account_ids: Collection[str]) -> dict[str, str]:
    """Return the workspace that has each account, of those that any has.

    It is the one that added the account, else the one whose automation named it first. Automations
    of others would get its people's messages, and send with its token. Raises TrackingUnavailable.
    """
    database = mongo.get_database()
    with bounded():
        wanted = {"_id": {"$in": list(account_ids)}}
        accounts = database["accounts"].find(wanted, {"workspaceId": 1})
        owners = {one["_id"]: read_workspace_id(one) for one in accounts}
        forms = list_all_forms(one for one in account_ids if not owners.get(one))
        named = database["automations"].find(
            {"accountId": {"$in": forms}, **IS_THERE},
            {"accountId": 1, "workspaceId": 1, "createdAt": 1}, batch_size=_BATCH,
        )  # fmt: skip
        for document in sorted(named, key=_read_age):
            account_id = read_scalar(document["accountId"])
            owners[account_id] = owners.get(account_id) or read_workspace_id(document)
    return {account_id: owner for account_id, owner in owners.items() if owner}


def list_automations(workspace_id: str) -> list[Document]:
    """Return the workspace's automations, newest first. Raises TrackingUnavailable."""
    with bounded():
        found = list(_automations().find(_in_workspace(workspace_id), batch_size=_BATCH))
    found.sort(key=_read_age, reverse=True)
    return found


def list_account_ids(workspace_id: str) -> list[str]:
    """Return the accounts that the workspace's automations are for. Raises TrackingUnavailable."""
    with bounded():
        found = _automations().distinct("accountId", _in_workspace(workspace_id))
    return sorted({read_scalar(one) for one in found} - {""})


def read_version(workspace_id: str) -> str:
    """Return a digest that changes with every run and shown field.

    Every commit of runs is copied into `automations` before it is acknowledged, so that a few
    fields of these documents are enough. Raises TrackingUnavailable.
    """
    fields = dict.fromkeys(("name", "type", "isActive", "totalRuns", "lastRunAt", "updatedAt"), 1)
    with bounded():
        found = get_raw_automations(mongo.get_read_database()).find(
            _in_workspace(workspace_id), fields, batch_size=_BATCH
        )
        parts = sorted(bytes(document.raw) for document in found)
    return hashlib.blake2b(b"".join(parts), digest_size=8).hexdigest()


def list_automation_ids(workspace_id: str) -> list[str]:
    """Return the ids of all automations, deleted ones too. Raises TrackingUnavailable."""
    query = {"workspaceId": {"$in": list_stored_forms(workspace_id)}}
    with bounded():
        found = _automations().find(query, {"_id": 1}, batch_size=_BATCH)
        return [name_id(document["_id"]) for document in found]


def find_automation(
    workspace_id: str, automation_id: str, *, is_deleted_too: bool = False
) -> Document | None:
    """Return one automation of the workspace, or None. Raises TrackingUnavailable."""
    query = _one_of(workspace_id, automation_id)
    if is_deleted_too:
        query = {name: value for name, value in query.items() if name not in IS_THERE}
    with bounded():
        return _automations().find_one(query)


def insert_automation(document: Document) -> None:
    """Store a new automation. Raises OverBound and TrackingUnavailable."""
    in_workspace = _in_workspace(document["workspaceId"])
    with bounded():
        _verify_bounds(document)
        most = conf.automation_bounds[0]
        if _automations().count_documents(in_workspace, limit=most) == most:
            raise OverBound(None, f"A workspace has no more than {most} automations.")
        _automations().insert_one(document)


def update_automation(
    workspace_id: str,
    automation_id: str,
    *,
    changes: Mapping[str, Any],
    removed: Collection[str] = (),
) -> Document | None:
    """Set `changes`, drop `removed`; return the new document or None.

    The field names are the caller's own, never a request's. Raises OverBound and
    TrackingUnavailable.
    """
    update: Document = {"$set": dict(changes)}
    if removed:
        update["$unset"] = dict.fromkeys(removed, "")
    with bounded():
        _verify_bounds(changes, besides=list_stored_forms(automation_id))
        return _automations().find_one_and_update(
            _one_of(workspace_id, automation_id), update, return_document=ReturnDocument.AFTER
        )


def _verify_bounds(document: Mapping[str, Any], *, besides: Collection[Any] = ()) -> None:
    """Raise OverBound for a document that is too large, or one too many of its account."""
    _, most, most_bytes = conf.automation_bounds
    size = len(bson.encode(document))
    if size > most_bytes:
        raise OverBound(
            None, f"An automation has no more than {most_bytes:,} bytes (this one has {size:,})."
        )
    if "accountId" in document:
        accounts = list_stored_forms(document["accountId"])
        others = {"accountId": {"$in": accounts}, "_id": {"$nin": list(besides)}, **IS_THERE}
        if _automations().count_documents(others, limit=most) == most:
            raise OverBound("accountId", f"An account has no more than {most} automations.")


def delete_automation(workspace_id: str, automation_id: str, *, at: datetime) -> bool:
    """Mark an automation as deleted; its document and runs stay."""
    changes = {"deletedAt": at, "isActive": False, "updatedAt": at}
    return update_automation(workspace_id, automation_id, changes=changes) is not None


def _automations() -> MongoCollection[Document]:
    return mongo.get_read_database()["automations"]


def get_raw_automations(database: Database[Document]) -> MongoCollection[Any]:
    """Return `automations` as bytes: to see a change, nothing has to be decoded."""
    raw: Any = database.codec_options.with_options(document_class=RawBSONDocument)
    return database.get_collection("automations", codec_options=raw)


def _in_workspace(workspace_id: str) -> Document:
    return {"workspaceId": {"$in": list_stored_forms(workspace_id)}, **IS_THERE}


def _one_of(workspace_id: str, automation_id: str) -> Document:
    return {"_id": {"$in": list_stored_forms(automation_id)}, **_in_workspace(workspace_id)}


def _read_age(document: Mapping[str, Any]) -> tuple[datetime, str]:
    created_at, key = document.get("createdAt"), document["_id"]
    if not isinstance(created_at, datetime):
        created_at = key.generation_time if isinstance(key, ObjectId) else _OLDEST
    return created_at, str(key)


def find_automations(automation_ids: Collection[str], *, seconds: float) -> dict[str, Document]:
    if not automation_ids:
        return {}
    query = {"_id": {"$in": list_all_forms(automation_ids)}}
    with bounded(seconds):
        found = mongo.get_database()["automations"].find(query)
        return {name_id(document["_id"]): document for document in found}


def parse_key(text: str | None) -> Any:
    """Return an id as it is stored, an ObjectId if possible."""
    return ObjectId(text) if text is not None and ObjectId.is_valid(text) else text
