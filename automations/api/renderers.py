"""How the API's bodies are read and written: JSON by orjson, and the browsable API."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import datetime
from typing import IO, Any

import orjson
from django.conf import settings
from rest_framework.exceptions import ParseError
from rest_framework.parsers import BaseParser
from rest_framework.renderers import BaseRenderer, BrowsableAPIRenderer

from automations.api.errors import RequestTooLarge
from tracking.clock import format_time


class OrjsonRenderer(BaseRenderer):
    """JSON in UTF-8; a datetime in it has milliseconds and Z."""

    media_type = "application/json"
    format = "json"
    charset = None  # JSON is UTF-8 by its definition
    render_style = "text"

    def render(
        self,
        data: Any,
        accepted_media_type: str | None = None,
        renderer_context: Mapping[str, Any] | None = None,
    ) -> bytes:
        """Return the body; indented for the browsable API."""
        if data is None:
            return b""
        options = orjson.OPT_PASSTHROUGH_DATETIME | orjson.OPT_NON_STR_KEYS
        if renderer_context and renderer_context.get("indent"):
            options |= orjson.OPT_INDENT_2
        try:
            return orjson.dumps(data, default=_write, option=options)
        except orjson.JSONEncodeError:
            # A lone surrogate in somebody's text, or an integer past 64 bits.
            return json.dumps(data, default=_write).encode()


class OrjsonParser(BaseParser):
    """JSON as RFC 8259 has it: no NaN, no lone surrogates, no nesting past orjson's bound."""

    media_type = "application/json"
    renderer_class = OrjsonRenderer

    def parse(
        self,
        stream: IO[Any],
        media_type: str | None = None,
        parser_context: Mapping[str, Any] | None = None,
    ) -> Any:
        """Return the body's value. Raises ParseError, and RequestTooLarge."""
        limit = settings.DATA_UPLOAD_MAX_MEMORY_SIZE
        body = stream.read(limit + 1)
        if len(body) > limit:
            raise RequestTooLarge
        try:
            return orjson.loads(body)
        except orjson.JSONDecodeError as error:
            raise ParseError(f"The body is not JSON: {error}.") from None


class BrowsableRenderer(BrowsableAPIRenderer):
    """DRF's browsable API with our login page: DRF's own links need Django's users."""

    template = "automations/browsable_api.html"

    def get_context(
        self, data: Any, accepted_media_type: str | None, renderer_context: Mapping[str, Any]
    ) -> dict[str, Any]:
        """Return the template's context, without the inline style of code that we do not show."""
        context: dict[str, Any] = super().get_context(data, accepted_media_type, renderer_context)
        return {**context, "code_style": None}


def _write(value: Any) -> str:
    return format_time(value) if isinstance(value, datetime) else str(value)
