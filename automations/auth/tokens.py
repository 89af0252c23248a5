"""API tokens, for one workspace each, and who a request is by them.

A token is random, shown once and stored as SHA-256. Everything here that looks one up raises
TrackingUnavailable while the database is unavailable.
"""

from __future__ import annotations

import hashlib
import secrets
import threading
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import msgspec
from bson import ObjectId
from django.contrib.sessions.backends.base import SessionBase
from pymongo import ReturnDocument
from pymongo.collection import Collection
from rest_framework.authentication import (
    BaseAuthentication,
    SessionAuthentication,
    get_authorization_header,
)
from rest_framework.exceptions import AuthenticationFailed, NotFound, PermissionDenied, Throttled
from rest_framework.permissions import SAFE_METHODS, BasePermission
from rest_framework.request import Request

from tracking.clock import read_now
from tracking.mongo import client as mongo
from tracking.mongo.errors import bounded

if TYPE_CHECKING:
    from rest_framework.views import APIView  # which imports this module, as settings name it

Document = dict[str, Any]

# What a session holds: the token's id, never its secret. A revoked token ends its sessions.
SESSION_TOKEN_ID = "token_id"  # noqa: S105 - a key's name
# A process answers so many requests of a workspace at once. They wait in threads: without a share,
# the slow queries of one workspace would take all, and deliveries of others would wait.
MOST_AT_ONCE = 4
PREFIX = "art_"  # lets secret scanners and people recognise one
_SECRET_BYTES = 32
_LAST_USED_RESOLUTION = timedelta(hours=1)  # one write an hour, not one per request
_LONGEST_WORKSPACE_ID = 200
READ, WRITE = SCOPES = ("read", "write")
READ_ONLY = "This token may only read. `create_api_token --scope write` makes one that may write."


class ApiToken(msgspec.Struct, frozen=True, kw_only=True):
    """A stored token, without its secret; DRF's `request.user` too. Times are aware UTC."""

    is_authenticated: ClassVar[Literal[True]] = True

    id: str
    workspace_id: str
    name: str
    scope: str
    created_at: datetime | None
    expires_at: datetime | None
    revoked_at: datetime | None
    last_used_at: datetime | None

    def __str__(self) -> str:
        return f"{self.name or 'API token'} ({self.workspace_id})"

    @property
    def pk(self) -> str:
        """What DRF's throttle counts by."""
        return self.id

    @property
    def can_write(self) -> bool:
        return self.scope == WRITE

    def may_use(self, method: str | None) -> bool:
        return self.can_write or method in SAFE_METHODS

    def is_usable(self, at: datetime) -> bool:
        return self.revoked_at is None and (self.expires_at is None or at < self.expires_at)


def verify_workspace_id(workspace_id: str) -> None:
    """Raise ValueError for an id that no path can hold as it is.

    Clients resolve `.` and `..`, strip spaces and control characters, and turn `\\` into `/`.
    """
    is_whole = workspace_id.isprintable() and workspace_id == workspace_id.strip()
    if not is_whole or workspace_id in ("", ".", "..") or {"/", "\\"} & set(workspace_id):
        raise ValueError(
            "A workspace id is not empty, no dots alone, and holds no slash, backslash, control "
            "character or space at its ends, because it stands in URLs."
        )
    if len(workspace_id) > _LONGEST_WORKSPACE_ID:
        raise ValueError(f"A workspace id has at most {_LONGEST_WORKSPACE_ID} characters.")


def create_token(
    *,
    workspace_id: str,
    at: datetime,
    name: str = "",
    expires_at: datetime | None = None,
    scope: str = WRITE,
) -> tuple[str, ApiToken]:
    """Store a new token; return its secret, stored nowhere, and the token."""
    verify_workspace_id(workspace_id)
    secret = PREFIX + secrets.token_urlsafe(_SECRET_BYTES)
    document: Document = {
        "_id": ObjectId(),
        "hash": hash_secret(secret),
        "workspaceId": workspace_id,
        "name": name,
        "scope": scope,
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
        # Tokens of before there were scopes may write.
        scope=WRITE if document.get("scope", WRITE) == WRITE else READ,
        created_at=document.get("createdAt"),
        expires_at=document.get("expiresAt"),
        revoked_at=document.get("revokedAt"),
        last_used_at=document.get("lastUsedAt"),
    )


def _tokens() -> Collection[Document]:
    # The unique index on `hash` is the lookup of every request.
    return mongo.get_database()["api_tokens"]


class BearerTokenAuthentication(BaseAuthentication):
    """`Authorization: Bearer art_...` (RFC 6750)."""

    def authenticate(self, request: Request) -> tuple[ApiToken, ApiToken] | None:
        scheme, _, secret = get_authorization_header(request).partition(b" ")
        if scheme.lower() != b"bearer":
            return None
        token = find_token(secret.strip().decode("latin-1"), at=read_now())
        if token is None:
            raise AuthenticationFailed("The token is unknown, expired or revoked.", "invalid_token")
        return token, token

    def authenticate_header(self, request: Request) -> str:
        return "Bearer"


class SessionTokenAuthentication(SessionAuthentication):
    """The session of the login page; unsafe methods need the CSRF token."""

    def authenticate(self, request: Request) -> tuple[ApiToken, ApiToken] | None:
        session: SessionBase = request._request.session  # noqa: SLF001 - as DRF's own class does
        token = find_session_token(session)
        if token is None:
            return None
        self.enforce_csrf(request)
        return token, token


class IsOwnWorkspace(BasePermission):
    """Another workspace is 404; an unsafe method is 403 for a token that may only read."""

    def has_permission(self, request: Request, view: APIView) -> bool:
        token = request.auth
        if not isinstance(token, ApiToken) or token.workspace_id != view.kwargs["wsid"]:
            raise NotFound
        if not token.may_use(request.method):
            raise PermissionDenied(READ_ONLY, "read_only_token")
        return True


def find_session_token(session: SessionBase) -> ApiToken | None:
    """Return the usable token that a session was opened with, or None."""
    token_id = session.get(SESSION_TOKEN_ID)
    return find_token_by_id(token_id, at=read_now()) if token_id else None


_lock = threading.Lock()
_busy: Counter[str] = Counter()


@contextmanager
def hold_share(workspace_id: str) -> Iterator[None]:
    """Answer one of the workspace's requests inside. Raises Throttled past MOST_AT_ONCE."""
    with _lock:
        if _busy[workspace_id] >= MOST_AT_ONCE:
            raise Throttled(1, "This workspace has too many requests at once.")
        _busy[workspace_id] += 1
    try:
        yield
    finally:
        with _lock:
            _busy[workspace_id] -= 1
