"""Meta's data deletion callback, and the page that tells a person what became of it."""

import logging

from django.http import HttpRequest, HttpResponse, JsonResponse
from django.urls import reverse
from django.views.decorators.cache import never_cache
from django.views.decorators.csrf import csrf_exempt
from django.views.decorators.http import require_POST, require_safe

from automations.conf import conf
from automations.instagram.signature import InvalidSignature, MalformedRequest, parse_signed_request
from automations.privacy.deletion_requests import describe_request, request_deletion
from tracking.exceptions import TrackingUnavailable

logger = logging.getLogger("automations.deletions")
refusals = logging.getLogger("automations.refusals")  # project/logs.py bounds its lines


@csrf_exempt  # the signature is what authenticates
@require_POST
def data_deletion(request: HttpRequest) -> HttpResponse:
    """Take a request down: `{"url", "confirmation_code"}`, 403 if it is not Meta's, 400, 503."""
    try:
        person_id = parse_signed_request(request.POST.get("signed_request", ""), conf.app_secrets)
        code = request_deletion(person_id)
    except InvalidSignature as error:
        refusals.warning("⚠️ Data deletion request refused: %s", error)
        return _text("Invalid signature", status=403)
    except MalformedRequest as error:
        refusals.warning("⚠️ Data deletion request refused: %s", error)
        return _text("Malformed request", status=400)
    except TrackingUnavailable as error:
        logger.error("❌ Data deletion request put off: %s", error)
        return _text("Try again later", status=503)
    url = request.build_absolute_uri(reverse("automations:data-deletion-status", args=[code]))
    return JsonResponse({"url": url, "confirmation_code": code})


@require_safe
@never_cache
def data_deletion_status(request: HttpRequest, code: str) -> HttpResponse:
    try:
        text = describe_request(code)
    except TrackingUnavailable:
        return _text("Please look again in a few minutes.", status=503)
    if text is None:
        return _text("There is no such request.", status=404)
    return _text(text)


def _text(content: str, *, status: int = 200) -> HttpResponse:
    return HttpResponse(content, status=status, content_type="text/plain; charset=utf-8")
