"""The HTTP API of counts over time, people, and outcomes of runs."""

from collections.abc import Sequence
from datetime import tzinfo
from typing import Annotated, NotRequired, TypedDict

import msgspec
from rest_framework.request import Request
from rest_framework.response import Response

from automations.api import openapi
from automations.api.base import WorkspaceView, get_automation, get_automation_id
from automations.api.openapi import describe, eg
from automations.api.query_parameters import RangeQuery, SeriesQuery, find_window
from automations.instagram.events import IGNORED_REASONS
from automations.rules import store
from tracking import reports
from tracking.clock import read_now
from tracking.ids import name_id
from tracking.queries.run_filters import RunFilter
from tracking.queries.run_store import Reasons
from tracking.queries.series import Series
from tracking.queries.time_grid import Counts, Unit

Outcome = Annotated[str, eg("main_dm.sent", "`<step>.<state>`, or `completed`.")]


class CountsAnswer(TypedDict):
    """Runs, duplicates and new people; null where it was not kept."""

    counted: int
    duplicates: int | None
    newPeople: int | None


class Bucket(CountsAnswer):
    """An hour or a day; `local` is what the zone calls it."""

    start: openapi.Moment
    end: openapi.Moment
    local: Annotated[str, eg("2026-11-24")]
    outcomes: NotRequired[dict[Outcome, int]]


class People(openapi.Range):
    """Distinct people of the range; at least so many, unless exact."""

    count: int
    isExact: bool


class SeriesAnswer(openapi.Range):
    """Counts by hour or day over whole buckets, all at `asOf`.

    Exact from `exactSince` on; duplicates and new people are known from `knownSince` on.
    """

    success: openapi.Success
    unit: Annotated[str, eg("day")]
    zone: Annotated[str, eg("Asia/Kolkata")]
    asOf: openapi.Moment
    pending: openapi.Pending
    isExact: bool
    exactSince: openapi.Moment
    knownSince: Annotated[openapi.Moment | None, eg(None)]
    totals: CountsAnswer
    buckets: list[Bucket]
    people: NotRequired[People]
    automations: NotRequired[dict[openapi.Id, list[int]]]


class FunnelAnswer(TypedDict):
    """How many runs reached each stage."""

    triggered: int
    opened: int
    asked: int
    completed: int


class ReasonAnswer(TypedDict):
    """Runs whose step came to this state for this reason."""

    step: openapi.Step
    state: openapi.State
    reason: openapi.Reason
    code: openapi.MetaCode
    subcode: openapi.MetaSubcode
    runs: int


class ReasonsAnswer(TypedDict):
    """Over the newest `runs` runs; the whole range, if it is exact."""

    runs: int
    isExact: bool
    list: Sequence[ReasonAnswer]


class IgnoredAnswer(TypedDict):
    """Events of the account that never start a run."""

    reason: Annotated[str, eg("own_comment")]
    meaning: Annotated[str, eg("the account commented itself")]
    events: int


class UncountedAnswer(TypedDict):
    """Events without a run. `redelivered` and `ignored` concern the whole account."""

    duplicates: int
    redelivered: int
    ignored: list[IgnoredAnswer]


class OutcomesAnswer(openapi.Range):
    """The outcomes of the runs of whole hours, `from` to `to`."""

    success: openapi.Success
    asOf: openapi.Moment
    pending: openapi.Pending
    isExact: bool
    funnel: FunnelAnswer
    steps: dict[openapi.Step, dict[openapi.State, int]]
    reasons: ReasonsAnswer
    uncounted: UncountedAnswer


_MEANINGS = IGNORED_REASONS | {"no_automation": "no automation answers it"}


class SeriesView(WorkspaceView):
    query_class = SeriesQuery

    @describe("getSeries", SeriesAnswer, query=SeriesQuery)
    def get(self, request: Request, wsid: str) -> Response:
        """Count the workspace's runs by hour or day.

        Those of all its automations, deleted ones too.
        """
        return self._answer(store.list_automation_ids(wsid), RunFilter(workspace_id=wsid))

    def _answer(self, automation_ids: Sequence[str], wanted: RunFilter) -> Response:
        at = read_now()
        unit, zone = Unit(self.query["unit"]), self.query["zone"]
        includes = self.query.get("include", frozenset())
        from_, to = find_window(self.query, unit=unit, at=at)
        series = reports.read_series(
            automation_ids,
            unit=unit,
            zone=zone,
            from_=from_,
            to=to,
            at=at,
            is_split="automations" in includes,
            has_outcomes="outcomes" in includes,
        )
        answer = build_series(series, unit=unit, zone=zone)
        if "people" in includes:
            from_, to = series.grid.start, series.grid.end
            found = reports.count_people(msgspec.structs.replace(wanted, from_=from_, to=to))
            counted = {"count": found.people, "isExact": found.is_exact}
            answer["people"] = {**counted, "from": from_, "to": to}  # type: ignore[typeddict-item]
        return Response(answer)


