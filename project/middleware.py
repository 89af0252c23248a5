"""HTTP concerns of the whole site."""

import random
import re
import time
from collections.abc import Callable

from csp.middleware import CSPMiddleware
from django.http import HttpRequest, HttpResponse, HttpResponsePermanentRedirect
from django.http.response import HttpResponseBase
from django.middleware.gzip import GZipMiddleware
from django.urls import get_resolver, reverse
from django.utils.deprecation import MiddlewareMixin

from automations.metrics import ANSWER_SECONDS, ANSWERS, REQUEST_SECONDS, REQUESTS
from project.logs import REQUEST_ID_KEY, request_id

GetResponse = Callable[[HttpRequest], HttpResponseBase]

_OK = ANSWERS.labels("200")
_METHODS = ("GET", "POST", "PATCH", "DELETE")
_WELL_FORMED_ID = re.compile(r"[A-Za-z0-9._-]{8,64}")


class RequestIdMiddleware:
    """An id for each request: in its answer, and in every log line that is written for it."""

    def __init__(self, get_response: GetResponse) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponseBase:
        value = read_request_id(request.META.get("HTTP_X_REQUEST_ID"))
        request.META[REQUEST_ID_KEY] = value
        token = request_id.set(value)
        try:
            response = self.get_response(request)
        finally:
            request_id.reset(token)
        response["X-Request-Id"] = value
        return response


def read_request_id(given: str | None) -> str:
    """Return the id that a proxy gave, or a new one if it is malformed."""
    if given is not None and _WELL_FORMED_ID.fullmatch(given):
        return given
    return f"{random.getrandbits(64):016x}"  # no secret


class MetricsMiddleware:
    """Count answers: deliveries by status, all others by route, also what middleware refuses."""

    def __init__(self, get_response: GetResponse) -> None:
        self.get_response = get_response
        self._webhook = reverse("automations:webhook")
        root = get_resolver()
        names = {*root.reverse_dict, *root.namespace_dict["automations"][1].reverse_dict}
        # The first failure is an increase only if there was a 0 before it.
        for route in ("none", *(one for one in names if isinstance(one, str))):
            for method in _METHODS:
                REQUESTS.labels(route, method, "5xx")

    def __call__(self, request: HttpRequest) -> HttpResponseBase:
        started = time.perf_counter()
        response = self.get_response(request)
        seconds, status = time.perf_counter() - started, response.status_code
        if request.path_info != self._webhook:
            route = request.resolver_match and request.resolver_match.url_name
            method = request.method if request.method in _METHODS else "other"
            labels = (route or "none", method, f"{status // 100}xx")
            REQUESTS.labels(*labels).inc()
            REQUEST_SECONDS.labels(*labels).observe(seconds)
        elif request.method == "POST":
            (_OK if status == 200 else ANSWERS.labels(str(status))).inc()
            ANSWER_SECONDS.observe(seconds)
        return response


class CompressionMiddleware(GZipMiddleware):
    """Compress pages, API and static files; never what the webhook answers, nor a part of a file.

    Django adds bytes by chance, so that lengths tell nothing of a secret in a page (BREACH).
    """

    def process_response(
        self, request: HttpRequest, response: HttpResponseBase
    ) -> HttpResponseBase:
        if response.status_code != 200 or request.path.startswith("/api/webhooks/"):
            return response
        return super().process_response(request, response)


class RedirectToTlsMiddleware(MiddlewareMixin):
    """Redirect a browser to https if the proxy says that it came by http.

    Django's SECURE_SSL_REDIRECT would also redirect plain requests that no proxy touched: health
    checks, the simulator, a curl on the machine itself.
    """

    def process_request(self, request: HttpRequest) -> HttpResponse | None:
        """Answer 301 for http behind a proxy (403 where a redirect would lose the body)."""
        if request.META.get("HTTP_X_FORWARDED_PROTO") != "http":
            return None
        if request.method in ("GET", "HEAD"):
            return HttpResponsePermanentRedirect(
                f"https://{request.get_host()}{request.get_full_path()}"
            )
        return HttpResponse("Use https.\n", status=403, content_type="text/plain")


class SecureCookiesMiddleware(MiddlewareMixin):
    """Mark cookies `Secure` whenever the request came by https.

    SESSION_COOKIE_SECURE marks them always, and a browser then drops them in a trial over plain
    http on the machine itself. Behind a proxy the two are the same.
    """

    def process_response(
        self, request: HttpRequest, response: HttpResponseBase
    ) -> HttpResponseBase:
        if response.cookies and request.is_secure():
            for cookie in response.cookies.values():
                cookie["secure"] = True
        return response


class PagePolicyMiddleware(CSPMiddleware):
    """A Content-Security-Policy on pages only: it means nothing in JSON and plain text."""

    def process_response(
        self, request: HttpRequest, response: HttpResponseBase
    ) -> HttpResponseBase:
        if not response.get("Content-Type", "").startswith("text/html"):
            return response
        return super().process_response(request, response)
