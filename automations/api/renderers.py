"""How bodies are read and written: JSON with any BSON, and pages.

Nothing here raises for what it finds in a document of an older product.
"""

import base64
import json
import math
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import IO, Any
from uuid import UUID

import orjson
from bson import Binary, Code, DBRef, Decimal128, Int64, MaxKey, MinKey, ObjectId, Regex, Timestamp
from bson.datetime_ms import DatetimeMS
from django.conf import settings
from rest_framework.exceptions import ParseError
from rest_framework.parsers import BaseParser
from rest_framework.renderers import BaseRenderer, BrowsableAPIRenderer

from automations.api.errors import RequestTooLarge
from tracking.clock import format_time

Json = dict[str, Any]

# Names that hold a credential in products like this one, without case, `_` and `-`.
_SECRET_ENDINGS = ("token", "secret", "password", "apikey", "privatekey", "credentials")
_MOST_NAMES = 4096
_UUID_SUBTYPE = 4


def to_json(value: Any) -> Any:
    """Return a BSON value as JSON has it.

    Dates are written by `format_time`, other types as text; what JSON has no word for (NaN,
    infinity, a date past the year 9999, MinKey) is null. Fields named like a credential are left
    out, at any depth.
    """
    kind = type(value)
    # Plain values are passed on where they stand: a call for each would be most of a list's cost.
    if kind is dict:
        return {
            name: item if type(item) in _PLAIN else to_json(item)
            for name, item in value.items()
            if not _is_secret[name]
        }
    if kind is list:
        return [item if type(item) in _PLAIN else to_json(item) for item in value]
    if kind in _PLAIN:
        return value
    convert = _CONVERTERS.get(kind)
    return str(value) if convert is None else convert(value)


def represent(document: Mapping[str, Any], *, texts: Sequence[str]) -> Any:
    """Return a stored document as JSON; `_id` and `texts` are text."""
    answer = to_json(document)
    key = document["_id"]
    if type(key) is not ObjectId:  # which is text by now
        answer["_id"] = str(key)
    for name in texts:
        value = answer.get(name)
        if value is not None and type(value) is not str:
            answer[name] = str(value)
    return answer


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
    """Strict JSON (RFC 8259): no NaN, no lone surrogates, bounded nesting."""

    media_type = "application/json"
    renderer_class = OrjsonRenderer

    def parse(
        self,
        stream: IO[Any],
        media_type: str | None = None,
        parser_context: Mapping[str, Any] | None = None,
    ) -> Any:
        """Return the body's value. Raises ParseError and RequestTooLarge."""
        limit = settings.DATA_UPLOAD_MAX_MEMORY_SIZE
        body = stream.read(limit + 1)
        if len(body) > limit:
            raise RequestTooLarge
        try:
            return orjson.loads(body)
        except orjson.JSONDecodeError as error:
            raise ParseError(f"The body is not JSON: {error}.") from None


class BrowsableRenderer(BrowsableAPIRenderer):
    """DRF's browsable API with our login page, without Django's users."""

    template = "automations/browsable_api.html"

    def get_context(
        self, data: Any, accepted_media_type: str | None, renderer_context: Mapping[str, Any]
    ) -> dict[str, Any]:
        """Return the context, without the inline style of code."""
        context: dict[str, Any] = super().get_context(data, accepted_media_type, renderer_context)
        return {**context, "code_style": None}


class _SecretNames(dict[str, bool]):
    """Whether a field name is a credential's, cached by name."""

    def __missing__(self, name: str) -> bool:
        is_secret = name.replace("_", "").replace("-", "").lower().endswith(_SECRET_ENDINGS)
        if len(self) < _MOST_NAMES:
            self[name] = is_secret
        return is_secret


def _from_bytes(value: bytes) -> str:
    if isinstance(value, Binary) and value.subtype == _UUID_SUBTYPE and len(value) == 16:
        return str(UUID(bytes=bytes(value)))
    return base64.b64encode(value).decode("ascii")


def _from_regex(value: Regex[Any]) -> str:
    pattern = value.pattern
    return pattern.decode("utf-8", "replace") if isinstance(pattern, bytes) else pattern


def _write(value: Any) -> str:
    return format_time(value) if isinstance(value, datetime) else str(value)


_is_secret = _SecretNames()
_PLAIN = frozenset({str, int, bool, type(None)})
_CONVERTERS: dict[type, Callable[[Any], Any]] = {
    float: lambda value: value if math.isfinite(value) else None,
    datetime: format_time,
    ObjectId: str,
    Int64: int,
    # As text: a float would not be the same number.
    Decimal128: lambda value: str(value) if value.to_decimal().is_finite() else None,
    Binary: _from_bytes,
    bytes: _from_bytes,
    UUID: str,
    Regex: _from_regex,
    Code: str,
    Timestamp: lambda value: format_time(value.as_datetime()),
    DBRef: lambda value: {"$ref": value.collection, "$id": to_json(value.id)},
    **dict.fromkeys((DatetimeMS, MinKey, MaxKey), lambda _: None),
}
