"""How the API documents itself: operations, shapes of answers, and examples.

The shape of an answer is a TypedDict beside the function that builds it. Examples of its fields
stand in the annotations, and those of whole answers are put together from them.
"""

import inspect
import threading
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Annotated, Any, ClassVar, TypedDict, TypeVar, is_typeddict

import msgspec
from django.http import HttpResponse
from django.utils.encoding import force_bytes
from drf_spectacular.extensions import OpenApiAuthenticationExtension, OpenApiSerializerExtension
from drf_spectacular.plumbing import ResolvedComponent
from drf_spectacular.utils import OpenApiExample, OpenApiResponse, extend_schema
from drf_spectacular.views import SpectacularAPIView
from msgspec import Meta
from rest_framework import serializers
from rest_framework.request import Request

from automations.auth.tokens import READ_ONLY

Method = TypeVar("Method", bound=Callable[..., Any])
Shape = TypeVar("Shape", bound=type[Any])
Input = type[serializers.Serializer[Any]]

JSON, CSV = "application/json", "text/csv"
_REFERENCES = "#/components/schemas/{name}"


def eg(example: Any, description: str | None = None) -> Meta:
    return Meta(examples=[example], description=description)


# Types of fields that many answers have.
Success = Annotated[bool, Meta(extra_json_schema={"const": True})]
Id = Annotated[str, eg("6650c0de0000000000000001")]
WorkspaceId = Annotated[str, eg("w_84213")]
AccountId = Annotated[str, eg("17841400000000001")]
EventId = Annotated[str, eg("18186779461257189")]
Step = Annotated[str, eg("opening_dm", "comment_reply, opening_dm, ask_follow or main_dm.")]
State = Annotated[str, eg("failed", "sent, shadow, skipped, failed, unknown or expired.")]
Reason = Annotated[str | None, eg("window", "Why, in a word.")]
MetaCode = Annotated[int | None, eg(10, "Meta's error code.")]
MetaSubcode = Annotated[int | None, eg(2534022, "Meta's error subcode.")]
Moment = Annotated[datetime, Meta(tz=True, examples=["2026-11-24T00:16:28.134Z"])]
# The same as text, in documents that are JSON already.
StoredMoment = Annotated[
    str, Meta(examples=["2026-11-24T00:16:28.134Z"], extra_json_schema={"format": "date-time"})
]
Pending = Annotated[int, eg(0, "Events that had arrived by `asOf` and are not in the figures.")]
Range = TypedDict("Range", {"from": Moment, "to": Moment})
_with_unknown_fields: set[str] = set()


def keeps_unknown_fields(shape: Shape) -> Shape:
    """Mark a stored document, which may have fields of another product."""
    _with_unknown_fields.add(shape.__name__)
    return shape


class Done(TypedDict):
    """The request was carried out."""

    success: Success


class ErrorFact(TypedDict):
    """A `code` for programs, a `message` for people, and the `field`."""

    code: str
    message: str
    field: Annotated[str | None, Meta(description="A dotted path, or null.")]


class ErrorAnswer(TypedDict):
    """What every error looks like."""

    success: Annotated[bool, Meta(extra_json_schema={"const": False})]
    error: ErrorFact


# By status: when it is answered, and an example of its code and message.
_ERRORS = {
    400: ("A parameter or field is not what it should be.", "invalid", "Not a valid string."),
    401: ("No usable token.", "invalid_token", "The token is unknown, expired or revoked."),
    403: ("The token may only read, or CSRF failed.", "read_only_token", READ_ONLY),
    404: ("It does not exist, or belongs to another workspace.", "not_found", "Not found."),
    406: ("Something else than JSON is accepted.", "not_acceptable", "Could not satisfy it."),
    413: ("The body is larger than 4 MiB.", "too_large", "The body is too large."),
    415: ("The body is no JSON.", "unsupported_media_type", 'Unsupported type "text/plain".'),
    429: ("Too many requests of the token; see `Retry-After`.", "throttled", "Wait 1 second."),
    503: ("Nothing was changed; ask again.", "unavailable", "The database did not answer in time."),
}
_EXAMPLES = {"boolean": True, "integer": 51}  # of fields that have none of their own
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
    """Return the decorator that documents a view's method.

    `answer` is the TypedDict of its answer, or the text of a CSV file. Generated clients have the
    name; the first line of the method's docstring is the summary.
    """
    is_csv = isinstance(answer, str)
    media_type, shape = (CSV, {"type": "string"}) if is_csv else (JSON, answer)
    example = answer if is_csv else build_example(answer)

    def decorate(method: Method) -> Method:
        summary, _, description = (method.__doc__ or name).partition("\n")
        found = OpenApiResponse(
            response=shape,
            description=summary,
            examples=[OpenApiExample("answer", value=example, media_type=media_type)],
        )
        statuses = _OF_READS if method.__name__ == "get" else _ERRORS
        decorated: Callable[[Method], Method] = extend_schema(
            operation_id=name,
            tags=[tag] if tag else None,
            summary=summary.rstrip("."),
            description=description.strip(),
            parameters=[query] if query else [],
            request={JSON: body[0]} if body else None,
            responses={(status, media_type): found}
            | {(one, JSON): _describe_error(one) for one in statuses},
            examples=[OpenApiExample("body", value=body[1], request_only=True)] if body else [],
        )
        return decorated(method)

    return decorate


