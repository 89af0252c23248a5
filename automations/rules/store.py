"""Reads and writes of the collection `automations`. pymongo's errors stop here."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from bson import CodecOptions, ObjectId, decode
from bson.codec_options import DatetimeConversion
from bson.raw_bson import RawBSONDocument
from pymongo import ReturnDocument
from pymongo.collection import Collection as MongoCollection
from pymongo.database import Database

from automations.rules.automation import parse_automation
from automations.rules.matching import AccountRules, LoadedRules
from tracking.ids import list_stored_forms
from tracking.mongo import client as mongo
from tracking.mongo.errors import bounded

Document = dict[str, Any]
_BATCH = 1000
_OLDEST = datetime.min.replace(tzinfo=UTC)
# Documents of an older product hold what its drivers let in: text that is not UTF-8, dates past
# the year 9999. Both would stop the whole list.
_LENIENT: CodecOptions[Document] = CodecOptions(
    tz_aware=True,
    unicode_decode_error_handler="replace",
    datetime_conversion=DatetimeConversion.DATETIME_AUTO,
)
# Bytes as they are stored: to see a change, nothing has to be decoded.
_RAW: CodecOptions[Any] = CodecOptions(document_class=RawBSONDocument)

# Counters change with every run and are of no use to a rule.
_UNUSED = {"totalRuns": 0, "lastRunAt": 0, "updatedAt": 0}
_AWARE: CodecOptions[Mapping[str, Any]] = CodecOptions(tz_aware=True)


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
    return sorted({str(one) for one in found if isinstance(one, str | int)})


def read_version(workspace_id: str) -> str:
    """Return a digest that changes with every run and shown field.

    Every commit of runs is copied into `automations` before it is acknowledged, so that a few
    fields of these documents are enough. Raises TrackingUnavailable.
    """
    fields = dict.fromkeys(("name", "type", "isActive", "totalRuns", "lastRunAt", "updatedAt"), 1)
    automations: MongoCollection[Any] = mongo.get_read_database().get_collection(
        "automations", codec_options=_RAW
    )
    with bounded():
        found = automations.find(_in_workspace(workspace_id), fields, batch_size=_BATCH)
        parts = sorted(bytes(document.raw) for document in found)
    return hashlib.blake2b(b"".join(parts), digest_size=8).hexdigest()


def list_automation_ids(workspace_id: str) -> list[str]:
    """Return the ids of all automations, deleted ones too.

    Raises TrackingUnavailable.
    """
    query = {"workspaceId": {"$in": list_stored_forms(workspace_id)}}
    with bounded():
        found = _automations().find(query, {"_id": 1}, batch_size=_BATCH)
        return [str(document["_id"]) for document in found]


def find_automation(
    workspace_id: str, automation_id: str, *, is_deleted_too: bool = False
) -> Document | None:
    """Return one automation of the workspace, or None. Raises TrackingUnavailable."""
    query = _one_of(workspace_id, automation_id)
    if is_deleted_too:
        del query["deletedAt"]
    with bounded():
        return _automations().find_one(query)


def insert_automation(document: Document) -> None:
    """Store a new automation. Raises TrackingUnavailable."""
    with bounded():
        _automations().insert_one(document)


def update_automation(
    workspace_id: str,
    automation_id: str,
    *,
    changes: Mapping[str, Any],
    removed: Collection[str] = (),
) -> Document | None:
    """Set `changes`, drop `removed`; return the new document or None.

    The field names are the caller's own, never a request's. Raises TrackingUnavailable.
    """
    update: Document = {"$set": dict(changes)}
    if removed:
        update["$unset"] = dict.fromkeys(removed, "")
    with bounded():
        return _automations().find_one_and_update(
            _one_of(workspace_id, automation_id), update, return_document=ReturnDocument.AFTER
        )


def delete_automation(workspace_id: str, automation_id: str, *, at: datetime) -> bool:
    """Mark an automation as deleted; its document and runs stay.

    Returns whether there was one. Raises TrackingUnavailable.
    """
    changes = {"deletedAt": at, "isActive": False, "updatedAt": at}
    return update_automation(workspace_id, automation_id, changes=changes) is not None


def _automations() -> MongoCollection[Document]:
    return mongo.get_read_database().get_collection("automations", codec_options=_LENIENT)


def _in_workspace(workspace_id: str) -> Document:
    # null matches a missing field too.
    return {"workspaceId": {"$in": list_stored_forms(workspace_id)}, "deletedAt": None}


def _one_of(workspace_id: str, automation_id: str) -> Document:
    return {"_id": {"$in": list_stored_forms(automation_id)}, **_in_workspace(workspace_id)}


def _read_age(document: Mapping[str, Any]) -> tuple[datetime, str]:
    """Return what sorts automations by age."""
    created_at, key = document.get("createdAt"), document["_id"]
    if not isinstance(created_at, datetime):
        created_at = key.generation_time if isinstance(key, ObjectId) else _OLDEST
    return created_at, str(key)


def load_rules(
    database: Database[dict[str, Any]],
    account_ids: Sequence[str],
    known: Mapping[str, LoadedRules],
    *,
    seconds: float,
) -> dict[str, LoadedRules]:
    """Return the rules of every account asked for, none included.

    Where a workspace has the account (`add_account`), automations of others that name it are left
    out: they would get its people's messages, and send with its token. Documents that are to the
    byte what `known` was made from are not parsed again. Raises TrackingUnavailable when the read
    took longer than `seconds`.
    """
    found: dict[str, list[bytes]] = {account_id: [] for account_id in account_ids}
    collection = database["automations"].with_options(codec_options=_RAW)
    query = {"accountId": {"$in": list(account_ids)}, "isActive": True}
    with bounded(seconds):
        owners = _find_owners(database, account_ids)
        for document in collection.find(query, _UNUSED):
            account_id, workspace_id = document["accountId"], str(document.get("workspaceId"))
            if owners.get(account_id, workspace_id) == workspace_id:
                found[account_id].append(bytes(document.raw))
    loaded = {}
    for account_id, parts in found.items():
        source = tuple(sorted(parts))
        before = known.get(account_id)
        loaded[account_id] = (
            before if before is not None and before.source == source else _parse(source)
        )
    return loaded


def _find_owners(database: Database[dict[str, Any]], account_ids: Sequence[str]) -> dict[str, str]:
    accounts = database["accounts"].find({"_id": {"$in": list(account_ids)}}, {"workspaceId": 1})
    return {one["_id"]: str(one["workspaceId"]) for one in accounts if "workspaceId" in one}


def _parse(source: tuple[bytes, ...]) -> LoadedRules:
    parsed = [parse_automation(decode(one, codec_options=_AWARE)) for one in source]
    return LoadedRules(AccountRules([one for one in parsed if one is not None]), source)


def find_automations(automation_ids: Collection[str], *, seconds: float) -> dict[str, Document]:
    """Return the automations by the text of their id."""
    if not automation_ids:
        return {}
    query = {"_id": {"$in": [key for text in automation_ids for key in list_stored_forms(text)]}}
    with bounded(seconds):
        found = mongo.get_database()["automations"].find(query)
        return {str(document["_id"]): document for document in found}


def parse_key(text: str | None) -> Any:
    """Return an id as it is stored, an ObjectId if possible."""
    return ObjectId(text) if text is not None and ObjectId.is_valid(text) else text
