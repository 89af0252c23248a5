"""What the views of a workspace share: access, bodies and strict input."""

import re
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

from rest_framework import serializers
from rest_framework.exceptions import ErrorDetail, NotFound
from rest_framework.fields import empty
from rest_framework.parsers import BaseParser
from rest_framework.permissions import IsAuthenticated
from rest_framework.request import Request
from rest_framework.throttling import UserRateThrottle
from rest_framework.utils import html
from rest_framework.views import APIView

from automations.accounts.accounts import verify_free
from automations.api.renderers import BrowsableRenderer, OrjsonParser, OrjsonRenderer
from automations.auth.authentication import (
    BearerTokenAuthentication,
    IsOwnWorkspace,
    SessionTokenAuthentication,
)
from automations.rules import store

_SERVER_FIELDS = frozenset(
    {"_id", "workspaceId", "totalRuns", "lastRunAt", "stats", "createdAt", "updatedAt", "deletedAt"}
)
_ECHO_LENGTH = 100
# A form names nested fields `trigger.match` and `mainDm.links[0]title`.
_NESTING = re.compile(r"[.\[]")
# What DRF reads to choose between JSON and its pages.
_FORMAT = "format"


class StrictSerializer(serializers.Serializer[Any]):
    """Refuses every field it does not know, by name."""

    def to_internal_value(self, data: Any) -> Any:
        if isinstance(data, Mapping):
            names = [str(name) for name in data]
            if html.is_html_input(data):
                names = [_NESTING.split(name)[0] for name in names if name != "csrfmiddlewaretoken"]
            unknown = [name for name in names if name not in self.fields]
            if unknown:
                raise serializers.ValidationError(
                    {name[:_ECHO_LENGTH]: [self.refuse(name)] for name in unknown}
                )
        return super().to_internal_value(data)

    def refuse(self, name: str) -> ErrorDetail:
        echo = name[:_ECHO_LENGTH]
        if name in _SERVER_FIELDS:
            return ErrorDetail(f"{echo!r} is set by the server.", code="read_only")
        known = ", ".join(self.fields)
        return ErrorDetail(f"{echo!r} is not a field. The fields are: {known}.", code="unknown")


class QuerySerializer(StrictSerializer):
    """The parameters of a path. A field `from_` is the parameter `from`."""

    def get_fields(self) -> dict[str, serializers.Field[Any, Any, Any, Any]]:
        return {name.rstrip("_"): field for name, field in super().get_fields().items()}

    def run_validation(self, data: Any = empty) -> Any:
        if isinstance(data, Mapping):
            data = {name: value for name, value in data.items() if name != _FORMAT}
        return super().run_validation(data)

    def refuse(self, name: str) -> ErrorDetail:
        known = ", ".join(self.fields)
        what = f"The parameters are: {known}." if known else "This path has none."
        return ErrorDetail(f"{name[:_ECHO_LENGTH]!r} is not a parameter. {what}", code="unknown")


class WorkspaceView(APIView):
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
        """Check access and rate, then the parameters. Raises APIException."""
        super().initial(request, *args, **kwargs)
        if request.method not in self.allowed_methods:
            return  # DRF answers 405 instead
        is_read = request.method in ("GET", "HEAD")
        query_class = self.query_class if is_read else QuerySerializer
        serializer = query_class(data=request.query_params.dict())
        serializer.is_valid(raise_exception=True)
        self.query = serializer.validated_data

    @property
    def default_response_headers(self) -> dict[str, str]:
        """DRF's headers; no cache may keep what a token was needed for."""
        return {**super().default_response_headers, "Cache-Control": "no-store"}

    def read_context(self) -> dict[str, Any]:
        return {"verify_account": partial(verify_free, workspace_id=self.kwargs.get("wsid", ""))}

    def check_input(self, serializer: StrictSerializer) -> dict[str, Any]:
        """Return the checked values, or keep the form for the page. Raises ValidationError."""
        if not serializer.is_valid():
            self.refused_form = serializer
            serializer.is_valid(raise_exception=True)
        values: dict[str, Any] = serializer.validated_data
        return values


class UnknownPathView(APIView):
    """404 in the API's own shape, whatever the method."""

    authentication_classes = ()
    permission_classes = ()
    renderer_classes = (OrjsonRenderer,)
    schema = None

    def initial(self, request: Request, *args: Any, **kwargs: Any) -> None:
        raise NotFound


def get_automation(
    workspace_id: str, automation_id: str, *, is_deleted_too: bool = False
) -> Mapping[str, Any]:
    """Return an automation of the workspace. Raises NotFound."""
    found = store.find_automation(workspace_id, automation_id, is_deleted_too=is_deleted_too)
    if found is None:
        raise NotFound
    return found


def get_automation_id(workspace_id: str, automation_id: str) -> str:
    """Return the id by which runs know an automation, deleted or not. Raises NotFound."""
    return str(get_automation(workspace_id, automation_id, is_deleted_too=True)["_id"])
