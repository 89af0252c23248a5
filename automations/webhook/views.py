"""The webhook: verify, hand on, answer. What each answer makes Meta do stands beside it."""

import logging
from collections.abc import Iterable
from hmac import compare_digest
from typing import IO, Any

from django.conf import settings
from django.core.exceptions import RequestDataTooBig
from django.http import HttpRequest, UnreadablePostError
from django.http.response import HttpResponseBase
from drf_spectacular.extensions import OpenApiAuthenticationExtension
from drf_spectacular.utils import OpenApiExample, OpenApiParameter, OpenApiResponse, extend_schema
from rest_framework.authentication import BaseAuthentication
from rest_framework.exceptions import AuthenticationFailed, MethodNotAllowed
from rest_framework.negotiation import BaseContentNegotiation
from rest_framework.parsers import BaseParser
from rest_framework.renderers import BaseRenderer
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from automations import metrics
from automations.conf import conf
from automations.instagram.signature import InvalidSignature, verify_signature
from automations.webhook.deliveries import handle_delivery
from tracking.clock import read_now
from tracking.exceptions import TrackingUnavailable

logger = logging.getLogger("automations")
refusals = logging.getLogger("automations.refusals")  # project/logs.py bounds its lines

_TEXT = "text/plain"


def _document(description: str, body: str) -> OpenApiResponse:
    example = OpenApiExample("answer", value=body, media_type=_TEXT)
    return OpenApiResponse({"type": "string"}, description, examples=[example])


class SignatureAuthentication(BaseAuthentication):
    """Meta's signature over the raw bytes of a delivery.

    It names no scheme for WWW-Authenticate, so that DRF answers 403.
    """

    def authenticate(self, request: Request) -> tuple[str, None] | None:
        """Raises AuthenticationFailed, and RequestDataTooBig before a byte is read."""
        if request.method != "POST":
            return None
        body = request.body
        try:
            verify_signature(body, request.META.get("HTTP_X_HUB_SIGNATURE_256"), conf.app_secrets)
        except InvalidSignature as error:
            refusals.warning("⚠️ [TRACKING] Delivery refused: %s", error)
            raise AuthenticationFailed("Invalid signature") from error
        return "Meta", None


class RawBodyParser(BaseParser):
    """The bytes as they came; handle_delivery() reads them."""

    media_type = "*/*"

    def parse(
        self, stream: IO[Any], media_type: str | None = None, parser_context: Any = None
    ) -> Any:
        return stream.read()


class PlainTextRenderer(BaseRenderer):
    """Never HTML: the challenge is whatever the caller sent."""

    media_type = _TEXT
    format = "txt"

    def render(
        self, data: Any, accepted_media_type: str | None = None, renderer_context: Any = None
    ) -> str:
        return str(data)


class AnyContent(BaseContentNegotiation):
    """No Accept and no Content-Type is a reason to refuse Meta."""

    def select_parser(self, request: Request, parsers: Iterable[BaseParser]) -> BaseParser:
        return next(iter(parsers))

    def select_renderer(
        self, request: Request, renderers: Iterable[BaseRenderer], format_suffix: str | None = None
    ) -> tuple[BaseRenderer, str]:
        renderer = next(iter(renderers))
        return renderer, renderer.media_type


class InstagramWebhookView(APIView):
    """Meta verifies the endpoint once, then posts deliveries.

    Meta retries for 36 hours whatever is not answered with 2xx. So only what may succeed later
    (503) or does not come from Meta (403, 413) is refused. Everything else is answered 200, and
    handled, kept as a dead letter or ignored.
    """

    http_method_names = ["get", "post"]
    authentication_classes = [SignatureAuthentication]
    permission_classes = []
    throttle_classes = []
    content_negotiation_class = AnyContent
    parser_classes = [RawBodyParser]
    renderer_classes = [PlainTextRenderer]

    def dispatch(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponseBase:
        self.arrived_at = read_now()
        return super().dispatch(request, *args, **kwargs)

    @extend_schema(
        operation_id="verifyWebhook",
        tags=["webhook"],
        summary="Verify the endpoint, as Meta does once",
        auth=[],
        parameters=[
            OpenApiParameter("hub.mode", required=True, enum=["subscribe"]),
            OpenApiParameter("hub.verify_token", required=True),
            OpenApiParameter("hub.challenge"),
        ],
        responses={
            (200, _TEXT): _document("The challenge.", "1158201444"),
            (403, _TEXT): _document("The token is wrong.", "Wrong verify token"),
        },
    )
    def get(self, request: Request) -> Response:
        query = request.query_params
        token = conf.verify_token
        given = query.get("hub.verify_token", "").encode("utf-8", "surrogatepass")
        is_right = compare_digest(token.encode(), given)
        if not (token and is_right and query.get("hub.mode") == "subscribe"):
            raise AuthenticationFailed("Wrong verify token")
        return Response(query.get("hub.challenge", ""))

    @extend_schema(
        operation_id="takeDelivery",
        tags=["webhook"],
        summary="Take a delivery of Meta: up to 1000 comments and messages",
        request={"application/json": {"type": "object"}},
        examples=[
            OpenApiExample("body", value={"object": "instagram", "entry": []}, request_only=True)
        ],
        responses={
            (200, _TEXT): _document(
                "Everything in it is stored; Meta does not send it again.", "EVENT_RECEIVED"
            ),
            (403, _TEXT): _document("The signature is missing or wrong.", "Invalid signature"),
            (413, _TEXT): _document("The body is larger than 4 MiB.", "Body over 4194304 bytes"),
            (503, _TEXT): _document(
                "The database did not answer in time; send it again.", "Try again later"
            ),
        },
    )
    def post(self, request: Request) -> Response:
        # Without a body DRF does not ask the parser, and returns an empty dict.
        body: Any = request.data or b""
        summary = handle_delivery(body, arrived_at=self.arrived_at)
        if summary.ignored:
            for reason, count in summary.ignored.items():
                metrics.IGNORED.labels(reason).inc(count)
            said = (f"{reason} {count}" for reason, count in sorted(summary.ignored.items()))
            logger.debug("Ignored: %s", ", ".join(said))
        return Response("EVENT_RECEIVED")

    def handle_exception(self, exc: Exception) -> Response:
        """Answer an exception in plain text; a bug of ours never becomes a 4xx."""
        match exc:
            case AuthenticationFailed():
                return Response(str(exc.detail), status=403)
            case MethodNotAllowed():
                return Response(str(exc.detail), status=405)
            case RequestDataTooBig():
                limit = settings.DATA_UPLOAD_MAX_MEMORY_SIZE
                return Response(f"Body over {limit} bytes", status=413)
            case UnreadablePostError():
                return Response("The body did not arrive", status=400)
            case TrackingUnavailable():
                logger.error("❌ [TRACKING] Delivery put off: %s", exc)
                # Meta sends it again; what was stored of it will be recognised (I3).
                return Response("Try again later", status=503, headers={"Retry-After": "5"})
        logger.error("❌ [TRACKING] Delivery not handled", exc_info=exc)
        return Response("Server error", status=500)


class SignatureScheme(OpenApiAuthenticationExtension):  # type: ignore[no-untyped-call]
    """`sha256=` and the HMAC-SHA256 of the raw body with the app secret, in hexadecimal."""

    target_class = SignatureAuthentication
    name = "signature"

    def get_security_definition(self, auto_schema: Any) -> dict[str, Any]:
        return {
            "type": "apiKey",
            "in": "header",
            "name": "X-Hub-Signature-256",
            "description": self.__doc__,
        }