class SchemaView(SpectacularAPIView):
    """The schema, built once in a process: it takes 75 ms, and fails in two threads at once."""

    _lock = threading.Lock()
    _built: ClassVar[dict[str, bytes]] = {}

    @extend_schema(exclude=True)
    def get(self, request: Request, *args: Any, **kwargs: Any) -> HttpResponse:
        renderer = request.accepted_renderer
        with self._lock:
            if renderer.media_type not in self._built:
                data = super().get(request, *args, **kwargs).data  # type: ignore[no-untyped-call]
                written = force_bytes(renderer.render(data, renderer.media_type))
                self._built[renderer.media_type] = written
        return HttpResponse(self._built[renderer.media_type], content_type=renderer.media_type)


def build_example(shape: Any) -> Any:
    [schema], components = _build_schemas(shape)
    return _build_example(schema, components)


def _build_example(schema: Mapping[str, Any], components: Mapping[str, Any]) -> Any:
    if "anyOf" in schema and "examples" not in schema:
        schema = schema["anyOf"][0]
    if "$ref" in schema:
        schema = components[schema["$ref"].rpartition("/")[2]]
    if "examples" in schema:
        return schema["examples"][0]
    if schema["type"] in _EXAMPLES:
        return _EXAMPLES[schema["type"]]
    if schema["type"] == "array":
        return [_build_example(schema["items"], components)]
    if "additionalProperties" in schema and "properties" not in schema:
        key = _build_example(schema.get("propertyNames", {"type": "string"}), components)
        return {key: _build_example(schema["additionalProperties"], components)}
    return {name: _build_example(one, components) for name, one in schema["properties"].items()}


def _build_schemas(shape: Any) -> tuple[tuple[dict[str, Any], ...], dict[str, Any]]:
    schemas, components = msgspec.json.schema_components([shape], ref_template=_REFERENCES)
    for name, schema in components.items():
        schema["description"] = inspect.cleandoc(schema.get("description", ""))
        if name in _with_unknown_fields:
            schema["additionalProperties"] = True
    return schemas, components


def _describe_error(status: int) -> OpenApiResponse:
    meaning, code, message = _ERRORS[status]
    field = "name" if status == 400 else None
    value = {"success": False, "error": {"code": code, "message": message, "field": field}}
    return OpenApiResponse(
        response=ErrorAnswer,
        description=meaning,
        examples=[OpenApiExample("error", value=value, media_type=JSON)],
    )


class AnswerExtension(OpenApiSerializerExtension):  # type: ignore[no-untyped-call]
    """Puts the TypedDict of an answer into the schema."""

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
    """The API token, as `manage.py create_api_token` prints it.

    One of scope `read` gets 403 for every method but GET, HEAD and OPTIONS.
    """

    target_class = "automations.auth.tokens.BearerTokenAuthentication"
    name = "token"

    def get_security_definition(self, auto_schema: Any) -> dict[str, Any]:
        return {"type": "http", "scheme": "bearer", "description": inspect.getdoc(self)}


class SessionScheme(OpenApiAuthenticationExtension):  # type: ignore[no-untyped-call]
    """The session of the login page; unsafe methods need the CSRF token."""

    target_class = "automations.auth.tokens.SessionTokenAuthentication"
    name = "session"

    def get_security_definition(self, auto_schema: Any) -> dict[str, Any]:
        description = self.__doc__
        return {"type": "apiKey", "in": "cookie", "name": "sessionid", "description": description}
