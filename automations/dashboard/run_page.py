"""The page of one run: its timeline and its facts."""

from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import Any

from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import render
from django.views.decorators.http import require_safe

from automations.dashboard.access import Reader, workspace_page
from automations.dashboard.formatting import format_moment
from automations.dashboard.run_list import build_line
from automations.dashboard.timeline import build_entries
from automations.rules import store
from tracking import reports
from tracking.ids import name_id

_METADATA = (("Post", "postId"), ("Story", "storyId"), ("Conversation", "conversationId"))


@workspace_page
@require_safe
def show_run(request: HttpRequest, reader: Reader, run_id: str) -> HttpResponse:
    found = reports.find_run(reader.workspace_id, run_id)
    if found is None:
        raise Http404
    automation_id = name_id(found.run.get("automationId"))
    automation = store.find_automation(reader.workspace_id, automation_id) or {}
    context = {
        "reader": reader,
        "name": str(automation.get("name") or "an automation that was deleted"),
        "automation_id": automation_id,
        "line": build_line(found.run, reader),
        "entries": build_entries(found.run, found.triggers),
        "facts": list(_list_facts(found.run, reader)),
        "has_triggers": bool(found.triggers),
    }
    return render(request, "automations/dashboard/run.html", context)


def _list_facts(run: Mapping[str, Any], reader: Reader) -> Iterator[tuple[str, str]]:
    person = "unknown: Instagram did not say" if run.get("personUnknown") else run.get("userId")
    yield "Person", str(person or "–")
    metadata = run.get("metadata")
    for name, key in _METADATA:
        value = metadata.get(key) if isinstance(metadata, Mapping) else None
        if value:
            yield name, str(value)
    occurred_at = run.get("occurredAt")
    if isinstance(occurred_at, datetime):
        yield "Time that Instagram says", format_moment(occurred_at, zone=reader.zone)
    yield "Event", str(run.get("eventId") or "not kept by the earlier product")
    yield "Run", name_id(run["_id"])
