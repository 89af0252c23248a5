"""The HTTP API of automations: one class per path, one domain call per method."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from django.urls import reverse
from rest_framework import status
from rest_framework.exceptions import NotFound
from rest_framework.parsers import FormParser, MultiPartParser
from rest_framework.request import Request
from rest_framework.response import Response

from automations.api.base import WorkspaceView
from automations.api.bson_json import Json, to_json
from automations.api.openapi import describe
from automations.api.renderers import OrjsonParser
from automations.api.serializers import (
    AutomationChangesSerializer,
    AutomationSerializer,
    build_changes,
    build_document,
)
from automations.rules import store
from tracking import service
from tracking.clock import format_time, read_now
from tracking.mongo import errors as mongo_errors


class AutomationListView(WorkspaceView):
    """The automations of the workspace, newest first, with their runs."""

    parser_classes = (OrjsonParser, FormParser, MultiPartParser)

    @describe("listAutomations")
    def get(self, request: Request, wsid: str) -> Response:
        """List them all, in one page."""
        head, answers = build_answers(store.list_automations(wsid), at=read_now())
        return Response({"success": True, **head, "automations": answers})

    @describe("createAutomation")
    def post(self, request: Request, wsid: str) -> Response:
        """Create one; it answers events from the next second on."""
        at = read_now()
        values = self.check_input(self.get_serializer(data=request.data))
        document = build_document(values, workspace_id=wsid, at=at)
        store.insert_automation(document)
        head, [answer] = build_answers([document], at=at)
        location = reverse("automations:automation", args=(wsid, answer["_id"]))
        return Response(
            {"success": True, **head, "automation": answer},
            status=status.HTTP_201_CREATED,
            headers={"Location": location},
        )

    def get_serializer(self, **options: Any) -> AutomationSerializer:
        """Return the input of POST, also for the forms of the browsable API."""
        return AutomationSerializer(**options, context=self.read_context())


class AutomationView(WorkspaceView):
    """One automation of the workspace."""

    shown: Mapping[str, Any] | None = None

    @describe("getAutomation")
    def get(self, request: Request, wsid: str, automation_id: str) -> Response:
        """Show it, with its runs."""
        return self._answer(store.find_automation(wsid, automation_id))

    @describe("changeAutomation")
    def patch(self, request: Request, wsid: str, automation_id: str) -> Response:
        """Change the fields that are named; a part of null or nothing is removed."""
        values = self.check_input(self.get_serializer(data=request.data))
        changes, removed = build_changes(values, at=read_now())
        return self._answer(
            store.update_automation(wsid, automation_id, changes=changes, removed=removed)
        )

    @describe("deleteAutomation")
    def delete(self, request: Request, wsid: str, automation_id: str) -> Response:
        """Stop it and take it off the list; its runs and counts are kept."""
        if not store.delete_automation(wsid, automation_id, at=read_now()):
            raise NotFound
        return Response({"success": True})

    def get_serializer(self, **options: Any) -> AutomationChangesSerializer:
        """Return the input of PATCH; without data, the form of what is shown."""
        if options.get("instance") is None and "data" not in options:
            options["instance"] = self.shown
        return AutomationChangesSerializer(**options, context=self.read_context())

    def _answer(self, document: Mapping[str, Any] | None) -> Response:
        if document is None:
            raise NotFound
        self.shown = document
        head, [answer] = build_answers([document], at=read_now())
        return Response({"success": True, **head, "automation": answer})


class AutomationStatsView(WorkspaceView):
    """The runs of one automation, counted to the millisecond at `asOf`."""

    @describe("getAutomationStats")
    def get(self, request: Request, wsid: str, automation_id: str) -> Response:
        """Show the total, the newest run, and the runs of the last 24 hours and 7 days."""
        document = store.find_automation(wsid, automation_id)
        if document is None:
            raise NotFound
        head, [answer] = build_answers([document], at=read_now())
        shown = {
            name: answer[name]
            for name in ("_id", "totalRuns", "lastRunAt", "stats")
            if name in answer
        }
        return Response({"success": True, **head, **shown})


def build_answers(
    documents: Sequence[Mapping[str, Any]], *, at: datetime
) -> tuple[Json, list[Json]]:
    """Return (`asOf` and `pending`, automations as the API shows them) at the instant `at`.

    Without `stats` when they are off. Raises TrackingUnavailable.
    """
    with mongo_errors.reach_mongo():
        has_stats = service.is_stats_enabled()
        found = service.summarize_runs(documents, at=at, has_windows=has_stats)
    answers = []
    for document in documents:
        summary = found.by_automation[str(document["_id"])]
        stats = {
            "totalRuns": summary.total_runs,
            "last24Hours": summary.last_24_hours,
            "last7Days": summary.last_7_days,
        }
        answers.append(
            build_automation(
                document,
                total_runs=summary.total_runs,
                last_run_at=summary.last_run_at,
                stats=stats if has_stats else None,
            )
        )
    return {"asOf": format_time(found.as_of), "pending": found.pending}, answers


def build_automation(
    document: Mapping[str, Any],
    *,
    total_runs: int,
    last_run_at: datetime | None,
    stats: Mapping[str, int] | None,
) -> Json:
    """Return an automation as the API shows it: every stored field, `_id` as a string, the totals.

    Without `stats` there is no such key, also where an older product stored one.
    """
    answer: Json = to_json(document)
    answer["_id"] = str(document["_id"])
    answer["totalRuns"] = total_runs
    answer["lastRunAt"] = None if last_run_at is None else format_time(last_run_at)
    answer.pop("stats", None)
    if stats is not None:
        answer["stats"] = stats
    return answer
