"""The first page: every automation with its counts, updated live."""

from typing import Any
from urllib.parse import quote

import msgspec
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect
from django.http.response import HttpResponseBase
from django.shortcuts import render
from django.urls import reverse
from django.views.decorators.http import require_POST, require_safe

from automations.dashboard.access import Reader, is_fragment, workspace_page
from automations.dashboard.accounts import build_accounts_context
from automations.dashboard.charts import build_spark
from automations.dashboard.formatting import describe_age, describe_automation
from automations.dashboard.funnel import build_pending
from automations.rules import store
from tracking import service
from tracking.ids import name_id
from tracking.mongo.errors import bounded
from tracking.rollups.hours import hour_of

# A page is rendered again this often without a change, because its windows move on.
_REFRESH_SECONDS = 30
_SUMS = ("total_runs", "last_24_hours", "last_7_days")


@workspace_page
@require_safe
def show_overview(request: HttpRequest, reader: Reader) -> HttpResponse:
    context = {**_build_context(reader), **build_accounts_context(reader)}
    return render(request, "automations/dashboard/overview.html", context)


@workspace_page
@require_safe
def poll_overview(request: HttpRequest, reader: Reader) -> HttpResponse:
    """Answer 204 while nothing changed since version `v`, else the new list."""
    if request.GET.get("v") == _read_version(reader):
        return HttpResponse(status=204)
    return render(request, "automations/dashboard/overview_list.html", _build_context(reader))


@workspace_page
@require_POST
def switch_automation(request: HttpRequest, reader: Reader, automation_id: str) -> HttpResponseBase:
    changes = {"isActive": request.POST.get("to") == "on", "updatedAt": reader.at}
    if store.update_automation(reader.workspace_id, automation_id, changes=changes) is None:
        raise Http404
    if is_fragment(request):
        return render(request, "automations/dashboard/overview_list.html", _build_context(reader))
    return HttpResponseRedirect(reverse("automations:overview", args=(reader.workspace_id,)))


def _build_context(reader: Reader) -> dict[str, Any]:
    # The version first, so that a change in between shows at the next poll.
    version = _read_version(reader)
    documents = store.list_automations(reader.workspace_id)
    with bounded():
        has_stats = service.is_stats_enabled()
        found = service.summarize_runs(documents, at=reader.at, has_windows=has_stats)
        ids = [name_id(one["_id"]) for one in documents]
        recent = service.list_recent_hours(ids) if has_stats else {}
    # Resolved once: for every row it would be a good part of the page.
    base = reverse("automations:automation-page", args=(reader.workspace_id, "-")).rstrip("-/")
    rows, hour = [], hour_of(reader.at)
    for document in documents:
        head = describe_automation(document)
        summary = found.by_automation[head["id"]]
        row = {
            **head,
            **msgspec.structs.asdict(summary),
            "path": f"{base}/{quote(head['id'], safe='')}/",
            "last_run": describe_age(summary.last_run_at, at=reader.at, zone=reader.zone),
            "spark": build_spark(recent.get(head["id"], {}), hour=hour),
        }
        rows.append(row)
    return {
        "reader": reader,
        # While events wait, every poll renders the list, because duplicates change no document.
        "version": f"{version}-pending" if found.pending else version,
        **build_pending(found.pending, {row["id"]: row["name"] for row in rows}, reader=reader),
        "rows": rows,
        "has_stats": has_stats,
        "active": sum(row["is_active"] for row in rows),
        **{name: sum(row[name] for row in rows) for name in _SUMS},
    }


def _read_version(reader: Reader) -> str:
    span = int(reader.at.timestamp()) // _REFRESH_SECONDS
    return f"{store.read_version(reader.workspace_id)}-{span}"
