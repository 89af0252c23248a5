"""Reads and writes of the collection `api_tokens`. The unique index on `hash` is its lookup."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

from bson import ObjectId
from pymongo.collection import Collection

from tracking.mongo import client as mongo
from tracking.mongo.errors import reach_mongo

Document = dict[str, Any]


def insert_token(document: Document) -> None:
    """Store a new token. Raises TrackingUnavailable, as everything here does."""
    with reach_mongo():
        _tokens().insert_one(document)


def find_by_hash(token_hash: str) -> Document | None:
    """Return the token with this hash, or None."""
    with reach_mongo():
        return _tokens().find_one({"hash": token_hash})


def find_by_id(token_id: str) -> Document | None:
    """Return the token with this id, or None."""
    if not ObjectId.is_valid(token_id):
        return None
    with reach_mongo():
        return _tokens().find_one({"_id": ObjectId(token_id)})


def list_tokens(workspace_id: str | None = None) -> list[Document]:
    """Return the tokens of a workspace, or all, oldest first."""
    query = {} if workspace_id is None else {"workspaceId": workspace_id}
    with reach_mongo():
        return list(_tokens().find(query).sort("_id", 1))


def update_revoked(key: Any, *, at: datetime) -> bool:
    """Set `revokedAt` where it is not set; return whether it was changed."""
    with reach_mongo():
        result = _tokens().update_one({"_id": key, "revokedAt": None}, {"$set": {"revokedAt": at}})
    return result.modified_count == 1


def update_last_used(key: Any, *, at: datetime, resolution: timedelta) -> None:
    """Set `lastUsedAt` unless it is younger than `resolution`."""
    with reach_mongo():
        _tokens().update_one(
            {"_id": key, "lastUsedAt": {"$not": {"$gt": at - resolution}}},
            {"$set": {"lastUsedAt": at}},
        )


def _tokens() -> Collection[Document]:
    return mongo.get_database()["api_tokens"]
