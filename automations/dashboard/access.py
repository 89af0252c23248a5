"""Who may see a page: the session's token opens its own workspace, and nothing else exists."""

from __future__ import annotations

import logging
from collections.abc import Callable
from datetime import datetime
from functools import wraps
from urllib.parse import urlencode
from zoneinfo import ZoneInfo

import msgspec
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect
from django.http.response import HttpResponseBase
from django.shortcuts import render
from django.urls import reverse
from django.views.decorators.cache import never_cache
from django.views.decorators.csrf import csrf_protect
from django_htmx.http import HttpResponseClientRedirect

from automations.api.errors import RETRY_AFTER_SECONDS
from automations.auth.authentication import find_session_token
from automations.auth.tokens import ApiToken
from automations.dashboard.zones import find_zone
from tracking.clock import read_now
from tracking.exceptions import TrackingError

logger = logging.getLogger("automations.dashboard")


class Reader(msgspec.Struct, frozen=True, kw_only=True):
    """Who looks at a page, of which workspace, in which zone, and when (aware UTC)."""

    workspace_id: str
    token: ApiToken
    zone: ZoneInfo
    is_zone_chosen: bool
    at: datetime


def workspace_page(view: Callable[..., HttpResponseBase]) -> Callable[..., HttpResponseBase]:
    """Give `view(request, reader, ...)` to the workspace's own sessions alone.

    Without a session: to the login page and back. Another workspace: 404. MongoDB away: 503.
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
            zone, is_chosen = find_zone(request)
            reader = Reader(
                workspace_id=wsid,
                token=token,
                zone=zone,
                is_zone_chosen=is_chosen,
                at=read_now(),
            )
            return view(request, reader, **kwargs)
        except TrackingError as error:
            logger.error("❌ [DASHBOARD] %s: %s", request.path, error)
            return _say_unavailable(request)

    return guarded


def go_home(request: HttpRequest) -> HttpResponseBase:
    """Lead from `/` to the session's workspace, or to the login page."""
    try:
        token = find_session_token(request.session)
    except TrackingError:
        return _say_unavailable(request)
    if token is None:
        return HttpResponseRedirect(reverse("automations:login"))
    return HttpResponseRedirect(reverse("automations:overview", args=(token.workspace_id,)))


def is_fragment(request: HttpRequest) -> bool:
    """Return whether htmx asks for a part of a page that is there already."""
    return request.headers.get("HX-Request") == "true"


def _ask_to_log_in(request: HttpRequest) -> HttpResponseBase:
    login = reverse("automations:login")
    if not is_fragment(request):
        target = request.get_full_path() if request.method in ("GET", "HEAD") else ""
        query = f"?{urlencode({'next': target})}" if target else ""
        return HttpResponseRedirect(f"{login}{query}")
    return HttpResponseClientRedirect(login)


def _say_unavailable(request: HttpRequest) -> HttpResponse:
    answer = render(request, "automations/dashboard/unavailable.html", status=503)
    answer["Retry-After"] = str(RETRY_AFTER_SECONDS)
    return answer
