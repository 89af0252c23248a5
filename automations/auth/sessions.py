"""Django's session backend on MongoDB.

The data is JSON without a signature, because only the server writes it, and because sessions then
survive a restart with another secret key. The key is stored as its SHA-256, so that a reader of
the database cannot use it as a cookie. A TTL index on `expiresAt` removes expired sessions.
"""

from __future__ import annotations

import hashlib
import json
from datetime import datetime
from typing import Any

from django.contrib.sessions.backends.base import CreateError, SessionBase, UpdateError
from pymongo.collection import Collection
from pymongo.errors import DuplicateKeyError

from tracking.clock import read_now
from tracking.mongo import client as mongo
from tracking.mongo.errors import bounded

Document = dict[str, Any]


class SessionStore(SessionBase):
    """A session in `web_sessions`. Every method may raise TrackingUnavailable."""

    def load(self) -> dict[str, Any]:
        """Return the stored data; without any, forget the key."""
        document = None
        if self.session_key is not None:
            # The TTL monitor runs once a minute only.
            query = {"_id": _hash(self.session_key), "expiresAt": {"$gt": read_now()}}
            with bounded():
                document = _sessions().find_one(query)
        if document is None:
            # Never adopt a key that a client chose, because that would be session fixation.
            self._session_key = None
            return {}
        return self.decode(document["data"])

    def exists(self, session_key: str) -> bool:
        with bounded():
            return _sessions().find_one({"_id": _hash(session_key)}, {"_id": 1}) is not None

    def create(self) -> None:
        while True:
            self._session_key = self._get_new_session_key()  # type: ignore[attr-defined]
            try:
                self.save(must_create=True)
            except CreateError:
                continue
            self.modified = True
            return

    def save(self, must_create: bool = False) -> None:
        """Store the session; raise CreateError or UpdateError as Django's contract says."""
        if self.session_key is None:
            self.create()
            return
        session: dict[str, Any] = self._get_session(no_load=must_create)  # type: ignore[attr-defined]
        write = _insert if must_create else _update
        key, data = _hash(self.session_key), self.encode(session)
        if not write(key, data=data, expires_at=self.get_expiry_date()):
            raise CreateError if must_create else UpdateError

    def delete(self, session_key: str | None = None) -> None:
        key = session_key or self.session_key
        if key is not None:
            with bounded():
                _sessions().delete_one({"_id": _hash(key)})

    @classmethod
    def clear_expired(cls) -> None:
        """Remove expired sessions, for `manage.py clearsessions`."""
        with bounded():
            _sessions().delete_many({"expiresAt": {"$lte": read_now()}})

    def encode(self, session_dict: dict[str, Any]) -> str:
        return json.dumps(session_dict)

    def decode(self, session_data: bytes | str) -> dict[str, Any]:
        """Return stored data; an unreadable session is an empty one."""
        try:
            data = json.loads(session_data)
        except (TypeError, ValueError):
            return {}
        return data if isinstance(data, dict) else {}


def _insert(key: str, *, data: str, expires_at: datetime) -> bool:
    with bounded():
        try:
            _sessions().insert_one({"_id": key, "data": data, "expiresAt": expires_at})
        except DuplicateKeyError:
            return False
    return True


def _update(key: str, *, data: str, expires_at: datetime) -> bool:
    with bounded():
        result = _sessions().update_one(
            {"_id": key}, {"$set": {"data": data, "expiresAt": expires_at}}
        )
    return result.matched_count == 1


def _hash(session_key: str) -> str:
    return hashlib.sha256(session_key.encode("utf-8", "replace")).hexdigest()


def _sessions() -> Collection[Document]:
    return mongo.get_database()["web_sessions"]
