"""The webhook: validate, hand on, answer. What each answer makes Meta do stands beside it."""

import logging
import time
from hmac import compare_digest

from django.http import HttpRequest, HttpResponse
from django.views.decorators.csrf import csrf_exempt
from django.views.generic import View

from automations import metrics
from automations.conf import conf
from automations.instagram.signature import InvalidSignature, verify_signature
from automations.webhook.deliveries import handle_delivery, summarize_ignored
from tracking.clock import read_now
from tracking.exceptions import TrackingUnavailable

logger = logging.getLogger("automations")

MAX_BODY_BYTES = 4 * 1024 * 1024
RETRY_AFTER_SECONDS = 5


class InstagramWebhookView(View):
    """Meta's side of the product: it verifies the endpoint once, then posts deliveries.

    Meta retries for 36 hours whatever is not answered with 2xx, so only what may succeed later
    (503) or is not Meta's (403, 413) is refused; the rest is answered 200 and kept or ignored.
    It is no view of the API: its signature authenticates, and its answers are plain text.
    """

    def get(self, request: HttpRequest) -> HttpResponse:
        """Answer the verification: the challenge as plain text, or 403."""
        token = conf.verify_token
        given = request.GET.get("hub.verify_token", "")
        is_subscription = request.GET.get("hub.mode") == "subscribe"
        is_right = compare_digest(token.encode(), given.encode("utf-8", "surrogatepass"))
        if not (token and is_right and is_subscription):
            return _text("Wrong verify token", status=403)
        return _text(request.GET.get("hub.challenge", ""))

    def post(self, request: HttpRequest) -> HttpResponse:
        """Take a delivery: 200 once everything in it is committed, or the refusal it deserves."""
        started = time.perf_counter()
        answer = self._take(request)
        metrics.note_answer(answer.status_code, time.perf_counter() - started)
        return answer

    def _take(self, request: HttpRequest) -> HttpResponse:
        arrived_at = read_now()
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


def _content_length(request: HttpRequest) -> int:
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


instagram_webhook = csrf_exempt(InstagramWebhookView.as_view())