class AutomationSeriesView(SeriesView):
    @describe("getAutomationSeries", SeriesAnswer, query=SeriesQuery)
    def get(self, request: Request, wsid: str, automation_id: str) -> Response:  # type: ignore[override]
        """Count an automation's runs by hour or day.

        Also when it is deleted.
        """
        known_as = get_automation_id(wsid, automation_id)
        return self._answer([known_as], RunFilter(workspace_id=wsid, automation_id=known_as))


class AutomationOutcomesView(WorkspaceView):
    query_class = RangeQuery

    @describe("getAutomationOutcomes", OutcomesAnswer, query=RangeQuery)
    def get(self, request: Request, wsid: str, automation_id: str) -> Response:
        """Tell what became of an automation's runs.

        Over the whole hours of the range; the last 7 days unless it is named.
        """
        document = get_automation(wsid, automation_id, is_deleted_too=True)
        known_as, account_id = name_id(document["_id"]), document.get("accountId")
        at = read_now()
        from_, to = find_window(self.query, unit=Unit.DAY, at=at)
        found = reports.summarize_outcomes(
            known_as, None if account_id is None else str(account_id), from_=from_, to=to, at=at
        )
        wanted = RunFilter(
            workspace_id=wsid, automation_id=known_as, from_=found.from_, to=found.to
        )
        return Response(build_outcomes(found, reports.summarize_reasons(wanted)))


def build_series(series: Series, *, unit: Unit, zone: tzinfo) -> SeriesAnswer:
    grid = series.grid
    ends = [*grid.starts[1:], grid.end]
    known = [series.known_since is None or start >= series.known_since for start in grid.starts]
    buckets: list[Bucket] = []
    total = Counts()
    for counts, is_known, start, end in zip(series.total, known, grid.starts, ends, strict=True):
        moment = start.astimezone(zone)
        is_hour = unit is Unit.HOUR
        local = moment.isoformat(timespec="minutes") if is_hour else moment.date().isoformat()
        counted = _build_counts(counts, is_known)
        bucket: Bucket = {"start": start, "end": end, "local": local, **counted}  # type: ignore[typeddict-item]
        if series.outcomes is not None:
            bucket["outcomes"] = series.outcomes[len(buckets)]
        total.add(counts)
        buckets.append(bucket)
    answer: SeriesAnswer = {
        "success": True,
        "unit": unit.value,
        "zone": str(zone),
        "from": grid.start,
        "to": grid.end,
        "asOf": series.as_of,
        "pending": series.pending,
        "isExact": series.is_exact,
        "exactSince": series.exact_since,
        "knownSince": series.known_since,
        "totals": _build_counts(total, all(known)),
        "buckets": buckets,
    }
    if series.by_automation:
        answer["automations"] = {
            automation_id: [one.counted for one in counts]
            for automation_id, counts in series.by_automation.items()
        }
    return answer


def build_outcomes(found: reports.Outcomes, reasons: Reasons) -> OutcomesAnswer:
    steps: dict[str, dict[str, int]] = {}
    for name, count in found.steps.items():
        step, _, state = name.partition(".")
        steps.setdefault(step, {})[state] = count
    return {
        "success": True,
        "from": found.from_,
        "to": found.to,
        "asOf": found.as_of,
        "pending": found.pending,
        "isExact": found.is_exact,
        "funnel": {
            "triggered": found.counted,
            "opened": found.opened,
            "asked": found.asked,
            "completed": found.completed,
        },
        "steps": steps,
        "reasons": {
            "runs": reasons.runs,
            "isExact": reasons.is_exact,
            "list": msgspec.to_builtins(reasons.reasons),
        },
        "uncounted": {
            "duplicates": found.duplicates,
            "redelivered": found.redelivered,
            "ignored": [
                {"reason": reason, "meaning": _MEANINGS.get(reason, reason), "events": count}
                for reason, count in sorted(found.ignored.items(), key=lambda one: -one[1])
            ],
        },
    }


def _build_counts(counts: Counts, is_known: bool) -> CountsAnswer:
    return {
        "counted": counts.counted,
        "duplicates": counts.duplicates if is_known else None,
        "newPeople": counts.new_people if is_known else None,
    }
