"""What monitors ask: is the process alive, is it ready, what did it do."""

from hmac import compare_digest

import orjson
from django.http import HttpRequest, HttpResponse
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_safe
from prometheus_client import CONTENT_TYPE_LATEST

from automations.conf import conf
from automations.hosts import is_loopback
from automations.operations.health import reader
from automations.operations.prometheus import render_metrics

# A proxy adds one of these to a request that it forwards; see "Deploy" in DEPLOYMENT.md.
_FORWARDED = ("HTTP_X_FORWARDED_PROTO", "HTTP_X_FORWARDED_FOR", "HTTP_FORWARDED", "HTTP_VIA")


@require_safe
@never_cache
def healthz(request: HttpRequest) -> HttpResponse:
    """Answer 200 without asking any other system."""
    return HttpResponse("ok", content_type="text/plain")


@require_safe
@never_cache
def readyz(request: HttpRequest) -> HttpResponse:
    """Answer 200 if requests should come here, else 503, with the single checks."""
    health = reader.read()
    return HttpResponse(
        orjson.dumps(health.to_document(), option=orjson.OPT_APPEND_NEWLINE),
        status=200 if health.is_ready else 503,
        content_type="application/json",
    )


@require_safe
@never_cache
def metrics(request: HttpRequest) -> HttpResponse:
    if not may_read_metrics(request):
        return HttpResponse("Forbidden\n", status=403, content_type="text/plain")
    return HttpResponse(render_metrics(), content_type=CONTENT_TYPE_LATEST)


def may_read_metrics(request: HttpRequest) -> bool:
    """Return whether the request has METRICS_TOKEN or, if none is set, is from this machine.

    What a proxy forwards comes from this machine too, so it counts as remote.
    """
    if conf.metrics_token:
        given = request.META.get("HTTP_AUTHORIZATION", "").encode("utf-8", "surrogatepass")
        return compare_digest(given, f"Bearer {conf.metrics_token}".encode())
    if any(name in request.META for name in _FORWARDED):
        return False
    return is_loopback(request.META.get("REMOTE_ADDR", ""))
