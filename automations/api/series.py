"""The HTTP API of counts over time, of people, and of what became of runs."""

from __future__ import annotations

from collections.abc import Sequence

from rest_framework.exceptions import ErrorDetail, NotFound, ValidationError
from rest_framework.request import Request
from rest_framework.response import Response

from automations.api.base import WorkspaceView, find_automation_id
from automations.api.openapi import describe
from automations.api.query_parameters import RangeQuery, SeriesQuery, find_window
from automations.api.series_representations import build_outcomes, build_people, build_series
from automations.instagram.events import IGNORED_REASONS
from automations.rules import store
from tracking import reports
from tracking.clock import read_now
from tracking.queries.run_filters import RunFilter
from tracking.queries.time_grid import BadRange, Unit

_WORDS: dict[str, str] = {str(reason): words for reason, words in IGNORED_REASONS.items()} | {
    "no_automation": "no automation answers it"
}


class SeriesView(WorkspaceView):
    """The runs of the workspace by hour or day of any time zone."""

    query_class = SeriesQuery

    @describe("getSeries")
    def get(self, request: Request, wsid: str) -> Response:
        """Count those of all its automations, deleted ones too."""
        return self._answer(store.list_automation_ids(wsid), RunFilter(workspace_id=wsid))

    def _answer(self, automation_ids: Sequence[str], wanted: RunFilter) -> Response:
        at = read_now()
        unit, zone = Unit(self.query["unit"]), self.query["zone"]
        includes = self.query.get("include", frozenset())
        from_, to = find_window(self.query, unit=unit, at=at)
        try:
            series = reports.read_series(
                automation_ids, unit=unit, zone=zone, from_=from_, to=to, at=at,
                is_split="automations" in includes, has_outcomes="outcomes" in includes,
            )  # fmt: skip
        except BadRange as error:
            raise _refuse(error) from error
        answer = build_series(series, unit=unit, zone=zone)
        if "people" in includes:
            start, end = series.grid.start, series.grid.end
            people = reports.count_people(
                RunFilter(
                    workspace_id=wanted.workspace_id, automation_id=wanted.automation_id,
                    from_=start, to=end,
                )
            )  # fmt: skip
            answer["people"] = build_people(people, start, end)
        return Response({"success": True, **answer})


class AutomationSeriesView(SeriesView):
    """The runs of one automation by hour or day of any time zone."""

    @describe("getAutomationSeries")
    def get(self, request: Request, wsid: str, automation_id: str) -> Response:  # type: ignore[override]
        """Count them, also when the automation is deleted."""
        known_as = find_automation_id(wsid, automation_id)
        return self._answer([known_as], RunFilter(workspace_id=wsid, automation_id=known_as))


class AutomationOutcomesView(WorkspaceView):
    """What became of an automation's runs, and why not everything that came is a run."""

    query_class = RangeQuery

    @describe("getAutomationOutcomes")
    def get(self, request: Request, wsid: str, automation_id: str) -> Response:
        """Count them over the whole hours of the range; the last 7 days unless it is named."""
        document = store.find_automation(wsid, automation_id, is_deleted_too=True)
        if document is None:
            raise NotFound
        known_as, account_id = str(document["_id"]), document.get("accountId")
        at = read_now()
        from_, to = find_window(self.query, unit=Unit.DAY, at=at)
        try:
            funnel = reports.summarize_funnel([known_as], from_=from_, to=to, at=at)
        except BadRange as error:
            raise _refuse(error) from error
        from_, to = funnel.from_, funnel.to
        reasons = reports.summarize_reasons(
            RunFilter(workspace_id=wsid, automation_id=known_as, from_=from_, to=to)
        )
        uncounted = reports.summarize_uncounted(
            known_as, None if account_id is None else str(account_id), from_=from_, to=to, at=at
        )
        return Response(
            {"success": True, **build_outcomes(funnel, reasons, uncounted, words=_WORDS)}
        )


def _refuse(error: BadRange) -> ValidationError:
    return ValidationError({"from": ErrorDetail(str(error), "bad_range")})
