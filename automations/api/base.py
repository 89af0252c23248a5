"""What the views of a workspace share: access, bodies and strict input.

JSON is written with any BSON in it: nothing raises for what a document of an older product holds.
"""

import base64
import json
import math
import re
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from datetime import datetime
from functools import lru_cache, partial
from typing import IO, Any
from uuid import UUID

import orjson
from bson import Binary, Code, DBRef, Decimal128, Int64, MaxKey, MinKey, ObjectId, Regex, Timestamp
from bson.datetime_ms import DatetimeMS
from csp.decorators import csp_replace
from django.conf import settings
from django.http import HttpRequest
from django.http.response import HttpResponseBase
from django.utils.decorators import method_decorator
from rest_framework import serializers
from rest_framework.exceptions import ErrorDetail, NotFound, ParseError
from rest_framework.fields import empty
from rest_framework.parsers import BaseParser
from rest_framework.permissions import IsAuthenticated
from rest_framework.renderers import BaseRenderer, BrowsableAPIRenderer
from rest_framework.request import Request
from rest_framework.throttling import UserRateThrottle
from rest_framework.utils import html
from rest_framework.views import APIView

from automations.accounts.accounts import AccountTaken
from automations.api.errors import RequestTooLarge
from automations.auth.tokens import (
    BearerTokenAuthentication,
    IsOwnWorkspace,
    SessionTokenAuthentication,
    hold_share,
)
from automations.rules import store
from tracking.clock import format_time
from tracking.ids import name_id

Json = dict[str, Any]
_SHORTEST = 12  # of what is looked at
# Each begins with a literal that texts seldom have, so that `re` skips to the first of them; what
# stands before it is looked at afterwards.
_PATTERNS = (
    r"EAA(?<![A-Za-z0-9]EAA)[\w-]{12,}",  # Meta's tokens of Facebook Login
    r"IG(?:AA|QV)(?<![A-Za-z0-9]IG..)[\w-]{12,}",  # and of Instagram Login
    r"B(?:earer|EARER)\s+[\w.~+/=-]{8,}",
    r"bearer\s+(?=\S*\d)[\w.~+/=-]{8,}",
    r"_(?<=art_)[\w-]{40,}",  # a token of our own API
    r"J(?<=eyJ)(?<![\w-]eyJ)[\w-]{8,}\.[\w-]{8,}\.",  # a JSON Web Token
    r"-----BEGIN [A-Z ]*PRIVATE KEY",
    r"://[^\s/?#@:]*:[^\s/?#@]+@",  # https://user:password@host
    r"_(?:token|secret|key)(?:=|%3[Dd])[^&\s]",  # ?access_token=, &client_secret=
    r"=(?<=password=)[^&\s]",
)
_HOLDS = re.compile("|".join(_PATTERNS))
# Names without case, `_` and `-`: what ends so is always left out, because no rule tells a short
# password from a word; what is named so is left out if it holds a long random text.
_ALWAYS = ("token", "secret", "password", "apikey", "privatekey", "credentials", "authorization")
_NAMED = re.compile("token|secret|passw|pwd|key(?!word)|auth|credential")
# Not a URL, not a time: 16 or more characters with a letter and a digit, or of mixed case.
_RANDOM = re.compile(
    r"(?:[A-Za-z]+ )?(?!\w+://|\d{4}-\d\d-\d\d)"
    r"(?=[^A-Za-z]*[A-Za-z])"
    r"(?=\D*\d|[^a-z]*[a-z][^A-Z]*[A-Z]|[^A-Z]*[A-Z][^a-z]*[a-z])[!-~]{16,}"
)
_NOTHING, _IF_RANDOM, _CREDENTIAL = range(3)
_UUID_SUBTYPE = 4
_SERVER_FIELDS = frozenset(
    {"_id", "workspaceId", "totalRuns", "lastRunAt", "stats", "createdAt", "updatedAt", "deletedAt"}
)
_ECHO_LENGTH = 100
# A form names nested fields `trigger.match` and `mainDm.links[0]title`.
_NESTING = re.compile(r"[.\[]")
# What DRF reads to choose between JSON and its pages.
_FORMAT = "format"
# Its pages have `style` attributes and images as data; scripts stay files of this site.
_BROWSABLE_POLICY = {"style-src-attr": ["'unsafe-inline'"], "img-src": ["'self'", "data:"]}


