"""API tokens: 32 random bytes, shown once, stored as their SHA-256, each for one workspace."""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any

import msgspec
from bson import ObjectId

from automations.auth import token_store

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
        """Return whether the token opens anything at the instant `at`."""
        return self.revoked_at is None and (self.expires_at is None or at < self.expires_at)


def create_token(
    *, workspace_id: str, at: datetime, name: str = "", expires_at: datetime | None = None
) -> tuple[str, ApiToken]:
    """Make a token and return its secret, which is nowhere else, and what is stored of it.

    Raises ValueError for a workspace id that no path can hold, and TrackingUnavailable.
    """
    if not workspace_id or "/" in workspace_id:
        raise ValueError("A workspace id is not empty and holds no slash.")
    secret = PREFIX + secrets.token_urlsafe(_SECRET_BYTES)
    document: dict[str, Any] = {
        "_id": ObjectId(),
        "hash": hash_secret(secret),
        "workspaceId": workspace_id,
        "name": name,
        "createdAt": at,
        "expiresAt": expires_at,
        "revokedAt": None,
    }
    token_store.insert_token(document)
    return secret, _parse_token(document)


def find_token(secret: str, *, at: datetime) -> ApiToken | None:
    """Return the token of this secret if it is usable at `at`, and note that it was used.

    Raises TrackingUnavailable.
    """
    token = _find_usable(token_store.find_by_hash(hash_secret(secret)), at)
    if token is not None and _is_older(token.last_used_at, at - _LAST_USED_RESOLUTION):
        token_store.update_last_used(ObjectId(token.id), at=at, resolution=_LAST_USED_RESOLUTION)
    return token


def find_token_by_id(token_id: str, *, at: datetime) -> ApiToken | None:
    """Return the token with this id if it is usable at `at`. Raises TrackingUnavailable."""
    return _find_usable(token_store.find_by_id(token_id), at)


def list_tokens(workspace_id: str | None = None) -> list[ApiToken]:
    """Return the tokens of a workspace, or of all, oldest first. Raises TrackingUnavailable."""
    return [_parse_token(document) for document in token_store.list_tokens(workspace_id)]


def revoke_token(id_or_secret: str, *, at: datetime) -> ApiToken | None:
    """Revoke the token with this id or secret from `at` on; return it, None if there is none.

    A token that was revoked before keeps its time. Raises TrackingUnavailable.
    """
    if id_or_secret.startswith(PREFIX):
        document = token_store.find_by_hash(hash_secret(id_or_secret))
    else:
        document = token_store.find_by_id(id_or_secret)
    if document is None:
        return None
    token_store.update_revoked(document["_id"], at=at)
    return _parse_token({**document, "revokedAt": document.get("revokedAt") or at})


def hash_secret(secret: str) -> str:
    """Return what is stored of a secret. 256 random bits need no salt and no slow hash."""
    return hashlib.sha256(secret.encode("utf-8", "replace")).hexdigest()


def _find_usable(document: Mapping[str, Any] | None, at: datetime) -> ApiToken | None:
    if document is None:
        return None
    token = _parse_token(document)
    return token if token.is_usable(at) else None


def _is_older(moment: datetime | None, limit: datetime) -> bool:
    return moment is None or moment <= limit


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
