"""The HTTP API of runs: pages of them, one of them, and all of them as CSV."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain, islice

from django.http import StreamingHttpResponse
from rest_framework.exceptions import NotFound, ValidationError
from rest_framework.renderers import BaseRenderer
from rest_framework.request import Request
from rest_framework.response import Response

from automations.api.base import WorkspaceView, find_automation_id
from automations.api.openapi import describe
from automations.api.query_parameters import RunFilterQuery, RunPageQuery, build_filter
from automations.api.renderers import OrjsonRenderer
from automations.api.run_representations import build_run, build_trigger, write_csv
from automations.api.series_representations import describe_window
from automations.rules import store
from tracking import reports
from tracking.clock import format_time, read_now
from tracking.queries.run_filters import InvalidCursor, RunFilter


class RunListView(WorkspaceView):
    """The runs of the workspace, newest first."""

    query_class = RunPageQuery

    @describe("listRuns")
    def get(self, request: Request, wsid: str) -> Response:
        """List a page of them, also those of deleted automations."""
        wanted = RunFilter(workspace_id=wsid, **build_filter(self.query))
        return self._list(wanted, store.list_automation_ids(wsid))

    def _list(self, wanted: RunFilter, automation_ids: Sequence[str]) -> Response:
        at, cursor = read_now(), self.query.get("cursor")
        try:
            page = reports.list_runs(
                wanted, limit=self.query["limit"], cursor=cursor,
                automation_ids=automation_ids, at=at,
            )  # fmt: skip
        except InvalidCursor:
            raise ValidationError(
                {"cursor": "Use 'nextCursor' of an answer as it is, or leave it out."}, "invalid"
            ) from None
        return Response({
            "success": True,
            "runs": [build_run(run) for run in page.runs],
            "nextCursor": page.next_cursor,
            **describe_window(self.query),
            "asOf": format_time(at),
            # Later pages are read without looking what waits.
            "pending": page.pending if cursor is None else None,
        })  # fmt: skip


class AutomationRunListView(RunListView):
    """The runs of one automation, newest first."""

    @describe("listAutomationRuns")
    def get(self, request: Request, wsid: str, automation_id: str) -> Response:  # type: ignore[override]
        """List a page of them, also when the automation is deleted."""
        known_as = find_automation_id(wsid, automation_id)
        wanted = RunFilter(workspace_id=wsid, automation_id=known_as, **build_filter(self.query))
        return self._list(wanted, [known_as])


class RunView(WorkspaceView):
    """One run of the workspace."""

    @describe("getRun")
    def get(self, request: Request, wsid: str, run_id: str) -> Response:
        """Show it with what became of its steps, and the events behind it while they are kept."""
        found = reports.find_run(wsid, run_id)
        if found is None:
            raise NotFound
        triggers = [build_trigger(one) for one in found.triggers]
        return Response({"success": True, "run": build_run(found.run), "triggers": triggers})


class RunCsvView(WorkspaceView):
    """The runs of the workspace as CSV, newest first, however many there are."""

    query_class = RunFilterQuery
    file_name = "runs.csv"

    def perform_content_negotiation(
        self, request: Request, force: bool = False
    ) -> tuple[BaseRenderer, str]:
        """Answer CSV to whatever is accepted; errors are JSON as everywhere."""
        return OrjsonRenderer(), OrjsonRenderer.media_type

    @describe("exportRuns")
    def get(self, request: Request, wsid: str) -> StreamingHttpResponse:
        """Stream those that there are now."""
        return self._stream(RunFilter(workspace_id=wsid, **build_filter(self.query)))

    def _stream(self, wanted: RunFilter) -> StreamingHttpResponse:
        runs = reports.iterate_runs(wanted)
        # Read before the answer begins: a database that is away is a 503, not half a file.
        first = list(islice(runs, 1))
        response = StreamingHttpResponse(
            write_csv(chain(first, runs)), content_type="text/csv; charset=utf-8"
        )
        response["Content-Disposition"] = f'attachment; filename="{self.file_name}"'
        return response


class AutomationRunCsvView(RunCsvView):
    """The runs of one automation as CSV."""

    @describe("exportAutomationRuns")
    def get(  # type: ignore[override]
        self, request: Request, wsid: str, automation_id: str
    ) -> StreamingHttpResponse:
        """Stream those that there are now."""
        return self._stream(
            RunFilter(
                workspace_id=wsid,
                automation_id=find_automation_id(wsid, automation_id),
                **build_filter(self.query),
            )
        )
