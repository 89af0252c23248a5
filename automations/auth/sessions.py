"""Django's session backend on MongoDB.

The data is JSON without a signature, because only the server writes it, and because sessions then
survive a restart with another secret key. The key is stored as its SHA-256, so that a reader of
the database cannot use it as a cookie. A TTL index on `expiresAt` removes expired sessions.
"""

import hashlib
import json
from typing import Any

from django.contrib.sessions.backends.base import CreateError, SessionBase, UpdateError
from pymongo.collection import Collection
from pymongo.errors import DuplicateKeyError

from tracking.clock import read_now
from tracking.mongo import client as mongo
from tracking.mongo.errors import bounded


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
        """Store the session. Raises CreateError and UpdateError, by Django's contract."""
        if self.session_key is None:
            self.create()
            return
        session: dict[str, Any] = self._get_session(no_load=must_create)  # type: ignore[attr-defined]
        key = _hash(self.session_key)
        fields = {"data": self.encode(session), "expiresAt": self.get_expiry_date()}
        with bounded():
            if not must_create:
                if not _sessions().update_one({"_id": key}, {"$set": fields}).matched_count:
                    raise UpdateError
                return
            try:
                _sessions().insert_one({"_id": key, **fields})
            except DuplicateKeyError:
                raise CreateError from None

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


def _hash(session_key: str) -> str:
    return hashlib.sha256(session_key.encode("utf-8", "replace")).hexdigest()


def _sessions() -> Collection[dict[str, Any]]:
    return mongo.get_database()["web_sessions"]
