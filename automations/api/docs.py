"""The API's documents, open to everybody, and what is answered where the API has no path."""

from __future__ import annotations

from typing import Any

from drf_spectacular.views import SpectacularAPIView, SpectacularSwaggerSplitView
from rest_framework.exceptions import NotFound
from rest_framework.request import Request
from rest_framework.views import APIView

from automations.api.renderers import OrjsonRenderer


class SchemaView(SpectacularAPIView):
    """`/api/schema`: OpenAPI as YAML, or as JSON to `Accept: application/json`."""


class DocsView(SpectacularSwaggerSplitView):
    """`/api/docs`: Swagger UI from files of this site; its script is a request of its own."""

    url_name = "automations:schema"


class UnknownPathView(APIView):
    """404 in the API's own shape, whatever the method."""

    authentication_classes = ()
    permission_classes = ()
    renderer_classes = (OrjsonRenderer,)
    schema = None

    def initial(self, request: Request, *args: Any, **kwargs: Any) -> None:
        """Raise NotFound."""
        raise NotFound
