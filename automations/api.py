"""The HTTP API of automations: one class per path, one domain call per method."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from functools import partial
from typing import Any

from django.urls import reverse
from rest_framework import status
from rest_framework.exceptions import NotFound
from rest_framework.parsers import BaseParser, FormParser, MultiPartParser
from rest_framework.permissions import IsAuthenticated
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from automations.accounts.accounts import verify_free
from automations.answers import Json, build_automation
from automations.api_docs import describe
from automations.auth.authentication import BearerTokenAuthentication, SessionTokenAuthentication
from automations.auth.permissions import IsOwnWorkspace
from automations.auth.throttling import TokenThrottle
from automations.formats import BrowsableRenderer, OrjsonParser, OrjsonRenderer
from automations.query_parameters import QuerySerializer
from automations.rules import store
from automations.serializers import (
    AutomationChangesSerializer,
    AutomationSerializer,
    StrictSerializer,
    build_changes,
    build_document,
)
from tracking import service
from tracking.clock import format_time, read_now
from tracking.mongo import errors as mongo_errors


class WorkspaceView(APIView):
    """What every path of a workspace shares: who may, and how bodies look."""

    authentication_classes = (BearerTokenAuthentication, SessionTokenAuthentication)
    permission_classes = (IsAuthenticated, IsOwnWorkspace)
    renderer_classes = (OrjsonRenderer, BrowsableRenderer)
    parser_classes: Sequence[type[BaseParser]] = (OrjsonParser,)
    throttle_classes = (TokenThrottle,)
    # The parameters of GET; other methods have none.
    query_class: type[QuerySerializer] = QuerySerializer
    query: Mapping[str, Any]
    refused_form: StrictSerializer | None = None

    def initial(self, request: Request, *args: Any, **kwargs: Any) -> None:
        """Check who asks and how often, and then the parameters. Raises APIException."""
        super().initial(request, *args, **kwargs)
        if request.method not in self.allowed_methods:
            return  # that will be said instead
        is_read = request.method in ("GET", "HEAD")
        query_class = self.query_class if is_read else QuerySerializer
        serializer = query_class(data=request.query_params.dict())
        serializer.is_valid(raise_exception=True)
        self.query = serializer.validated_data

    @property
    def default_response_headers(self) -> dict[str, str]:
        """Return DRF's headers; answers to a token belong into no cache."""
        return {**super().default_response_headers, "Cache-Control": "no-store"}

    def read_context(self) -> dict[str, Any]:
        """Return what serializers have to know of the request."""
        return {"verify_account": partial(verify_free, workspace_id=self.kwargs.get("wsid", ""))}

    def check_input(self, serializer: StrictSerializer) -> dict[str, Any]:
        """Return the checked values. Raises ValidationError, and keeps the form for the page."""
        if not serializer.is_valid():
            self.refused_form = serializer
            serializer.is_valid(raise_exception=True)
        values: dict[str, Any] = serializer.validated_data
        return values


class AutomationListView(WorkspaceView):
    """The automations of the workspace, newest first, with their runs."""

    parser_classes = (OrjsonParser, FormParser, MultiPartParser)

    @describe("listAutomations")
    def get(self, request: Request, wsid: str) -> Response:
        """List them all, in one page."""
        documents = store.list_automations(wsid)
        return Response({"success": True, "automations": build_answers(documents, at=read_now())})

    @describe("createAutomation")
    def post(self, request: Request, wsid: str) -> Response:
        """Create one; it answers events from the next second on."""
        at = read_now()
        values = self.check_input(self.get_serializer(data=request.data))
        document = build_document(values, workspace_id=wsid, at=at)
        store.insert_automation(document)
        [answer] = build_answers([document], at=at)
        location = reverse("automations:automation", args=(wsid, answer["_id"]))
        return Response(
            {"success": True, "automation": answer},
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
        [answer] = build_answers([document], at=read_now())
        return Response({"success": True, "automation": answer})


class AutomationStatsView(WorkspaceView):
    """The runs of one automation, counted to the millisecond at `asOf`."""

    @describe("getAutomationStats")
    def get(self, request: Request, wsid: str, automation_id: str) -> Response:
        """Show the total, the newest run, and the runs of the last 24 hours and 7 days."""
        document = store.find_automation(wsid, automation_id)
        if document is None:
            raise NotFound
        at = read_now()
        [answer] = build_answers([document], at=at)
        shown = {
            name: answer[name]
            for name in ("_id", "totalRuns", "lastRunAt", "stats")
            if name in answer
        }
        return Response({"success": True, **shown, "asOf": format_time(at)})


def build_answers(documents: Sequence[Mapping[str, Any]], *, at: datetime) -> list[Json]:
    """Return automations as the API shows them, with their runs at the instant `at`.

    Without `stats` when they are off. Raises TrackingUnavailable.
    """
    with mongo_errors.reach_mongo():
        if not service.is_stats_enabled():
            totals = service.get_totals(documents)
            return [
                build_automation(document, total_runs=runs, last_run_at=last_run_at, stats=None)
                for document in documents
                for runs, last_run_at in (totals[str(document["_id"])],)
            ]
        summaries = service.summarize_runs(documents, at=at)
    answers = []
    for document in documents:
        summary = summaries[str(document["_id"])]
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
                stats=stats,
            )
        )
    return answers
