"""The HTTP API of runs: pages, one run, and CSV."""

import csv
import io
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import chain, islice
from typing import Annotated, Any, NotRequired, Required, TypedDict

from django.http import StreamingHttpResponse
from rest_framework.exceptions import NotFound
from rest_framework.renderers import BaseRenderer
from rest_framework.request import Request
from rest_framework.response import Response

from automations.api import openapi
from automations.api.base import (
    Json,
    OrjsonRenderer,
    WorkspaceView,
    get_automation_id,
    represent,
    to_json,
)
from automations.api.openapi import build_example, describe, eg, keeps_unknown_fields
from automations.api.query_parameters import RunFilterQuery, RunPageQuery, build_filter
from automations.rules import store
from tracking import reports
from tracking.clock import read_now
from tracking.ids import parse_trigger_id
from tracking.queries.run_filters import STEPS, RunFilter


@keeps_unknown_fields
class StepAnswer(TypedDict, total=False):
    """What became of a step."""

    state: openapi.State
    at: openapi.StoredMoment
    reason: openapi.Reason
    code: openapi.MetaCode
    subcode: openapi.MetaSubcode


@keeps_unknown_fields
class MetadataAnswer(TypedDict, total=False):
    """What was written, and where."""

    messageText: Annotated[str | None, eg("price please")]
    postId: Annotated[str | None, eg("17900000008426573")]
    storyId: Annotated[str | None, eg(None)]
    conversationId: Annotated[str | None, eg(None)]
    keyword: Annotated[str | None, eg("price")]


@keeps_unknown_fields
class RunAnswer(TypedDict, total=False):
    """A run: every stored field, `steps` by the name of the step.

    Fields of another product are passed on, and so is what it stored in these fields with another
    type. Only texts are text in any case.
    """

    _id: Required[Annotated[str, eg("6b04d399e481bd40c528e310")]]
    automationId: openapi.Id | None
    workspaceId: openapi.WorkspaceId | None
    triggerType: Annotated[str | None, eg("comment_reply", "The first step of the run.")]
    userId: Annotated[str | None, eg("1186769685516671", "The person.")]
    personUnknown: Annotated[bool | None, eg(False, "Instagram did not name the person.")]
    metadata: MetadataAnswer | None
    createdAt: openapi.StoredMoment | None
    occurredAt: openapi.StoredMoment | None
    eventId: Required[openapi.EventId | None]
    steps: Required[dict[openapi.Step, StepAnswer] | None]
    completedAt: Required[openapi.StoredMoment | None]


_Window = TypedDict("_Window", {"from": openapi.Moment | None, "to": openapi.Moment | None})


class RunPage(_Window):
    """A page of runs, newest first; on the last, `nextCursor` is null."""

    success: openapi.Success
    runs: list[RunAnswer]
    nextCursor: Annotated[str | None, eg("HwAAAAl0AFreC6yaAQAAB2kAawTTmeSBvUDFKOMQAA")]
    asOf: openapi.Moment
    pending: Annotated[int | None, eg(0, "Events that are being counted; null on later pages.")]


class EventAnswer(TypedDict):
    """An event behind a run. `state`, `progress` and `doneAt` concern sending."""

    kind: Annotated[str, eg("comment", "comment, message or call.")]
    eventId: openapi.EventId
    outcome: NotRequired[
        Annotated[str, eg("counted", "counted, duplicate or continuation, once it is counted.")]
    ]
    createdAt: openapi.StoredMoment
    occurredAt: NotRequired[openapi.StoredMoment]
    state: NotRequired[openapi.State]
    progress: NotRequired[dict[openapi.Step, StepAnswer]]
    doneAt: NotRequired[openapi.StoredMoment]


class OneRun(TypedDict):
    """A run, and the events behind it while they are kept."""

    success: openapi.Success
    run: RunAnswer
    triggers: list[EventAnswer]


# What every client may rely on to be text, whatever a document holds.
_TEXTS = ("automationId", "workspaceId", "triggerType", "userId", "eventId")
# Of a trigger. What it sends holds messages, and is not shown.
_TRIGGER_FIELDS = ("outcome", "createdAt", "occurredAt", "state", "progress", "doneAt")

CSV_COLUMNS = (
    *("_id", "createdAt", "occurredAt", "automationId", "triggerType", "userId", "personUnknown"),
    *("eventId", "postId", "storyId", "messageText", *STEPS, "completedAt"),
)
_ROWS_PER_CHUNK = 500
# A spreadsheet takes a cell that starts so for a formula
# (https://owasp.org/www-community/attacks/CSV_Injection); an apostrophe makes it text.
_FORMULA_STARTS = ("=", "+", "-", "@", "\t", "\r")


def build_run(run: Mapping[str, Any]) -> RunAnswer:
    answer: RunAnswer = represent(run, texts=_TEXTS)
    # Runs of older products lack them.
    answer.setdefault("eventId", None)
    answer.setdefault("steps", {})
    answer.setdefault("completedAt", None)
    return answer


def build_event(trigger: Mapping[str, Any]) -> Json:
    _, kind, event_id = parse_trigger_id(trigger["_id"])
    shown = {name: to_json(trigger[name]) for name in _TRIGGER_FIELDS if name in trigger}
    return {"kind": kind, "eventId": event_id, **shown}


