"""Every error of the API has one shape."""

import logging
from collections.abc import Callable
from typing import Any

from django.core.exceptions import PermissionDenied, RequestDataTooBig, SuspiciousOperation
from django.http import Http404
from rest_framework import exceptions, status
from rest_framework.response import Response
from rest_framework.settings import api_settings
from rest_framework.utils.serializer_helpers import ReturnDict
from rest_framework.views import exception_handler

from automations.rules.store import OverBound
from tracking.exceptions import StorageRefused, TrackingError
from tracking.queries.run_filters import InvalidCursor
from tracking.queries.time_grid import BadRange

logger = logging.getLogger("automations")

RETRY_AFTER_SECONDS = 1
_CURSOR = "Use 'nextCursor' of an answer as it is, or leave it out."


class ServiceUnavailable(exceptions.APIException):
    """MongoDB is unavailable. Nothing was changed, and asking again is safe."""

    status_code = status.HTTP_503_SERVICE_UNAVAILABLE
    default_detail = "The database did not answer in time. Try again."
    default_code = "unavailable"
    wait = RETRY_AFTER_SECONDS  # becomes the Retry-After header


class RequestTooLarge(exceptions.APIException):
    status_code = status.HTTP_413_REQUEST_ENTITY_TOO_LARGE
    default_detail = "The body is too large."
    default_code = "too_large"


class ServerError(exceptions.APIException):
    """A bug of ours; the log has it."""

    default_detail = "Something broke on our side. It was logged."
    default_code = "server_error"


def handle_error(error: Exception, context: dict[str, Any]) -> Response:
    """Return the answer to an exception of a view (DRF's EXCEPTION_HANDLER)."""
    translated = next(make(error) for kind, make in _TRANSLATIONS if isinstance(error, kind))
    if isinstance(translated, ServerError):
        request = context.get("request")
        logger.error(
            "❌ [API] %s %s: %s",
            getattr(request, "method", "?"),
            getattr(request, "path", "?"),
            type(error).__name__,
            exc_info=error,
        )
    response = exception_handler(translated, context)
    assert response is not None  # noqa: S101 - it answers every APIException
    body = {"success": False, "error": build_error(translated)}
    # The browsable API shows a refused form again, with what was typed into it.
    form = getattr(context.get("view"), "refused_form", None)
    response.data = body if form is None else ReturnDict(body, serializer=form)
    return response


def build_error(error: exceptions.APIException) -> dict[str, str | None]:
    """Return the first fact of an exception; `field` is a dotted path."""
    detail: Any = error.detail
    path: list[str] = []
    while isinstance(detail, dict | list):
        if not detail:
            return {"code": error.default_code, "message": str(error), "field": None}
        if isinstance(detail, dict):
            name, detail = next(iter(detail.items()))
            if name != api_settings.NON_FIELD_ERRORS_KEY:
                path.append(str(name))
        else:
            # DRF leaves an empty entry for each item of a list that is fine.
            index = next((at for at, item in enumerate(detail) if item), 0)
            detail = detail[index]
            if isinstance(detail, dict):
                path.append(str(index))
    return {
        "code": str(getattr(detail, "code", error.default_code)),
        "message": str(detail),
        "field": ".".join(path) or None,
    }


def _name_bound(error: OverBound) -> dict[str, str]:
    return {error.field or api_settings.NON_FIELD_ERRORS_KEY: str(error)}


# By kind: what is answered. Most texts are not shown, because they may name what was looked for.
_TRANSLATIONS: tuple[tuple[type[Exception], Callable[[Any], exceptions.APIException]], ...] = (
    (exceptions.APIException, lambda error: error),
    (BadRange, lambda error: exceptions.ValidationError({"from": str(error)}, "bad_range")),
    (OverBound, lambda error: exceptions.ValidationError(_name_bound(error), "over_bound")),
    (InvalidCursor, lambda _: exceptions.ValidationError({"cursor": _CURSOR}, "invalid")),
    (StorageRefused, lambda error: ServiceUnavailable(str(error))),
    (TrackingError, lambda _: ServiceUnavailable()),
    (Http404, lambda _: exceptions.NotFound()),
    (PermissionDenied, lambda _: exceptions.PermissionDenied()),
    (RequestDataTooBig, lambda _: RequestTooLarge()),
    # A form with too many fields, and the like.
    (SuspiciousOperation, lambda _: exceptions.ParseError()),
    (Exception, lambda _: ServerError()),
)
