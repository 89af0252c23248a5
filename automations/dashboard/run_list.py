"""The runs of an automation as a list with filters, and the page of one run."""

from collections.abc import Iterator, Mapping
from datetime import date, datetime, timedelta
from typing import Any
from urllib.parse import urlencode

from django.http import Http404, HttpRequest, HttpResponse, QueryDict
from django.shortcuts import render
from django.views.decorators.http import require_safe

from automations.dashboard.access import Reader, workspace_page
from automations.dashboard.formatting import format_clock, format_moment
from automations.dashboard.labels import STEPS, describe_state, describe_step
from automations.dashboard.timeline import build_entries
from automations.outbox.jobs import StepState
from automations.rules import store
from automations.rules.steps import MAIN_DM
from tracking import reports
from tracking.clock import format_time
from tracking.ids import name_id
from tracking.queries.run_filters import InvalidCursor, RunFilter
from tracking.queries.run_store import RunPage
from tracking.queries.time_grid import BadRange, start_of_day
from tracking.rollups.outcomes import COMPLETED

_PAGE = 25
_LONGEST = 200
_METADATA = (("Post", "postId"), ("Story", "storyId"), ("Conversation", "conversationId"))
NAMES = ("type", "outcome", "person", "post", "from", "to")
OUTCOMES = {
    COMPLETED: "completed",
    StepState.FAILED.value: "not delivered",
    StepState.UNKNOWN.value: "may have been delivered",
    StepState.EXPIRED.value: "expired",
    StepState.SHADOW.value: "shadow",
}


def build_runs_context(
    request: HttpRequest, reader: Reader, *, automation_id: str
) -> dict[str, Any]:
    """Return a page of runs; unreadable filters are ignored."""
    asked = {name: request.GET.get(name, "").strip()[:_LONGEST] for name in NAMES}
    wanted = RunFilter(
        workspace_id=reader.workspace_id,
        automation_id=automation_id,
        trigger_type=asked["type"] if asked["type"] in STEPS else None,
        state=asked["outcome"] if asked["outcome"] in OUTCOMES else None,
        user_id=asked["person"] or None,
        post_id=asked["post"] or None,
        from_=_read_day(asked["from"], reader),
        to=_read_day(asked["to"], reader, is_last=True),
    )
    refused = ""
    try:
        page = reports.list_runs(wanted, limit=_PAGE, cursor=request.GET.get("cursor"))
    except InvalidCursor:
        page = reports.list_runs(wanted, limit=_PAGE)
    except BadRange as error:
        page, refused = RunPage([], None), str(error)
    return {
        "runs": [build_line(run, reader) for run in page.runs],
        "asked": asked,
        "refused": refused,
        "is_narrowed": any(asked.values()),
        "is_first_page": "cursor" not in request.GET,
        "older": _build_query(request.GET, page.next_cursor) if page.next_cursor else "",
        "newest": _build_query(request.GET, None),
        "export": _build_export(wanted),
        "types": STEPS.items(),
        "outcome_choices": OUTCOMES.items(),
    }


def build_line(run: dict[str, Any], reader: Reader) -> dict[str, Any]:
    created_at = run.get("createdAt")
    moment = created_at if isinstance(created_at, datetime) else None
    metadata = run.get("metadata")
    text = metadata.get("messageText") if isinstance(metadata, dict) else None
    tone, outcome = summarize_outcome(run)
    return {
        "id": name_id(run["_id"]),
        "created_at": moment,
        "when": "–" if moment is None else format_clock(moment, at=reader.at, zone=reader.zone),
        "person": "unknown person" if run.get("personUnknown") else str(run.get("userId") or ""),
        "text": text if isinstance(text, str) else "",
        "type": describe_step(run.get("triggerType")),
        "tone": tone,
        "outcome": outcome,
    }


def summarize_outcome(run: dict[str, Any]) -> tuple[str, str]:
    """Return (tone, words): the worst of the steps, else the last."""
    if run.get("completedAt"):
        return "ok", "completed"
    steps = run.get("steps")
    known = {
        name: result.get("state")
        for name, result in (steps.items() if isinstance(steps, dict) else ())
        if isinstance(result, dict)
    }
    for name in reversed(STEPS):
        tone, words = describe_state(known.get(name))
        if name in known and tone == "bad":
            return tone, f"{STEPS[name].lower()} {words}"
    last = next((name for name in reversed(STEPS) if name in known), None)
    if last is None:
        return "quiet", "nothing sent yet"
    _, words = describe_state(known[last])
    is_open = known[last] == StepState.SENT and last != MAIN_DM
    return "quiet", f"{STEPS[last].lower()} {words}{', no tap yet' if is_open else ''}"


def _read_day(text: str, reader: Reader, *, is_last: bool = False) -> datetime | None:
    try:
        day = date.fromisoformat(text)
        return start_of_day(day + timedelta(days=1) if is_last else day, reader.zone)
    except (ValueError, OverflowError):
        return None


def _build_query(query: QueryDict, cursor: str | None) -> str:
    kept = {**query.dict(), "cursor": cursor}
    return urlencode({name: value for name, value in kept.items() if value})


def _build_export(wanted: RunFilter) -> str:
    """Return the query by which the API exports the same runs."""
    named = {
        "triggerType": wanted.trigger_type,
        "outcome": wanted.state,
        "userId": wanted.user_id,
        "postId": wanted.post_id,
        "from": wanted.from_ and format_time(wanted.from_),
        "to": wanted.to and format_time(wanted.to),
    }
    return urlencode({name: value for name, value in named.items() if value})


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
