"""What the views of a workspace share."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

from rest_framework.exceptions import NotFound
from rest_framework.parsers import BaseParser
from rest_framework.permissions import IsAuthenticated
from rest_framework.request import Request
from rest_framework.throttling import UserRateThrottle
from rest_framework.views import APIView

from automations.accounts.accounts import verify_free
from automations.api.query_parameters import QuerySerializer
from automations.api.renderers import BrowsableRenderer, OrjsonParser, OrjsonRenderer
from automations.api.serializers import StrictSerializer
from automations.auth.authentication import (
    BearerTokenAuthentication,
    IsOwnWorkspace,
    SessionTokenAuthentication,
)
from automations.rules import store


class WorkspaceView(APIView):
    """What every path of a workspace shares: who may, and how bodies look."""

    authentication_classes = (BearerTokenAuthentication, SessionTokenAuthentication)
    permission_classes = (IsAuthenticated, IsOwnWorkspace)
    renderer_classes = (OrjsonRenderer, BrowsableRenderer)
    parser_classes: Sequence[type[BaseParser]] = (OrjsonParser,)
    throttle_classes = (UserRateThrottle,)
    # The parameters of GET; other methods have none.
    query_class: type[QuerySerializer] = QuerySerializer
    query: Mapping[str, Any]
    refused_form: StrictSerializer | None = None

    def initial(self, request: Request, *args: Any, **kwargs: Any) -> None:
        """Check who asks and how often, and then the parameters. Raises APIException."""
        super().initial(request, *args, **kwargs)
        if request.method not in self.allowed_methods:
            return  # that will be said instead
        is_read = request.method in ("GET", "HEAD")
        query_class = self.query_class if is_read else QuerySerializer
        serializer = query_class(data=request.query_params.dict())
        serializer.is_valid(raise_exception=True)
        self.query = serializer.validated_data

    @property
    def default_response_headers(self) -> dict[str, str]:
        """Return DRF's headers; answers to a token belong into no cache."""
        return {**super().default_response_headers, "Cache-Control": "no-store"}

    def read_context(self) -> dict[str, Any]:
        """Return what serializers have to know of the request."""
        return {"verify_account": partial(verify_free, workspace_id=self.kwargs.get("wsid", ""))}

    def check_input(self, serializer: StrictSerializer) -> dict[str, Any]:
        """Return the checked values. Raises ValidationError, and keeps the form for the page."""
        if not serializer.is_valid():
            self.refused_form = serializer
            serializer.is_valid(raise_exception=True)
        values: dict[str, Any] = serializer.validated_data
        return values


def find_automation_id(workspace_id: str, automation_id: str) -> str:
    """Return the id that runs know an automation by, deleted or not. Raises NotFound."""
    document = store.find_automation(workspace_id, automation_id, is_deleted_too=True)
    if document is None:
        raise NotFound
    return str(document["_id"])
