"""Django's session contract on `web_sessions`."""

import hashlib
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.contrib.sessions.backends.base import CreateError, UpdateError

from automations.auth.sessions import SessionStore
from tests.support.api_client import Db


def make_session(**data: Any) -> SessionStore:
    session = SessionStore()
    session.update(data)
    session.save()
    return session


def test_a_saved_session_is_loaded_by_its_key_which_is_not_stored(db: Db) -> None:
    session = make_session(token_id="x")
    key = session.session_key
    assert key is not None
    assert SessionStore(key)["token_id"] == "x"
    assert session.exists(key)
    [stored] = db["web_sessions"].find()
    assert stored["_id"] == hashlib.sha256(key.encode()).hexdigest()
    assert key not in repr(stored)
    assert stored["expiresAt"] > datetime.now(UTC) + timedelta(days=13)
    index = db["web_sessions"].index_information()["expiresAt_ttl"]
    assert index["expireAfterSeconds"] == 0
    session.flush()
    assert db["web_sessions"].count_documents({}) == 0


def test_an_expired_session_is_empty_before_the_ttl_removes_it(db: Db) -> None:
    session = make_session(token_id="x")
    session.set_expiry(datetime.now(UTC) - timedelta(seconds=1))
    session.save()
    again = SessionStore(session.session_key)
    assert again.get("token_id") is None
    assert again.session_key is None
    SessionStore.clear_expired()
    assert db["web_sessions"].count_documents({}) == 0


def test_a_made_up_key_is_never_adopted(db: Db) -> None:
    session = SessionStore("a" * 32)
    session["token_id"] = "x"
    session.save()
    assert session.session_key not in (None, "a" * 32)


def test_a_key_is_created_once_and_not_saved_after_its_end(db: Db) -> None:
    session = make_session(token_id="x")
    with pytest.raises(CreateError):
        SessionStore(session.session_key).save(must_create=True)
    SessionStore(session.session_key).delete()
    with pytest.raises(UpdateError):
        session.save()


@pytest.mark.parametrize("data", ["", "{", "[]", "null", None, 7])
def test_data_that_cannot_be_read_is_an_empty_session(db: Db, data: object) -> None:
    session = make_session(token_id="x")
    db["web_sessions"].update_many({}, {"$set": {"data": data}})
    assert SessionStore(session.session_key).get("token_id") is None
