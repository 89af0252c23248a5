"""The login page: an API token becomes a server-side session."""

from __future__ import annotations

from datetime import timedelta

from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.middleware.csrf import rotate_token
from django.shortcuts import render
from django.urls import reverse
from django.utils.http import url_has_allowed_host_and_scheme
from django.views.decorators.cache import never_cache
from django.views.decorators.csrf import csrf_protect
from django.views.decorators.debug import sensitive_post_parameters
from django.views.decorators.http import require_http_methods, require_POST

from automations.api.errors import RETRY_AFTER_SECONDS
from automations.auth.authentication import SESSION_TOKEN_ID, TokenHolder, find_session_token
from automations.auth.tokens import ApiToken, find_token
from tracking.clock import read_now
from tracking.exceptions import TrackingError

SESSION_LIFETIME = timedelta(days=14)


@sensitive_post_parameters("token")
@never_cache
@csrf_protect
@require_http_methods(["GET", "HEAD", "POST"])
def login(request: HttpRequest) -> HttpResponse:
    """Show the form; on POST open a session and redirect to `next`.

    401 for an unusable token, 503 with Retry-After while MongoDB is unavailable.
    """
    try:
        if request.method == "POST":
            return _open_session(request)
        token = find_session_token(request.session)
    except TrackingError:
        return _say_unavailable(request)
    return _show(request, token=token)


@never_cache
@csrf_protect
@require_POST
def logout(request: HttpRequest) -> HttpResponse:
    """End the session on the server and redirect to the login page."""
    try:
        request.session.flush()
    except TrackingError:
        return _say_unavailable(request)
    return HttpResponseRedirect(reverse("automations:login"))


def find_own_path(target: str) -> str | None:
    """Return `target` if it is a path of this site, else None."""
    # Browsers take "//host" and "/\host" for other hosts; Django's function knows those forms.
    if target.startswith("/") and url_has_allowed_host_and_scheme(target, allowed_hosts=None):
        return target
    return None


def _open_session(request: HttpRequest) -> HttpResponse:
    at = read_now()
    token = find_token(request.POST.get("token", "").strip(), at=at)
    if token is None:
        answer = _show(request, error="This token is unknown, expired or revoked.", status=401)
        answer["WWW-Authenticate"] = "Bearer"
        return answer
    # A new key and CSRF token, so that what was known before the login is worth nothing.
    request.session.flush()
    request.session[SESSION_TOKEN_ID] = token.id
    ends_at = at + SESSION_LIFETIME
    request.session.set_expiry(min(ends_at, token.expires_at or ends_at))
    rotate_token(request)
    home = reverse("automations:overview", args=(token.workspace_id,))
    return HttpResponseRedirect(find_own_path(_read_next(request)) or home)


def _say_unavailable(request: HttpRequest) -> HttpResponse:
    answer = _show(request, error="The database did not answer in time. Try again.", status=503)
    answer["Retry-After"] = str(RETRY_AFTER_SECONDS)
    return answer


def _read_next(request: HttpRequest) -> str:
    return request.POST.get("next", "") or request.GET.get("next", "")


def _show(
    request: HttpRequest, *, token: ApiToken | None = None, error: str = "", status: int = 200
) -> HttpResponse:
    context = {
        "error": error,
        "next": find_own_path(_read_next(request)) or "",
        "holder": None if token is None else TokenHolder(token),
    }
    return render(request, "automations/login.html", context, status=status)