def write_csv(runs: Iterable[Mapping[str, Any]]) -> Iterator[bytes]:
    """Yield a CSV file with a heading, in pieces (RFC 4180, UTF-8)."""
    rows = chain([list(CSV_COLUMNS)], map(build_row, runs))
    while chunk := list(islice(rows, _ROWS_PER_CHUNK)):
        text = io.StringIO(newline="")
        csv.writer(text).writerows(chunk)
        # A lone surrogate in somebody's text has no UTF-8.
        yield text.getvalue().encode("utf-8", "replace")


def build_row(run: Mapping[str, Any]) -> list[str]:
    answer: Json = {**build_run(run)}
    metadata = answer.get("metadata")
    steps = answer["steps"] if isinstance(answer["steps"], dict) else {}
    values = {
        **(metadata if isinstance(metadata, dict) else {}),
        **answer,
        **{
            name: step.get("state")
            for name, step in steps.items()
            if name in STEPS and isinstance(step, dict)
        },
    }
    return [guard_cell(values.get(column)) for column in CSV_COLUMNS]


def guard_cell(value: Any) -> str:
    if value is None:
        return ""
    text = ("true" if value else "false") if isinstance(value, bool) else str(value)
    return f"'{text}" if text.startswith(_FORMULA_STARTS) else text


_CSV_EXAMPLE = b"".join(write_csv([build_example(RunAnswer)])).decode()


class RunListView(WorkspaceView):
    query_class = RunPageQuery

    @describe("listRuns", RunPage, query=RunPageQuery)
    def get(self, request: Request, wsid: str) -> Response:
        """List the runs of the workspace.

        A page of them, newest first, also those of deleted automations.
        """
        return self._list(build_filter(self.query, wsid), store.list_automation_ids(wsid))

    def _list(self, wanted: RunFilter, automation_ids: Sequence[str]) -> Response:
        at, cursor, limit = read_now(), self.query.get("cursor"), self.query["limit"]
        page = reports.list_runs(
            wanted, limit=limit, cursor=cursor, automation_ids=automation_ids, at=at
        )
        answer: RunPage = {
            "success": True,
            "runs": [build_run(run) for run in page.runs],
            "nextCursor": page.next_cursor,
            "from": self.query.get("from"),
            "to": self.query.get("to"),
            "asOf": at,
            # Later pages are read without counting what waits.
            "pending": page.pending if cursor is None else None,
        }
        return Response(answer)


class AutomationRunListView(RunListView):
    @describe("listAutomationRuns", RunPage, query=RunPageQuery)
    def get(self, request: Request, wsid: str, automation_id: str) -> Response:  # type: ignore[override]
        """List the runs of an automation.

        A page of them, newest first, also when the automation is deleted.
        """
        known_as = get_automation_id(wsid, automation_id)
        return self._list(build_filter(self.query, wsid, known_as), [known_as])


class RunView(WorkspaceView):
    @describe("getRun", OneRun)
    def get(self, request: Request, wsid: str, run_id: str) -> Response:
        """Show a run.

        With what became of its steps, and the events behind it while they are kept.
        """
        found = reports.find_run(wsid, run_id)
        if found is None:
            raise NotFound
        triggers = [build_event(one) for one in found.triggers]
        return Response({"success": True, "run": build_run(found.run), "triggers": triggers})


class RunCsvView(WorkspaceView):
    query_class = RunFilterQuery
    file_name = "runs.csv"

    def perform_content_negotiation(
        self, request: Request, force: bool = False
    ) -> tuple[BaseRenderer, str]:
        """Answer CSV whatever is accepted; errors are JSON as everywhere."""
        return OrjsonRenderer(), OrjsonRenderer.media_type

    @describe("exportRuns", _CSV_EXAMPLE, query=RunFilterQuery, tag="runs")
    def get(self, request: Request, wsid: str) -> StreamingHttpResponse:
        """Export the runs of the workspace."""
        return self._stream(build_filter(self.query, wsid))

    def _stream(self, wanted: RunFilter) -> StreamingHttpResponse:
        runs = reports.iterate_runs(wanted)
        # Read before the answer begins, so that an unavailable database is a 503 and no half file.
        first = list(islice(runs, 1))
        response = StreamingHttpResponse(
            write_csv(chain(first, runs)), content_type="text/csv; charset=utf-8"
        )
        response["Content-Disposition"] = f'attachment; filename="{self.file_name}"'
        # The workspace's share is held until the file is read, or its reader is gone.
        close = self.held.pop_all().close
        response._resource_closers.append(close)  # type: ignore[attr-defined]  # noqa: SLF001
        return response


class AutomationRunCsvView(RunCsvView):
    @describe("exportAutomationRuns", _CSV_EXAMPLE, query=RunFilterQuery)
    def get(  # type: ignore[override]
        self, request: Request, wsid: str, automation_id: str
    ) -> StreamingHttpResponse:
        """Export the runs of an automation."""
        return self._stream(build_filter(self.query, wsid, get_automation_id(wsid, automation_id)))
