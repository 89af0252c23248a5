"""Who sees a page: logging in with an API token, sessions, and the reader's time zone."""

import logging
import math
from collections.abc import Callable
from datetime import datetime, timedelta
from functools import cache, partial, wraps
from urllib.parse import urlencode
from zoneinfo import ZoneInfo

import msgspec
from django.core.exceptions import PermissionDenied
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect
from django.http.response import HttpResponseBase
from django.middleware.csrf import rotate_token
from django.shortcuts import render
from django.urls import reverse
from django.utils.http import url_has_allowed_host_and_scheme
from django.views.decorators.cache import never_cache
from django.views.decorators.csrf import csrf_protect
from django.views.decorators.debug import sensitive_post_parameters
from django.views.decorators.http import require_http_methods, require_POST
from django_htmx.http import HttpResponseClientRedirect
from rest_framework.exceptions import Throttled
from rest_framework.request import Request
from rest_framework.throttling import UserRateThrottle
from rest_framework.views import APIView

from automations.api.errors import RETRY_AFTER_SECONDS
from automations.api.query_parameters import UTC_NAME
from automations.api.query_parameters import list_zones as list_all_zones
from automations.auth.tokens import (
    READ_ONLY,
    SESSION_TOKEN_ID,
    ApiToken,
    find_session_token,
    find_token,
    hold_share,
)
from tracking.clock import read_now
from tracking.exceptions import TrackingError

logger = logging.getLogger("automations.dashboard")

_UNAVAILABLE = "The database did not answer in time. Try again."
SESSION_LIFETIME = timedelta(days=14)
SESSION_ZONE = "zone"
# Our script sets it to the browser's own zone.
ZONE_COOKIE = "zone"
# Old names of zones that have others, and what is no place.
_NO_PLACES = frozenset(
    {"Etc", "SystemV", "US", "Canada", "Brazil", "Chile", "Mexico", "posix", "right"}
)


class Reader(msgspec.Struct, frozen=True):
    """Who reads a page of which workspace, in which zone, and when."""

    workspace_id: str
    zone: ZoneInfo
    at: datetime
    can_write: bool


def workspace_page(
    view: Callable[..., HttpResponseBase], *, changes_workspace: bool = True
) -> Callable[..., HttpResponseBase]:
    """Give `view(request, reader, ...)` to the workspace's own sessions alone.

    Without a session it redirects to the login page. Another workspace is 404, and a change by a
    token that may only read 403. Past the rate or the share of the workspace it is 429, while
    MongoDB is unavailable 503.
    """

    @never_cache
    @csrf_protect
    @wraps(view)
    def guarded(request: HttpRequest, wsid: str, **kwargs: str) -> HttpResponseBase:
        try:
            token = find_session_token(request.session)
            if token is None:
                return _ask_to_log_in(request)
            if token.workspace_id != wsid:
                raise Http404
            if changes_workspace and not token.may_use(request.method):
                raise PermissionDenied(READ_ONLY)
            reader = Reader(wsid, _find_zone(request), read_now(), token.can_write)
            with hold_share(wsid):
                _count_request(request, token)
                return view(request, reader, **kwargs)
        except Throttled as error:
            seconds = math.ceil(getattr(error, "wait", None) or RETRY_AFTER_SECONDS)
            page = render(request, "automations/dashboard/throttled.html", {"seconds": seconds})
            return _say_later(page, status=429, seconds=seconds)
        except TrackingError as error:
            logger.error("❌ [DASHBOARD] %s: %s", request.path, error)
            return _say_later(render(request, "automations/dashboard/unavailable.html"))

    return guarded


def go_home(request: HttpRequest) -> HttpResponseBase:
    try:
        token = find_session_token(request.session)
    except TrackingError:
        return _say_later(render(request, "automations/dashboard/unavailable.html"))
    if token is None:
        return HttpResponseRedirect(reverse("automations:login"))
    return HttpResponseRedirect(reverse("automations:overview", args=(token.workspace_id,)))


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
        return _show_login(request, token=find_session_token(request.session))
    except TrackingError:
        return _say_later(_show_login(request, error=_UNAVAILABLE))


