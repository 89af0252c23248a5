"""Reads and writes of `deletion_requests`: the people who asked Meta to have their data erased.

`{"_id": <confirmation code>, "state": "waiting" | "done", "requestedAt", "doneAt"?, "expireAt"}`.
The id of the person stands in `userId` until it is erased everywhere else, and no longer.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

from pymongo.collection import Collection

from tracking.mongo import client as mongo
from tracking.mongo.errors import reach_mongo

Document = dict[str, Any]

# As long as somebody may want to look it up.
KEPT = timedelta(days=400)


def insert_request(code: str, *, person_id: str, at: datetime) -> None:
    """Store a request. Raises TrackingUnavailable, as everything here does."""
    document = {
        "_id": code, "userId": person_id, "state": "waiting", "requestedAt": at,
        "expireAt": at + KEPT,
    }  # fmt: skip
    with reach_mongo():
        _requests().insert_one(document)


def find_request(code: str) -> Document | None:
    """Return the request with this code."""
    with reach_mongo():
        return _requests().find_one({"_id": code})


def list_waiting(*, limit: int = 100) -> list[Document]:
    """Return the requests that wait, the oldest first."""
    with reach_mongo():
        found = _requests().find({"state": "waiting"}, limit=limit)
        return list(found.sort("requestedAt", 1))


def finish_request(code: str, *, at: datetime) -> None:
    """Note that it is done, and forget whom it was about."""
    change = {"$set": {"state": "done", "doneAt": at}, "$unset": {"userId": ""}}
    with reach_mongo():
        _requests().update_one({"_id": code}, change)


def _requests() -> Collection[Document]:
    return mongo.get_database()["deletion_requests"]
