"""An automation's page: its chart, funnel, uncounted events and runs."""

from __future__ import annotations

from typing import Any

from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import render
from django.views.decorators.http import require_safe

from automations.dashboard.access import Reader, list_zones, workspace_page
from automations.dashboard.charts import build_bars
from automations.dashboard.formatting import describe_type
from automations.dashboard.funnel import build_outcomes, build_stages, build_uncounted
from automations.dashboard.pending import build_pending_context
from automations.dashboard.run_list import build_runs_context
from automations.dashboard.spans import SPANS, Span, find_span, name_buckets
from automations.rules import store
from automations.rules.automation import parse_automation
from automations.rules.steps import build_steps
from tracking import reports
from tracking.queries.run_filters import RunFilter


@workspace_page
@require_safe
def show_automation(request: HttpRequest, reader: Reader, automation_id: str) -> HttpResponse:
    """Show one automation; `span` chooses the chart's, the rest filters runs."""
    document = store.find_automation(reader.workspace_id, automation_id)
    if document is None:
        raise Http404
    span = find_span(request.GET.get("span"))
    head = _build_head(document)
    figures = _build_figures(document, reader, span)
    context = {
        **head,
        **figures,
        **build_pending_context(
            figures["series"].pending, {head["id"]: head["name"]}, reader=reader
        ),
        **build_runs_context(request, reader, automation_id=str(document["_id"])),
        "reader": reader,
        "span": span,
        "spans": SPANS.values(),
        "zones": list_zones(),
    }
    return render(request, "automations/dashboard/automation.html", context)


def _build_head(document: dict[str, Any]) -> dict[str, Any]:
    is_active = document.get("isActive") is True
    return {
        "id": str(document["_id"]),
        "name": str(document.get("name") or "Without a name"),
        "type": describe_type(document.get("type")),
        "is_active": is_active,
        "can_match": not is_active or parse_automation(document) is not None,
    }


def _build_figures(document: dict[str, Any], reader: Reader, span: Span) -> dict[str, Any]:
    automation_id = str(document["_id"])
    series = reports.read_series(
        [automation_id],
        unit=span.unit,
        zone=reader.zone,
        from_=span.find_start(reader.at, zone=reader.zone),
        to=reader.at,
        at=reader.at,
    )
    start = series.grid.start
    wanted = RunFilter(workspace_id=reader.workspace_id, automation_id=automation_id, from_=start)
    funnel = reports.summarize_funnel([automation_id], from_=start, to=reader.at, at=reader.at)
    reasons = reports.summarize_reasons(wanted)
    uncounted = reports.summarize_uncounted(
        automation_id, _read_account(document), from_=start, to=reader.at, at=reader.at
    )
    names = name_buckets(series.grid.starts, span, zone=reader.zone)
    steps = {step.name for step in build_steps(document, str(document.get("type")))}
    return {
        "series": series,
        "chart": build_bars(
            [
                (label, mark, counts.counted)
                for (label, mark), counts in zip(names, series.total, strict=True)
            ]
        ),
        "points": list(zip((label for label, _ in names), series.total, strict=True)),
        "counted": sum(counts.counted for counts in series.total),
        "duplicates": sum(counts.duplicates for counts in series.total),
        "new_people": sum(counts.new_people for counts in series.total),
        "stages": build_stages(funnel, steps),
        "outcomes": build_outcomes(reasons),
        "reasons": reasons,
        "uncounted": build_uncounted(uncounted),
    }


def _read_account(document: dict[str, Any]) -> str | None:
    account_id = document.get("accountId")
    return str(account_id) if isinstance(account_id, str | int) and account_id else None
