"""Who is asking, what it opens, and what a session holds."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from django.contrib.sessions.backends.base import SessionBase
from rest_framework.authentication import (
    BaseAuthentication,
    SessionAuthentication,
    get_authorization_header,
)
from rest_framework.exceptions import AuthenticationFailed, NotFound
from rest_framework.permissions import BasePermission
from rest_framework.request import Request

from automations.auth.tokens import ApiToken, find_token, find_token_by_id
from tracking.clock import read_now

if TYPE_CHECKING:
    from rest_framework.views import APIView  # which imports this module, as settings name it

# What a session holds: the token's id, never its secret. A revoked token ends its sessions.
SESSION_TOKEN_ID = "token_id"  # noqa: S105 - a key's name


class TokenHolder:
    """A request with a valid token; DRF's `request.user`."""

    is_authenticated: Literal[True] = True
    is_anonymous: Literal[False] = False
    is_active: Literal[True] = True

    def __init__(self, token: ApiToken) -> None:
        self.token = token
        self.pk = token.id  # what DRF's throttle counts by
        self.workspace_id = token.workspace_id

    def __str__(self) -> str:
        return f"{self.token.name or 'API token'} ({self.workspace_id})"


class BearerTokenAuthentication(BaseAuthentication):
    """`Authorization: Bearer art_...` (RFC 6750)."""

    def authenticate(self, request: Request) -> tuple[TokenHolder, ApiToken] | None:
        scheme, _, secret = get_authorization_header(request).partition(b" ")
        if scheme.lower() != b"bearer":
            return None
        token = find_token(secret.strip().decode("latin-1"), at=read_now())
        if token is None:
            raise AuthenticationFailed("The token is unknown, expired or revoked.", "invalid_token")
        return TokenHolder(token), token

    def authenticate_header(self, request: Request) -> str:
        return "Bearer"


class SessionTokenAuthentication(SessionAuthentication):
    """The session of the login page; unsafe methods need the CSRF token."""

    def authenticate(self, request: Request) -> tuple[TokenHolder, ApiToken] | None:
        session: SessionBase = request._request.session  # noqa: SLF001 - as DRF's own class does
        token = find_session_token(session)
        if token is None:
            return None
        self.enforce_csrf(request)
        return TokenHolder(token), token


class IsOwnWorkspace(BasePermission):
    """The token's workspace is the one in the path; others are 404."""

    def has_permission(self, request: Request, view: APIView) -> bool:
        token = request.auth
        if not isinstance(token, ApiToken) or token.workspace_id != view.kwargs["wsid"]:
            raise NotFound
        return True


def find_session_token(session: SessionBase) -> ApiToken | None:
    """Return the usable token that a session was opened with, or None."""
    token_id = session.get(SESSION_TOKEN_ID)
    return find_token_by_id(token_id, at=read_now()) if token_id else None
