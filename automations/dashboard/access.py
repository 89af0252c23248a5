"""Who sees a page, and in which time zone."""

from __future__ import annotations

import logging
from collections.abc import Callable
from datetime import datetime
from functools import cache, wraps
from urllib.parse import urlencode
from zoneinfo import ZoneInfo

import msgspec
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect
from django.http.response import HttpResponseBase
from django.shortcuts import render
from django.urls import reverse
from django.views.decorators.cache import never_cache
from django.views.decorators.csrf import csrf_protect
from django.views.decorators.http import require_POST
from django_htmx.http import HttpResponseClientRedirect

from automations.api.errors import RETRY_AFTER_SECONDS
from automations.api.query_parameters import UTC_NAME
from automations.api.query_parameters import list_zones as list_all_zones
from automations.auth.authentication import find_session_token
from automations.dashboard.login import find_own_path
from tracking.clock import read_now
from tracking.exceptions import TrackingError

logger = logging.getLogger("automations.dashboard")

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


def workspace_page(view: Callable[..., HttpResponseBase]) -> Callable[..., HttpResponseBase]:
    """Give `view(request, reader, ...)` to the workspace's own sessions alone.

    Without a session it redirects to the login page. Another workspace is 404. While MongoDB is
    unavailable, it is 503.
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
            return view(request, Reader(wsid, _find_zone(request), read_now()), **kwargs)
        except TrackingError as error:
            logger.error("❌ [DASHBOARD] %s: %s", request.path, error)
            return _say_unavailable(request)

    return guarded


def go_home(request: HttpRequest) -> HttpResponseBase:
    """Redirect from `/` to the session's workspace, or to the login page."""
    try:
        token = find_session_token(request.session)
    except TrackingError:
        return _say_unavailable(request)
    if token is None:
        return HttpResponseRedirect(reverse("automations:login"))
    return HttpResponseRedirect(reverse("automations:overview", args=(token.workspace_id,)))


@workspace_page
@require_POST
def choose_zone(request: HttpRequest, reader: Reader) -> HttpResponse:
    """Keep the zone in the session, and return to the page."""
    zone = read_zone(request.POST.get("zone"))
    if zone is not None:
        request.session[SESSION_ZONE] = str(zone)
    home = reverse("automations:overview", args=(reader.workspace_id,))
    return HttpResponseRedirect(find_own_path(request.POST.get("next", "")) or home)


@cache
def list_zones() -> tuple[str, ...]:
    """Return the names to choose from, UTC before all places."""
    places = (name for name in list_all_zones() if "/" in name)
    return (UTC_NAME, *sorted(name for name in places if name.split("/")[0] not in _NO_PLACES))


def read_zone(name: object) -> ZoneInfo | None:
    """Return the zone of that IANA name, None if there is none."""
    # Membership first, because ZoneInfo opens a file by the name.
    return ZoneInfo(name) if isinstance(name, str) and name in list_all_zones() else None


def _find_zone(request: HttpRequest) -> ZoneInfo:
    """Return the zone that the reader chose, else the browser's own."""
    names = (request.session.get(SESSION_ZONE), request.COOKIES.get(ZONE_COOKIE))
    return next(filter(None, map(read_zone, names)), ZoneInfo(UTC_NAME))


def is_fragment(request: HttpRequest) -> bool:
    """Return whether htmx asks for a part of a page."""
    return request.headers.get("HX-Request") == "true"


def _ask_to_log_in(request: HttpRequest) -> HttpResponseBase:
    login = reverse("automations:login")
    if is_fragment(request):
        return HttpResponseClientRedirect(login)
    if request.method not in ("GET", "HEAD"):
        return HttpResponseRedirect(login)
    return HttpResponseRedirect(f"{login}?{urlencode({'next': request.get_full_path()})}")


def _say_unavailable(request: HttpRequest) -> HttpResponse:
    answer = render(request, "automations/dashboard/unavailable.html", status=503)
    answer["Retry-After"] = str(RETRY_AFTER_SECONDS)
    return answer
