"""Reads and writes of the collection `web_sessions`; a TTL index on `expiresAt` empties it."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from pymongo.collection import Collection
from pymongo.errors import DuplicateKeyError

from tracking.mongo import client as mongo
from tracking.mongo.errors import reach_mongo

Document = dict[str, Any]


def find_session(key: str, *, at: datetime) -> Document | None:
    """Return the session unless it expired: the TTL monitor comes by once a minute only.

    Raises TrackingUnavailable, as everything here does.
    """
    with reach_mongo():
        return _sessions().find_one({"_id": key, "expiresAt": {"$gt": at}})


def has_session(key: str) -> bool:
    """Return whether the key is taken."""
    with reach_mongo():
        return _sessions().find_one({"_id": key}, {"_id": 1}) is not None


def insert_session(key: str, *, data: str, expires_at: datetime) -> bool:
    """Store a new session; return False if the key is taken."""
    with reach_mongo():
        try:
            _sessions().insert_one({"_id": key, "data": data, "expiresAt": expires_at})
        except DuplicateKeyError:
            return False
    return True


def update_session(key: str, *, data: str, expires_at: datetime) -> bool:
    """Replace a session's data; return False if it is gone."""
    with reach_mongo():
        result = _sessions().update_one(
            {"_id": key}, {"$set": {"data": data, "expiresAt": expires_at}}
        )
    return result.matched_count == 1


def delete_session(key: str) -> None:
    """Remove a session, if it is there."""
    with reach_mongo():
        _sessions().delete_one({"_id": key})


def delete_expired(*, at: datetime) -> None:
    """Remove every session that expired before `at`."""
    with reach_mongo():
        _sessions().delete_many({"expiresAt": {"$lte": at}})


def _sessions() -> Collection[Document]:
    return mongo.get_database()["web_sessions"]
