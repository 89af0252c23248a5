"""How the API documents itself: every operation with its parameters, answers and an example."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import msgspec
from drf_spectacular.extensions import OpenApiAuthenticationExtension
from drf_spectacular.utils import OpenApiExample, OpenApiResponse, extend_schema
from rest_framework import serializers

from automations.api import examples, schemas
from automations.api.query_parameters import RangeQuery, RunFilterQuery, RunPageQuery, SeriesQuery
from automations.api.serializers import AutomationChangesSerializer, AutomationSerializer

Method = TypeVar("Method", bound=Callable[..., Any])
Shape = type[serializers.Serializer[Any]]

JSON = "application/json"

_MEANINGS = {
    400: "A parameter or a field is not what it should be; `field` names it.",
    401: "No usable token.",
    403: "By a browser's session: the CSRF token is missing.",
    404: "There is no such thing, or it is another workspace's.",
    406: "An `Accept` that asks for something else than JSON.",
    413: "The body is larger than 4 MiB.",
    415: "A body of another type than JSON.",
    429: "The token asked too often; `Retry-After` says when to come again.",
    503: "The database did not answer in time. Nothing was changed; ask again.",
}
_READ = (400, 401, 404, 406, 429, 503)
_WRITE = (400, 401, 403, 404, 406, 413, 415, 429, 503)


class Operation(msgspec.Struct, frozen=True, kw_only=True):
    """What is said of one operation; without an `answer` it answers CSV."""

    summary: str
    answer: Shape | None
    example: Any
    status: int = 200
    query: Shape | None = None
    body: tuple[Shape, Any] | None = None
    errors: tuple[int, ...] = _READ
    tag: str | None = None


# By the name that a generated client gives the operation.
OPERATIONS = {
    "listAutomations": Operation(
        summary="List the automations",
        answer=schemas.AutomationListAnswerSerializer,
        example=examples.AUTOMATIONS,
    ),
    "createAutomation": Operation(
        summary="Create an automation",
        answer=schemas.OneAutomationAnswerSerializer,
        example=examples.AUTOMATION,
        status=201,
        body=(AutomationSerializer, examples.NEW_AUTOMATION),
        errors=_WRITE,
    ),
    "getAutomation": Operation(
        summary="Show an automation",
        answer=schemas.OneAutomationAnswerSerializer,
        example=examples.AUTOMATION,
    ),
    "changeAutomation": Operation(
        summary="Change an automation, or switch it on or off",
        answer=schemas.OneAutomationAnswerSerializer,
        example=examples.AUTOMATION,
        body=(AutomationChangesSerializer, examples.CHANGES),
        errors=_WRITE,
    ),
    "deleteAutomation": Operation(
        summary="Delete an automation; its runs and counts are kept",
        answer=schemas.DoneAnswerSerializer,
        example=examples.DONE,
        errors=_WRITE,
    ),
    "getAutomationStats": Operation(
        summary="Count an automation's runs now",
        answer=schemas.StatsAnswerSerializer,
        example=examples.STATS,
    ),
    "listAccounts": Operation(
        summary="List the accounts",
        answer=schemas.AccountListAnswerSerializer,
        example=examples.ACCOUNTS,
    ),
    "listRuns": Operation(
        summary="List the runs of the workspace",
        answer=schemas.RunPageAnswerSerializer,
        example=examples.RUNS,
        query=RunPageQuery,
    ),
    "listAutomationRuns": Operation(
        summary="List the runs of an automation",
        answer=schemas.RunPageAnswerSerializer,
        example=examples.RUNS,
        query=RunPageQuery,
    ),
    "getRun": Operation(
        summary="Show a run", answer=schemas.RunAnswerSerializer, example=examples.RUN
    ),
    "exportRuns": Operation(
        summary="Export the runs of the workspace",
        tag="runs",
        answer=None,
        example=examples.CSV,
        query=RunFilterQuery,
    ),
    "exportAutomationRuns": Operation(
        summary="Export the runs of an automation",
        answer=None,
        example=examples.CSV,
        query=RunFilterQuery,
    ),
    "getSeries": Operation(
        summary="Count the workspace's runs by hour or day",
        answer=schemas.SeriesAnswerSerializer,
        example=examples.SERIES,
        query=SeriesQuery,
    ),
    "getAutomationSeries": Operation(
        summary="Count an automation's runs by hour or day",
        answer=schemas.SeriesAnswerSerializer,
        example=examples.SERIES,
        query=SeriesQuery,
    ),
    "getAutomationOutcomes": Operation(
        summary="Tell what became of an automation's runs",
        answer=schemas.OutcomesAnswerSerializer,
        example=examples.OUTCOMES,
        query=RangeQuery,
    ),
}


def describe(name: str) -> Callable[[Method], Method]:
    """Return the decorator that documents a view's method as the operation of that name."""
    operation = OPERATIONS[name]
    media_type = JSON if operation.answer else "text/csv"
    answer = OpenApiResponse(
        response=operation.answer or {"type": "string"},
        description=operation.summary,
        examples=[OpenApiExample("answer", value=operation.example, media_type=media_type)],
    )
    responses: dict[Any, Any] = {(operation.status, media_type): answer}
    responses |= {(code, JSON): _build_error(code) for code in operation.errors}
    body = operation.body
    decorate: Callable[[Method], Method] = extend_schema(
        operation_id=name,
        tags=[operation.tag] if operation.tag else None,
        summary=operation.summary,
        parameters=[] if operation.query is None else [operation.query],
        request=None if body is None else {JSON: body[0]},
        responses=responses,
        examples=[] if body is None else [OpenApiExample("body", value=body[1], request_only=True)],
    )
    return decorate


def _build_error(code: int) -> OpenApiResponse:
    value = examples.ERRORS[code]
    return OpenApiResponse(
        response=schemas.ErrorAnswerSerializer,
        description=_MEANINGS[code],
        examples=[OpenApiExample("error", value=value, media_type=JSON)],
    )


class BearerScheme(OpenApiAuthenticationExtension):  # type: ignore[no-untyped-call]
    """The API token, as `manage.py create_api_token` prints it."""

    target_class = "automations.auth.authentication.BearerTokenAuthentication"
    name = "token"

    def get_security_definition(self, auto_schema: Any) -> dict[str, Any]:
        """Return the scheme as OpenAPI has it."""
        return {"type": "http", "scheme": "bearer", "description": self.__doc__}


class SessionScheme(OpenApiAuthenticationExtension):  # type: ignore[no-untyped-call]
    """The session that the login page opens, for browsers; unsafe methods need the CSRF token."""

    target_class = "automations.auth.authentication.SessionTokenAuthentication"
    name = "session"

    def get_security_definition(self, auto_schema: Any) -> dict[str, Any]:
        """Return the scheme as OpenAPI has it."""
        return {
            "type": "apiKey", "in": "cookie", "name": "sessionid", "description": self.__doc__,
        }  # fmt: skip
