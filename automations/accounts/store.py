"""Reads and writes of the collection `accounts`. pymongo's errors stop here.

Everything here raises TrackingUnavailable when the database is away.
"""

from __future__ import annotations

from collections.abc import Collection
from datetime import datetime, timedelta
from typing import Any

from pymongo.collection import Collection as MongoCollection
from pymongo.errors import DuplicateKeyError

from tracking.exceptions import TrackingUnavailable
from tracking.mongo import client as mongo
from tracking.mongo.errors import bounded

Document = dict[str, Any]

_NOTE_SECONDS = 1.0  # a delivery waits for it


def find_account(account_id: str) -> Document | None:
    with bounded():
        return _accounts().find_one({"_id": account_id})


def list_accounts(
    workspace_id: str | None = None, *, account_ids: Collection[str] = ()
) -> list[Document]:
    """Return the accounts of a workspace, or all, by id.

    Also those of `account_ids`, of any workspace.
    """
    query: Document = {} if workspace_id is None else {"workspaceId": workspace_id}
    if account_ids:
        query = {"$or": [query, {"_id": {"$in": list(account_ids)}}]}
    shown = {
        "workspaceId": 1,
        "host": 1,
        "state": 1,
        "stateReason": 1,
        "stateAt": 1,
        "lastWebhookAt": 1,
        "createdAt": 1,
        "token": {"$gt": ["$token", None]},
    }
    with bounded():
        return list(_accounts().find(query, shown).sort("_id", 1))


def list_answering(account_ids: Collection[str]) -> list[str]:
    """Return those accounts that have an active automation."""
    query = {"accountId": {"$in": list(account_ids)}, "isActive": True}
    with bounded():
        return mongo.get_database()["automations"].distinct("accountId", query)


def list_other_workspaces(account_id: str, workspace_id: str) -> list[str]:
    """Return the other workspaces that have an active automation for the account."""
    query = {"accountId": account_id, "isActive": True}
    with bounded():
        found = mongo.get_database()["automations"].distinct("workspaceId", query)
    return sorted({str(one) for one in found} - {workspace_id})


def upsert_account(
    account_id: str, *, workspace_id: str, changes: Document, created_at: datetime
) -> bool:
    """Set `changes` on the account; return False if another workspace has it."""
    try:
        with bounded():
            _accounts().update_one(
                {"_id": account_id, "workspaceId": workspace_id},
                {"$set": changes, "$setOnInsert": {"createdAt": created_at}},
                upsert=True,
            )
    except TrackingUnavailable as error:
        if isinstance(error.__cause__, DuplicateKeyError):
            return False
        raise
    return True


def update_state(account_id: str, *, state: str, reason: str | None, at: datetime) -> bool:
    """Set the state; return whether it was another one."""
    with bounded():
        result = _accounts().update_one(
            {"_id": account_id, "state": {"$ne": state}},
            {"$set": {"state": state, "stateReason": reason, "stateAt": at}},
        )
    return result.modified_count == 1


def update_last_webhook(
    account_ids: Collection[str], *, at: datetime, resolution: timedelta
) -> None:
    """Set `lastWebhookAt` of those whose own is older than `resolution`."""
    with bounded(_NOTE_SECONDS):
        _accounts().update_many(
            {
                "_id": {"$in": list(account_ids)},
                "lastWebhookAt": {"$not": {"$gt": at - resolution}},
            },
            {"$set": {"lastWebhookAt": at}},
        )


def list_tokens() -> list[tuple[str, str]]:
    """Return (account id, encrypted token) of every account with a token."""
    with bounded():
        found = _accounts().find({"token": {"$type": "string"}}, {"token": 1}).sort("_id", 1)
        return [(document["_id"], document["token"]) for document in found]


def replace_token(account_id: str, *, old: str, new: str) -> bool:
    """Store the same token encrypted again, unless it was replaced."""
    with bounded():
        result = _accounts().update_one({"_id": account_id, "token": old}, {"$set": {"token": new}})
    return result.modified_count == 1


def delete_account(account_id: str) -> None:
    """Remove an account and its token, if it is there."""
    with bounded():
        _accounts().delete_one({"_id": account_id})


def _accounts() -> MongoCollection[Document]:
    return mongo.get_database()["accounts"]
