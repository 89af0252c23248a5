"""An id for each request: in its answer, and in every log line that is written for it."""

from __future__ import annotations

import re
import secrets
from collections.abc import Callable
from contextvars import ContextVar
from typing import Any

from django.http import HttpRequest
from django.http.response import HttpResponseBase

HEADER = "X-Request-Id"
_NOTED = "request_id"  # no header can have this name
_WELL_FORMED = re.compile(r"[A-Za-z0-9._-]{8,64}")

# Empty outside of a request, as in commands and in threads of their own.
request_id: ContextVar[str] = ContextVar("request_id", default="")


class RequestIdMiddleware:
    """Take the id that a proxy gave the request, if it looks like one; else make one."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponseBase]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponseBase:
        """Pass the request on under its id, and answer with it."""
        value = read_request_id(request.META.get("HTTP_X_REQUEST_ID"))
        request.META[_NOTED] = value
        token = request_id.set(value)
        try:
            response = self.get_response(request)
        finally:
            request_id.reset(token)
        response[HEADER] = value
        return response


def read_id_of(request: Any) -> str | None:
    """Return the id that a request was given, None if it has none yet."""
    value: str | None = getattr(request, "META", {}).get(_NOTED)
    return value


def read_request_id(given: str | None) -> str:
    """Return `given` if it is well-formed: anybody may send the header. Else a new id."""
    if given is not None and _WELL_FORMED.fullmatch(given):
        return given
    return secrets.token_hex(8)
