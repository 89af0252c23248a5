"""How the API documents itself: operations, the shapes of answers, and examples made of these.

The shape of an answer is a TypedDict beside the function that builds it. Examples of its fields
stand in the annotations, and those of whole answers are put together from them.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Annotated, Any, TypedDict, TypeVar, is_typeddict

import msgspec
from drf_spectacular.extensions import (
    OpenApiAuthenticationExtension,
    OpenApiSerializerExtension,
)
from drf_spectacular.plumbing import ResolvedComponent
from drf_spectacular.utils import OpenApiExample, OpenApiResponse, extend_schema
from drf_spectacular.views import SpectacularAPIView, SpectacularSwaggerSplitView
from msgspec import Meta
from rest_framework import serializers

Method = TypeVar("Method", bound=Callable[..., Any])
Shape = TypeVar("Shape", bound=type[Any])
Input = type[serializers.Serializer[Any]]

JSON, CSV = "application/json", "text/csv"
_REFERENCES = "#/components/schemas/{name}"

# Types of fields that many answers have, each with its example.
Success = Annotated[bool, Meta(extra_json_schema={"const": True})]
Id = Annotated[str, Meta(examples=["6650c0de0000000000000001"])]
WorkspaceId = Annotated[str, Meta(examples=["w_84213"])]
AccountId = Annotated[str, Meta(examples=["17841400000000001"])]
EventId = Annotated[str, Meta(examples=["18186779461257189"])]
Count = Annotated[int, Meta(examples=[51])]
Moment = Annotated[datetime, Meta(tz=True, examples=["2026-11-24T00:16:28.134Z"])]
# The same as text, in documents that are JSON already.
StoredMoment = Annotated[
    str, Meta(examples=["2026-11-24T00:16:28.134Z"], extra_json_schema={"format": "date-time"})
]
Range = TypedDict("Range", {"from": Moment, "to": Moment})


_with_unknown_fields: set[str] = set()


def keeps_unknown_fields(shape: Shape) -> Shape:
    """Mark the shape of a stored document, which may have fields of another product."""
    _with_unknown_fields.add(shape.__name__)
    return shape


class Done(TypedDict):
    """The request was carried out."""

    success: Success


class ErrorFact(TypedDict):
    """One fact: a `code` for programs, a `message` for people, the `field` that it is about."""

    code: str
    message: str
    field: Annotated[str | None, Meta(description="A dotted path, or null.")]


class ErrorAnswer(TypedDict):
    """What every error looks like."""

    success: Annotated[bool, Meta(extra_json_schema={"const": False})]
    error: ErrorFact


# By status: when it is answered, and an example.
_ERRORS: dict[int, tuple[str, ErrorFact]] = {
    400: (
        "A parameter or a field is not what it should be; `field` names it.",
        {"code": "invalid_choice", "message": '"week" is not a valid choice.', "field": "unit"},
    ),
    401: (
        "No usable token.",
        {
            "code": "invalid_token",
            "message": "The token is unknown, expired or revoked.",
            "field": None,
        },
    ),
    403: (
        "By a browser's session: the CSRF token is missing.",
        {
            "code": "permission_denied",
            "message": "CSRF Failed: CSRF token missing.",
            "field": None,
        },
    ),
    404: (
        "It does not exist, or belongs to another workspace.",
        {"code": "not_found", "message": "Not found.", "field": None},
    ),
    406: (
        "The `Accept` header asks for something else than JSON.",
        {
            "code": "not_acceptable",
            "message": "Could not satisfy the request Accept header.",
            "field": None,
        },
    ),
    413: (
        "The body is larger than 4 MiB.",
        {"code": "too_large", "message": "The body is too large.", "field": None},
    ),
    415: (
        "The body has another type than JSON.",
        {
            "code": "unsupported_media_type",
            "message": 'Unsupported media type "text/plain" in request.',
            "field": None,
        },
    ),
    429: (
        "The token asked too often; `Retry-After` says when to ask again.",
        {
            "code": "throttled",
            "message": "Request was throttled. Expected available in 1 second.",
            "field": None,
        },
    ),
    503: (
        "The database did not answer in time. Nothing was changed; ask again.",
        {
            "code": "unavailable",
            "message": "The database did not answer in time. Try again.",
            "field": None,
        },
    ),
}
_OF_READS = (400, 401, 404, 406, 429, 503)


def describe(
    name: str,
    answer: Any,
    *,
    status: int = 200,
    query: Input | None = None,
    body: tuple[Input, Mapping[str, Any]] | None = None,
    tag: str | None = None,
) -> Callable[[Method], Method]:
    """Return the decorator that documents a view's method as the operation of that name.

    `answer` is the TypedDict of its answer, or the text of a CSV file. Generated clients have the
    name; the first line of the method's docstring is the summary.
    """
    is_csv = isinstance(answer, str)
    example = answer if is_csv else build_example(answer)

    def decorate(method: Method) -> Method:
        summary, _, description = (method.__doc__ or name).partition("\n")
        responses: dict[Any, Any] = {
            (status, CSV if is_csv else JSON): OpenApiResponse(
                response={"type": "string"} if is_csv else answer,
                description=summary,
                examples=[
                    OpenApiExample("answer", value=example, media_type=CSV if is_csv else JSON)
                ],
            )
        }
        for code in _OF_READS if method.__name__ == "get" else _ERRORS:
            responses[code, JSON] = _describe_error(code)
        decorated: Callable[[Method], Method] = extend_schema(
            operation_id=name,
            tags=[tag] if tag else None,
            summary=summary.rstrip("."),
            description=description.strip(),
            parameters=[] if query is None else [query],
            request=None if body is None else {JSON: body[0]},
            responses=responses,
            examples=[]
            if body is None
            else [OpenApiExample("body", value=body[1], request_only=True)],
        )
        return decorated(method)

    return decorate


def build_example(shape: Any) -> Any:
    """Return an example of an answer, from those of its fields."""
    [schema], components = _build_schemas(shape)
    return _build_example(schema, components)


def _build_example(schema: Mapping[str, Any], components: Mapping[str, Any]) -> Any:
    if "$ref" in schema:
        schema = components[schema["$ref"].rpartition("/")[2]]
    if "examples" in schema:
        return schema["examples"][0]
    if "anyOf" in schema:
        return _build_example(schema["anyOf"][0], components)
    if schema["type"] == "array":
        return [_build_example(schema["items"], components)]
    if schema["type"] == "boolean":
        return schema.get("const", True)
    return {name: _build_example(one, components) for name, one in schema["properties"].items()}


def _build_schemas(shape: Any) -> tuple[tuple[dict[str, Any], ...], dict[str, Any]]:
    schemas, components = msgspec.json.schema_components([shape], ref_template=_REFERENCES)
    for name, schema in components.items():
        schema["description"] = inspect.cleandoc(schema["description"])
        if name in _with_unknown_fields:
            schema["additionalProperties"] = True
    return schemas, components


def _describe_error(code: int) -> OpenApiResponse:
    meaning, fact = _ERRORS[code]
    value = {"success": False, "error": fact}
    return OpenApiResponse(
        response=ErrorAnswer,
        description=meaning,
        examples=[OpenApiExample("error", value=value, media_type=JSON)],
    )


class AnswerExtension(OpenApiSerializerExtension):  # type: ignore[no-untyped-call]
    """Puts the TypedDict of an answer into the schema, with those that it is made of."""

    @classmethod
    def _matches(cls, target: Any) -> bool:
        return is_typeddict(target)

    def get_name(self, auto_schema: Any, direction: Any) -> str:
        name: str = self.target.__name__
        return name

    def map_serializer(self, auto_schema: Any, direction: Any) -> dict[str, Any]:
        _, components = _build_schemas(self.target)
        own: dict[str, Any] = components.pop(self.target.__name__)
        for name, schema in components.items():
            component = ResolvedComponent(  # type: ignore[no-untyped-call]
                name=name, type=ResolvedComponent.SCHEMA, object=name, schema=schema
            )
            auto_schema.registry.register_on_missing(component)
        return own


class BearerScheme(OpenApiAuthenticationExtension):  # type: ignore[no-untyped-call]
    """The API token, as `manage.py create_api_token` prints it."""

    target_class = "automations.auth.authentication.BearerTokenAuthentication"
    name = "token"

    def get_security_definition(self, auto_schema: Any) -> dict[str, Any]:
        return {"type": "http", "scheme": "bearer", "description": self.__doc__}


class SessionScheme(OpenApiAuthenticationExtension):  # type: ignore[no-untyped-call]
    """The session that the login page opens, for browsers; unsafe methods need the CSRF token."""

    target_class = "automations.auth.authentication.SessionTokenAuthentication"
    name = "session"

    def get_security_definition(self, auto_schema: Any) -> dict[str, Any]:
        description = self.__doc__
        return {"type": "apiKey", "in": "cookie", "name": "sessionid", "description": description}


class SchemaView(SpectacularAPIView):
    """`/api/schema`: OpenAPI as YAML, or as JSON to `Accept: application/json`."""


class DocsView(SpectacularSwaggerSplitView):
    """`/api/docs`: Swagger UI from files of this site; its script is a request of its own."""

    url_name = "automations:schema"
