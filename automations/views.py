"""The webhook: validate, hand on, answer. What each answer makes Meta do stands beside it."""

import logging
import time
from datetime import UTC, datetime
from hmac import compare_digest
from typing import Any

from django.http import HttpResponse
from rest_framework.request import Request
from rest_framework.views import APIView

from automations import metrics
from automations.conf import conf
from automations.deliveries import handle_delivery, summarize_ignored
from automations.signature import InvalidSignature, verify_signature
from tracking.exceptions import TrackingUnavailable
from tracking.runs import truncate_to_milliseconds

logger = logging.getLogger("automations")

MAX_BODY_BYTES = 4 * 1024 * 1024
RETRY_AFTER_SECONDS = 5


class InstagramWebhookView(APIView):
    """Meta's side of the product: it verifies the endpoint once, then posts deliveries.

    Meta retries for 36 hours whatever is not answered with 2xx, so only what may succeed later
    (503) or is not Meta's (403, 413) is refused; the rest is answered 200 and kept or ignored.
    """

    authentication_classes = ()  # the signature is what authenticates
    permission_classes = ()
    schema = None

    def initial(self, request: Request, *args: Any, **kwargs: Any) -> None:
        """Skip negotiation, authentication and throttling: the answer is plain text for Meta.

        A third of what a request of one event cost went there.
        """

    def get(self, request: Request) -> HttpResponse:
        """Answer the verification: the challenge as plain text, or 403."""
        token = conf.verify_token
        given = request.query_params.get("hub.verify_token", "")
        is_subscription = request.query_params.get("hub.mode") == "subscribe"
        is_right = compare_digest(token.encode(), given.encode("utf-8", "surrogatepass"))
        if not (token and is_right and is_subscription):
            return _text("Wrong verify token", status=403)
        return _text(request.query_params.get("hub.challenge", ""))

    def post(self, request: Request) -> HttpResponse:
        """Take a delivery: 200 once everything in it is committed, or the refusal it deserves."""
        started = time.perf_counter()
        answer = self._take(request)
        metrics.note_answer(answer.status_code, time.perf_counter() - started)
        return answer

    def _take(self, request: Request) -> HttpResponse:
        arrived_at = truncate_to_milliseconds(datetime.now(UTC))
        if _content_length(request) > MAX_BODY_BYTES:
            return _text(f"Body over {MAX_BODY_BYTES} bytes", status=413)
        body: bytes = request.body  # as it came: the signature is over these bytes
        header = request.META.get("HTTP_X_HUB_SIGNATURE_256")
        try:
            verify_signature(body, header, conf.app_secrets)
        except InvalidSignature as error:
            logger.warning("⚠️ [TRACKING] Delivery refused: %s", error)
            return _text("Invalid signature", status=403)
        try:
            summary = handle_delivery(body, arrived_at=arrived_at)
        except TrackingUnavailable as error:
            logger.error("❌ [TRACKING] Delivery put off: %s", error)
            # Meta sends it again; what was stored of it will be recognised (I3).
            return _text(
                "Try again later", status=503, headers={"Retry-After": str(RETRY_AFTER_SECONDS)}
            )
        if summary.ignored:
            metrics.note_ignored(summary.ignored)
            logger.debug("Ignored: %s", summarize_ignored(summary.ignored))
        return _text("EVENT_RECEIVED")


def _content_length(request: Request) -> int:
    try:
        return int(request.META.get("CONTENT_LENGTH") or 0)
    except ValueError:
        return 0


def _text(
    content: str, *, status: int = 200, headers: dict[str, str] | None = None
) -> HttpResponse:
    # Never HTML: the challenge is whatever the caller sent.
    return HttpResponse(
        content, status=status, content_type="text/plain; charset=utf-8", headers=headers
    )


instagram_webhook = InstagramWebhookView.as_view()
