"""API tokens: only hashes are stored, and what is expired or revoked opens nothing."""

import hashlib
import re
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from pymongo.database import Database

from automations.auth import tokens
from tracking.exceptions import TrackingUnavailable
from tracking.mongo import errors as mongo_errors

Db = Database[dict[str, Any]]
AT = datetime(2026, 11, 23, 12, tzinfo=UTC)
DAY = timedelta(days=1)


def test_a_token_is_random_and_stored_as_its_hash(db: Db) -> None:
    secret, token = tokens.create_token(workspace_id="ws1", name="CI", at=AT, expires_at=AT + DAY)
    assert re.fullmatch(r"art_[A-Za-z0-9_-]{43}", secret)
    [stored] = db["api_tokens"].find()
    assert str(stored.pop("_id")) == token.id
    assert stored == {
        "hash": hashlib.sha256(secret.encode()).hexdigest(), "workspaceId": "ws1", "name": "CI",
        "createdAt": AT, "expiresAt": AT + DAY, "revokedAt": None,
    }  # fmt: skip
    assert secret not in repr(token)


def test_a_token_is_found_by_its_secret_and_its_id(db: Db) -> None:
    secret, token = tokens.create_token(workspace_id="ws1", at=AT)
    tokens.create_token(workspace_id="ws2", at=AT)
    assert tokens.find_token(secret, at=AT) == token
    found = tokens.find_token_by_id(token.id, at=AT)
    assert found is not None
    assert found.workspace_id == "ws1"


@pytest.mark.parametrize("secret", ["", "art_", "art_wrong", "\udcff", "x" * 10_000])
def test_another_secret_finds_nothing(db: Db, secret: str) -> None:
    tokens.create_token(workspace_id="ws1", at=AT)
    assert tokens.find_token(secret, at=AT) is None


@pytest.mark.parametrize("token_id", ["", "x", "65f000000000000000000001"])
def test_another_id_finds_nothing(db: Db, token_id: str) -> None:
    tokens.create_token(workspace_id="ws1", at=AT)
    assert tokens.find_token_by_id(token_id, at=AT) is None


def test_a_token_opens_nothing_from_its_expiry_on(db: Db) -> None:
    secret, token = tokens.create_token(workspace_id="ws1", at=AT, expires_at=AT + DAY)
    just_before = AT + DAY - timedelta(milliseconds=1)
    assert tokens.find_token(secret, at=just_before) is not None
    assert tokens.find_token(secret, at=AT + DAY) is None
    assert tokens.find_token_by_id(token.id, at=AT + DAY) is None


@pytest.mark.parametrize("by_secret", [True, False])
def test_a_revoked_token_opens_nothing(db: Db, by_secret: bool) -> None:
    secret, token = tokens.create_token(workspace_id="ws1", at=AT)
    revoked = tokens.revoke_token(secret if by_secret else token.id, at=AT + DAY)
    assert revoked is not None
    assert revoked.revoked_at == AT + DAY
    assert tokens.find_token(secret, at=AT) is None
    again = tokens.revoke_token(token.id, at=AT + 2 * DAY)
    assert again is not None
    assert again.revoked_at == AT + DAY


@pytest.mark.parametrize("unknown", ["art_x", "x", "65f000000000000000000001"])
def test_revoking_what_is_not_there(db: Db, unknown: str) -> None:
    assert tokens.revoke_token(unknown, at=AT) is None


def test_the_last_use_is_written_once_an_hour(db: Db) -> None:
    secret, _ = tokens.create_token(workspace_id="ws1", at=AT)
    for minutes, expected in ((0, 0), (59, 0), (60, 60), (70, 60)):
        at = AT + timedelta(minutes=minutes)
        tokens.find_token(secret, at=at)
        [listed] = tokens.list_tokens("ws1")
        assert listed.last_used_at == AT + timedelta(minutes=expected)


def test_tokens_are_listed_by_workspace(db: Db) -> None:
    first = tokens.create_token(workspace_id="ws1", at=AT)[1]
    second = tokens.create_token(workspace_id="ws2", at=AT)[1]
    assert tokens.list_tokens() == [first, second]
    assert tokens.list_tokens("ws2") == [second]


@pytest.mark.parametrize("workspace_id", ["", "a/b"])
def test_a_workspace_that_no_path_can_name_gets_no_token(db: Db, workspace_id: str) -> None:
    with pytest.raises(ValueError, match="workspace"):
        tokens.create_token(workspace_id=workspace_id, at=AT)


def test_without_mongodb_it_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mongo_errors, "DEADLINE_SECONDS", 0.1)
    with pytest.raises(TrackingUnavailable):
        tokens.find_token("art_x", at=AT)
