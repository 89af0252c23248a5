"""API tokens: random, shown once, stored as SHA-256, for one workspace.

Every function here raises TrackingUnavailable while the database is unavailable.
"""

import hashlib
import secrets
from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any

import msgspec
from bson import ObjectId
from pymongo import ReturnDocument
from pymongo.collection import Collection

from tracking.mongo import client as mongo
from tracking.mongo.errors import bounded

Document = dict[str, Any]

PREFIX = "art_"  # lets secret scanners and people recognise one
_SECRET_BYTES = 32
_LAST_USED_RESOLUTION = timedelta(hours=1)  # one write an hour, not one per request


class ApiToken(msgspec.Struct, frozen=True, kw_only=True):
    """A stored token, without its secret. Times are aware UTC."""

    id: str
    workspace_id: str
    name: str
    created_at: datetime | None
    expires_at: datetime | None
    revoked_at: datetime | None
    last_used_at: datetime | None

    def is_usable(self, at: datetime) -> bool:
        return self.revoked_at is None and (self.expires_at is None or at < self.expires_at)


def create_token(
    *, workspace_id: str, at: datetime, name: str = "", expires_at: datetime | None = None
) -> tuple[str, ApiToken]:
    """Store a new token; return its secret, stored nowhere, and the token.

    Raises ValueError for a workspace id that no path can hold.
    """
    if not workspace_id or "/" in workspace_id:
        raise ValueError("A workspace id is not empty and holds no slash.")
    secret = PREFIX + secrets.token_urlsafe(_SECRET_BYTES)
    document: Document = {
        "_id": ObjectId(),
        "hash": hash_secret(secret),
        "workspaceId": workspace_id,
        "name": name,
        "createdAt": at,
        "expiresAt": expires_at,
        "revokedAt": None,
    }
    with bounded():
        _tokens().insert_one(document)
    return secret, _parse_token(document)


def find_token(secret: str, *, at: datetime) -> ApiToken | None:
    """Return the usable token of this secret, and record its use."""
    token = _find_usable({"hash": hash_secret(secret)}, at)
    if token is None:
        return None
    oldest = at - _LAST_USED_RESOLUTION
    if token.last_used_at is None or token.last_used_at <= oldest:
        with bounded():
            _tokens().update_one(
                # Another process may have written it since it was read.
                {"_id": ObjectId(token.id), "lastUsedAt": {"$not": {"$gt": oldest}}},
                {"$set": {"lastUsedAt": at}},
            )
    return token


def find_token_by_id(token_id: str, *, at: datetime) -> ApiToken | None:
    return _find_usable(_by_id(token_id), at)


def list_tokens(workspace_id: str | None = None) -> list[ApiToken]:
    """Return the tokens of a workspace, or of all, oldest first."""
    query = {} if workspace_id is None else {"workspaceId": workspace_id}
    with bounded():
        return [_parse_token(document) for document in _tokens().find(query).sort("_id", 1)]


def revoke_token(id_or_secret: str, *, at: datetime) -> ApiToken | None:
    """Revoke the token with this id or secret; return it or None.

    A token that was revoked before keeps its time.
    """
    is_secret = id_or_secret.startswith(PREFIX)
    query = {"hash": hash_secret(id_or_secret)} if is_secret else _by_id(id_or_secret)
    revoked_at = {"$ifNull": ["$revokedAt", at]}
    with bounded():
        document = _tokens().find_one_and_update(
            query, [{"$set": {"revokedAt": revoked_at}}], return_document=ReturnDocument.AFTER
        )
    return None if document is None else _parse_token(document)


def hash_secret(secret: str) -> str:
    """Return the stored form. 256 random bits need no slow hash."""
    return hashlib.sha256(secret.encode("utf-8", "replace")).hexdigest()


def _by_id(token_id: str) -> Document:
    return {"_id": ObjectId(token_id) if ObjectId.is_valid(token_id) else None}


def _find_usable(query: Document, at: datetime) -> ApiToken | None:
    with bounded():
        document = _tokens().find_one(query)
    token = None if document is None else _parse_token(document)
    return token if token is not None and token.is_usable(at) else None


def _parse_token(document: Mapping[str, Any]) -> ApiToken:
    return ApiToken(
        id=str(document["_id"]),
        workspace_id=document["workspaceId"],
        name=document.get("name") or "",
        created_at=document.get("createdAt"),
        expires_at=document.get("expiresAt"),
        revoked_at=document.get("revokedAt"),
        last_used_at=document.get("lastUsedAt"),
    )


def _tokens() -> Collection[Document]:
    # The unique index on `hash` is the lookup of every request.
    return mongo.get_database()["api_tokens"]
