"""API tokens: only hashes are stored, and what is expired or revoked opens nothing."""

import hashlib
import re
from datetime import UTC, datetime, timedelta

import pytest

from automations.auth import tokens
from tests.support.api_client import Db

AT = datetime(2026, 11, 23, 12, tzinfo=UTC)
DAY = timedelta(days=1)


def test_a_token_is_random_and_stored_as_its_hash(db: Db) -> None:
    secret, token = tokens.create_token(workspace_id="ws1", name="CI", at=AT, expires_at=AT + DAY)
    assert re.fullmatch(r"art_[A-Za-z0-9_-]{43}", secret)
    [stored] = db["api_tokens"].find()
    assert str(stored.pop("_id")) == token.id
    assert stored == {
        "hash": hashlib.sha256(secret.encode()).hexdigest(), "workspaceId": "ws1", "name": "CI",
        "scope": "write", "createdAt": AT, "expiresAt": AT + DAY, "revokedAt": None,
    }  # fmt: skip
    assert secret not in repr(token)


@pytest.mark.parametrize(("stored", "scope"), [(None, "write"), ("read", "read"), (7, "read")])
def test_a_token_of_before_scopes_may_write(db: Db, stored: object, scope: str) -> None:
    tokens.create_token(workspace_id="ws1", at=AT)
    change = {"$unset": {"scope": ""}} if stored is None else {"$set": {"scope": stored}}
    db["api_tokens"].update_one({}, change)
    assert tokens.list_tokens()[0].scope == scope


def test_a_token_is_found_by_its_secret_and_its_id(db: Db) -> None:
    secret, token = tokens.create_token(workspace_id="ws1", at=AT)
    other = tokens.create_token(workspace_id="ws2", at=AT)[1]
    assert tokens.find_token(secret, at=AT) == token
    found = tokens.find_token_by_id(token.id, at=AT)
    assert found is not None
    assert found.workspace_id == "ws1"
    assert [one.id for one in tokens.list_tokens()] == [token.id, other.id]
    assert tokens.list_tokens("ws2") == [other]


@pytest.mark.parametrize(
    "unknown", ["", "x", "art_", "art_wrong", "\udcff", "x" * 10_000, "65f000000000000000000001"]
)
def test_another_secret_or_id_finds_nothing(db: Db, unknown: str) -> None:
    tokens.create_token(workspace_id="ws1", at=AT)
    for find in (tokens.find_token, tokens.find_token_by_id, tokens.revoke_token):
        assert find(unknown, at=AT) is None


def test_a_token_opens_nothing_from_its_expiry_on(db: Db) -> None:
    secret, token = tokens.create_token(workspace_id="ws1", at=AT, expires_at=AT + DAY)
    just_before = AT + DAY - timedelta(milliseconds=1)
    assert tokens.find_token(secret, at=just_before) is not None
    assert tokens.find_token(secret, at=AT + DAY) is None
    assert tokens.find_token_by_id(token.id, at=AT + DAY) is None


@pytest.mark.parametrize("by_secret", [True, False])
def test_a_revoked_token_opens_nothing(db: Db, by_secret: bool) -> None:
    secret, token = tokens.create_token(workspace_id="ws1", at=AT)
    for name, at in ((secret if by_secret else token.id, AT + DAY), (token.id, AT + 2 * DAY)):
        revoked = tokens.revoke_token(name, at=at)
        assert revoked is not None
        assert revoked.revoked_at == AT + DAY
        assert tokens.find_token(secret, at=AT) is None


def test_the_last_use_is_written_once_an_hour(db: Db) -> None:
    secret, _ = tokens.create_token(workspace_id="ws1", at=AT)
    for minutes, expected in ((0, 0), (59, 0), (60, 60), (70, 60)):
        at = AT + timedelta(minutes=minutes)
        tokens.find_token(secret, at=at)
        [listed] = tokens.list_tokens("ws1")
        assert listed.last_used_at == AT + timedelta(minutes=expected)
