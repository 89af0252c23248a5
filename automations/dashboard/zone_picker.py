"""The zone picker: a choice that the session keeps."""

from __future__ import annotations

from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.urls import reverse
from django.views.decorators.http import require_POST

from automations.dashboard.access import Reader, workspace_page
from automations.dashboard.login import find_own_path
from automations.dashboard.zones import SESSION_ZONE, read_zone


@workspace_page
@require_POST
def choose_zone(request: HttpRequest, reader: Reader) -> HttpResponse:
    """Keep the zone, if it is one, and go back to the page."""
    zone = read_zone(request.POST.get("zone"))
    if zone is not None:
        request.session[SESSION_ZONE] = str(zone)
    home = reverse("automations:overview", args=(reader.workspace_id,))
    return HttpResponseRedirect(find_own_path(request.POST.get("next", "")) or home)
