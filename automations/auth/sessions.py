"""Django's session backend on MongoDB: the cookie holds a random key, everything else is here.

The data is JSON without a signature: nobody but the server writes it, and sessions then survive a
restart with another secret key. The key is stored as its SHA-256, so that who reads the database
cannot use what is read as a cookie.
"""

from __future__ import annotations

import hashlib
import json
from datetime import UTC, datetime
from typing import Any

from django.contrib.sessions.backends.base import CreateError, SessionBase, UpdateError

from automations.auth import session_store


class SessionStore(SessionBase):
    """A session in `web_sessions`. Every method may raise TrackingUnavailable."""

    def load(self) -> dict[str, Any]:
        """Return the stored data; a session that is gone or expired is empty and loses its key."""
        key = self.session_key
        document = (
            session_store.find_session(_hash(key), at=datetime.now(UTC))
            if key is not None
            else None
        )
        if document is None:
            # Never adopt a key that a client made up: it would be session fixation.
            self._session_key = None
            return {}
        return self.decode(document["data"])

    def exists(self, session_key: str) -> bool:
        """Return whether the key is taken."""
        return session_store.has_session(_hash(session_key))

    def create(self) -> None:
        """Take a new key and store the session under it."""
        while True:
            self._session_key = self._get_new_session_key()  # type: ignore[attr-defined]
            try:
                self.save(must_create=True)
            except CreateError:
                continue
            self.modified = True
            return

    def save(self, must_create: bool = False) -> None:
        """Store the session; raises CreateError or UpdateError as Django's contract says."""
        if self.session_key is None:
            self.create()
            return
        session: dict[str, Any] = self._get_session(no_load=must_create)  # type: ignore[attr-defined]
        data = self.encode(session)
        write = session_store.insert_session if must_create else session_store.update_session
        if not write(_hash(self.session_key), data=data, expires_at=self.get_expiry_date()):
            raise CreateError if must_create else UpdateError

    def delete(self, session_key: str | None = None) -> None:
        """Remove this session, or the one named."""
        key = session_key or self.session_key
        if key is not None:
            session_store.delete_session(_hash(key))

    @classmethod
    def clear_expired(cls) -> None:
        """Remove expired sessions, for `manage.py clearsessions`; the TTL index does it too."""
        session_store.delete_expired(at=datetime.now(UTC))

    def encode(self, session_dict: dict[str, Any]) -> str:
        """Return the data as it is stored."""
        return json.dumps(session_dict)

    def decode(self, session_data: bytes | str) -> dict[str, Any]:
        """Return stored data; what cannot be read is an empty session."""
        try:
            data = json.loads(session_data)
        except (TypeError, ValueError):
            return {}
        return data if isinstance(data, dict) else {}


def _hash(session_key: str) -> str:
    return hashlib.sha256(session_key.encode("utf-8", "replace")).hexdigest()
