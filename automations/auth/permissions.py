"""What a token opens: its own workspace, and nothing else can be told to exist."""

from __future__ import annotations

from rest_framework.exceptions import NotFound
from rest_framework.permissions import BasePermission
from rest_framework.request import Request
from rest_framework.views import APIView

from automations.auth.tokens import ApiToken


class IsOwnWorkspace(BasePermission):
    """The token's workspace is the one in the path; another one answers as if it were not there."""

    def has_permission(self, request: Request, view: APIView) -> bool:
        """Return True for the own workspace. Raises NotFound for any other."""
        token = request.auth
        if not isinstance(token, ApiToken) or token.workspace_id != view.kwargs["wsid"]:
            raise NotFound
        return True