@never_cache
@csrf_protect
@require_POST
def logout(request: HttpRequest) -> HttpResponse:
    try:
        request.session.flush()
    except TrackingError:
        return _say_later(_show_login(request, error=_UNAVAILABLE))
    return HttpResponseRedirect(reverse("automations:login"))


@partial(workspace_page, changes_workspace=False)
@require_POST
def choose_zone(request: HttpRequest, reader: Reader) -> HttpResponse:
    zone = read_zone(request.POST.get("zone"))
    if zone is not None:
        request.session[SESSION_ZONE] = str(zone)
    return _go_on(request, reader.workspace_id)


@cache
def list_zones(own: ZoneInfo) -> tuple[str, ...]:
    """Return the names to choose from, UTC before all places and the reader's own zone."""
    places = {name for name in list_all_zones() if "/" in name}
    places = {name for name in places if name.split("/")[0] not in _NO_PLACES} | {own.key}
    return (UTC_NAME, *sorted(places - {UTC_NAME}))


def read_zone(name: object) -> ZoneInfo | None:
    # Membership first, because ZoneInfo opens a file by the name.
    return ZoneInfo(name) if isinstance(name, str) and name in list_all_zones() else None


def is_fragment(request: HttpRequest) -> bool:
    return request.headers.get("HX-Request") == "true"


def _count_request(request: HttpRequest, token: ApiToken) -> None:
    """Count a page against the requests that its token has a minute. Raises Throttled."""
    asking = Request(request)
    asking.user = token  # type: ignore[assignment]
    throttle = UserRateThrottle()
    if not throttle.allow_request(asking, APIView()):
        raise Throttled(throttle.wait())


def _find_zone(request: HttpRequest) -> ZoneInfo:
    """Return the zone that the reader chose, else the browser's own."""
    names = (request.session.get(SESSION_ZONE), request.COOKIES.get(ZONE_COOKIE))
    return next(filter(None, map(read_zone, names)), ZoneInfo(UTC_NAME))


def _ask_to_log_in(request: HttpRequest) -> HttpResponseBase:
    path = reverse("automations:login")
    if is_fragment(request):
        return HttpResponseClientRedirect(path)
    if request.method not in ("GET", "HEAD"):
        return HttpResponseRedirect(path)
    return HttpResponseRedirect(f"{path}?{urlencode({'next': request.get_full_path()})}")


def _open_session(request: HttpRequest) -> HttpResponse:
    at = read_now()
    token = find_token(request.POST.get("token", "").strip(), at=at)
    if token is None:
        answer = _show_login(request, error="This token is unknown, expired or revoked.")
        answer.status_code = 401
        answer["WWW-Authenticate"] = "Bearer"
        return answer
    # A new key and CSRF token, so that what was known before the login is worth nothing.
    request.session.flush()
    request.session[SESSION_TOKEN_ID] = token.id
    ends_at = at + SESSION_LIFETIME
    request.session.set_expiry(min(ends_at, token.expires_at or ends_at))
    rotate_token(request)
    return _go_on(request, token.workspace_id)


def _go_on(request: HttpRequest, workspace_id: str) -> HttpResponse:
    home = reverse("automations:overview", args=(workspace_id,))
    return HttpResponseRedirect(_find_next(request) or home)


def _find_next(request: HttpRequest) -> str:
    """Return the path of this site that the request names as `next`, or ""."""
    target = request.POST.get("next", "") or request.GET.get("next", "")
    # Browsers take "//host" and "/\host" for other hosts; Django's function knows those forms.
    is_own = target.startswith("/") and url_has_allowed_host_and_scheme(target, allowed_hosts=None)
    return target if is_own else ""


def _show_login(
    request: HttpRequest, *, token: ApiToken | None = None, error: str = ""
) -> HttpResponse:
    context = {"error": error, "next": _find_next(request), "holder": token}
    return render(request, "automations/login.html", context)


def _say_later(
    answer: HttpResponse, *, status: int = 503, seconds: int = RETRY_AFTER_SECONDS
) -> HttpResponse:
    answer.status_code = status
    answer["Retry-After"] = str(seconds)
    return answer
