"""An automation's page: its chart, funnel, uncounted events and runs."""

from typing import Any

from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import render
from django.views.decorators.http import require_safe

from automations.dashboard.access import Reader, list_zones, workspace_page
from automations.dashboard.charts import SPANS, Span, build_bars, find_span, name_buckets
from automations.dashboard.formatting import describe_automation
from automations.dashboard.funnel import (
    build_outcomes,
    build_pending,
    build_stages,
    build_uncounted,
)
from automations.dashboard.run_list import build_runs_context
from automations.rules import store
from automations.rules.steps import build_steps
from tracking import reports
from tracking.ids import name_id
from tracking.queries.run_filters import RunFilter


@workspace_page
@require_safe
def show_automation(request: HttpRequest, reader: Reader, automation_id: str) -> HttpResponse:
    document = store.find_automation(reader.workspace_id, automation_id)
    if document is None:
        raise Http404
    span = find_span(request.GET.get("span"))
    head = describe_automation(document)
    figures = _build_figures(document, reader, span)
    context = {
        **head,
        **figures,
        **build_pending(figures["series"].pending, {head["id"]: head["name"]}, reader=reader),
        **build_runs_context(request, reader, automation_id=head["id"]),
        "reader": reader,
        "span": span,
        "spans": SPANS.values(),
        "zones": list_zones(reader.zone),
    }
    return render(request, "automations/dashboard/automation.html", context)


def _build_figures(document: dict[str, Any], reader: Reader, span: Span) -> dict[str, Any]:
    automation_id, account_id = name_id(document["_id"]), document.get("accountId")
    is_readable = isinstance(account_id, str | int) and account_id
    start, at = span.find_start(reader.at, zone=reader.zone), reader.at
    series = reports.read_series(
        [automation_id], unit=span.unit, zone=reader.zone, from_=start, to=at, at=at
    )
    start = series.grid.start
    wanted = RunFilter(workspace_id=reader.workspace_id, automation_id=automation_id, from_=start)
    reasons = reports.summarize_reasons(wanted)
    found = reports.summarize_outcomes(
        automation_id, str(account_id) if is_readable else None, from_=start, to=at, at=at
    )
    names = name_buckets(series.grid.starts, span, zone=reader.zone)
    bars = list(zip(names, series.total, strict=True))
    steps = {step.name for step in build_steps(document, str(document.get("type")))}
    return {
        "series": series,
        "chart": build_bars([(label, mark, counts.counted) for (label, mark), counts in bars]),
        "points": [(label, counts) for (label, _), counts in bars],
        "counted": sum(counts.counted for counts in series.total),
        "duplicates": sum(counts.duplicates for counts in series.total),
        "new_people": sum(counts.new_people for counts in series.total),
        "stages": build_stages(found, steps),
        "outcomes": build_outcomes(reasons),
        "reasons": reasons,
        "uncounted": build_uncounted(found),
    }