def to_json(value: Any, *, is_named: bool = False) -> Any:
    """Return a BSON value as JSON has it.

    Dates are written by `format_time`, other types as text; what JSON has no word for (NaN,
    infinity, a date past the year 9999, MinKey) is null. What looks like a credential is left out
    at any depth; `is_named` is whether the name of a field around it says that it may be one.
    """
    kind = type(value)
    # Plain values are passed on where they stand: a call for each would be most of a list's cost.
    if kind is dict:
        return {
            name: item if type(item) in _PLAIN else to_json(item, is_named=is_named or naming != 0)
            for name, item in value.items()
            if (naming := _judge_name(name)) != _CREDENTIAL
            and not (type(item) in _TEXTS and is_credential(item, is_named or naming != 0))
        }
    if kind is list:
        return [
            item if type(item) in _PLAIN else to_json(item, is_named=is_named)
            for item in value
            if not (type(item) in _TEXTS and is_credential(item, is_named))
        ]
    if kind in _PLAIN:
        return value
    convert = _CONVERTERS.get(kind)
    return str(value) if convert is None else convert(value)


def represent(document: Mapping[str, Any], *, texts: Sequence[str]) -> Any:
    """Return a stored document as JSON; `_id` and `texts` are text."""
    answer = to_json(document)
    key = document["_id"]
    if type(key) is not ObjectId:  # which is text by now
        answer["_id"] = name_id(key)
    for name in texts:
        value = answer.get(name)
        if value is not None and type(value) is not str:
            answer[name] = name_id(document[name])
    return answer


def is_credential(value: Any, is_named: bool) -> bool:
    """Return whether a text, bytes or pattern holds one; `is_named` by a field around it."""
    if not isinstance(value, str):
        value = getattr(value, "pattern", value)
        value = value.decode("latin-1") if isinstance(value, bytes) else value
        if is_named and len(value) >= 16:
            return True
    if len(value) < _SHORTEST:
        return False
    return bool(_HOLDS.search(value) or (is_named and _RANDOM.fullmatch(value)))


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
        context: dict[str, Any] = super().get_context(data, accepted_media_type, renderer_context)
        return {**context, "code_style": None}


@lru_cache(maxsize=4096)
def _judge_name(name: str) -> int:
    bare = name.replace("_", "").replace("-", "").lower()
    if bare.endswith(_ALWAYS) or _HOLDS.search(name):
        return _CREDENTIAL
    return _IF_RANDOM if _NAMED.search(bare) else _NOTHING


def _from_bytes(value: bytes) -> str:
    if isinstance(value, Binary) and value.subtype == _UUID_SUBTYPE and len(value) == 16:
        return str(UUID(bytes=bytes(value)))
    return base64.b64encode(value).decode("ascii")


def _from_regex(value: Regex[Any]) -> str:
    pattern = value.pattern
    return pattern.decode("utf-8", "replace") if isinstance(pattern, bytes) else pattern


def _write(value: Any) -> str:
    return format_time(value) if isinstance(value, datetime) else str(value)


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
    # What is given back when the request is answered.
    held: ExitStack

    @method_decorator(csp_replace(_BROWSABLE_POLICY))
    def dispatch(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponseBase:
        with ExitStack() as self.held:
            return super().dispatch(request, *args, **kwargs)

    def initial(self, request: Request, *args: Any, **kwargs: Any) -> None:
        """Check access and rate, then the parameters. Raises APIException."""
        super().initial(request, *args, **kwargs)
        self.held.enter_context(hold_share(self.kwargs["wsid"]))
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
    return name_id(get_automation(workspace_id, automation_id, is_deleted_too=True)["_id"])


_PLAIN = frozenset({str, int, bool, type(None)})
_TEXTS = frozenset({str, bytes, Binary, Code, Regex})
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


def verify_free(account_id: str, *, workspace_id: str) -> None:
    """Raise ValidationError if the account is another workspace's."""
    if store.find_owners([account_id]).get(account_id, workspace_id) != workspace_id:
        raise serializers.ValidationError(str(AccountTaken(account_id)), "other_workspace")
