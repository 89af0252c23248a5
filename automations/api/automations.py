"""The HTTP API of automations, and the shape of one."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Annotated, Any, NotRequired, Required, TypedDict

from django.urls import reverse
from rest_framework import status
from rest_framework.exceptions import NotFound
from rest_framework.parsers import FormParser, MultiPartParser
from rest_framework.request import Request
from rest_framework.response import Response

from automations.api import openapi
from automations.api.base import OrjsonParser, WorkspaceView, get_automation, represent
from automations.api.openapi import build_example, describe, eg, keeps_unknown_fields
from automations.api.serializers import (
    AutomationChangesSerializer,
    AutomationSerializer,
    build_changes,
    build_document,
)
from automations.rules import store
from automations.rules.steps import PARTS
from tracking import service
from tracking.clock import format_time, read_now
from tracking.ids import name_id
from tracking.mongo.errors import bounded
from tracking.queries.stats import RunSummary


class Stats(TypedDict):
    """Runs, to the millisecond."""

    totalRuns: int
    last24Hours: int
    last7Days: int


@keeps_unknown_fields
class TriggerPart(TypedDict, total=False):
    """What starts an automation: a keyword, under one of the posts."""

    match: Annotated[str | None, eg("contains")]
    keywords: Annotated[list[str], eg(["price"])]
    postIds: Annotated[list[str], eg([])]


@keeps_unknown_fields
class CommentReplyPart(TypedDict, total=False):
    """The public reply to a comment; one of the texts is chosen."""

    texts: Annotated[list[str], eg(["Sent!"])]


@keeps_unknown_fields
class ButtonMessagePart(TypedDict, total=False):
    """A message with a button."""

    text: Annotated[str | None, eg("Shall I send you our prices?")]
    button: Annotated[str | None, eg("Yes, send them")]


@keeps_unknown_fields
class LinkPart(TypedDict, total=False):
    """A button that opens a page."""

    title: Annotated[str | None, eg("See prices")]
    url: Annotated[str | None, eg("https://shop.example.com/prices")]


@keeps_unknown_fields
class LinksMessagePart(TypedDict, total=False):
    """A message with links."""

    text: Annotated[str | None, eg("Here they are:")]
    links: list[LinkPart]


_Time = Annotated[
    str | None, eg("2026-11-24T00:16:28.144Z", "A time, or what another product stored as one.")
]


@keeps_unknown_fields
class AutomationAnswer(TypedDict, total=False):
    """An automation: every stored field, and its runs.

    There are no `stats` while statistics are off. Fields of another product are passed on, and so
    is what it stored in these fields with another type. Only texts are text in any case.
    """

    _id: Required[openapi.Id]
    workspaceId: openapi.WorkspaceId | None
    accountId: openapi.AccountId | None
    name: Annotated[str | None, eg("Price list")]
    type: Annotated[str | None, eg("comment_to_dm")]
    isActive: Annotated[bool | None, eg(True)]
    trigger: TriggerPart | None
    commentReply: CommentReplyPart | None
    openingDm: ButtonMessagePart | None
    askFollow: ButtonMessagePart | None
    mainDm: LinksMessagePart | None
    createdAt: _Time
    updatedAt: _Time
    totalRuns: Required[int]
    lastRunAt: Required[openapi.StoredMoment | None]
    stats: Stats


class Instant(TypedDict):
    """When the figures are of, and how many events were not counted then."""

    asOf: openapi.Moment
    pending: openapi.Pending


class AutomationList(Instant):
    """All automations of the workspace, newest first."""

    success: openapi.Success
    automations: list[AutomationAnswer]


class OneAutomation(Instant):
    """One automation."""

    success: openapi.Success
    automation: AutomationAnswer


class AutomationStats(Instant):
    """The runs of one automation, at `asOf`."""

    success: openapi.Success
    _id: openapi.Id
    totalRuns: int
    lastRunAt: openapi.StoredMoment | None
    stats: NotRequired[Stats]


# What every client may rely on to be text, whatever a document holds.
_TEXTS = ("name", "type", "accountId", "workspaceId", "createdAt", "updatedAt")
_EXAMPLE = build_example(AutomationAnswer)
_NEW = {name: _EXAMPLE[name] for name in ("name", "type", "accountId", "trigger", *PARTS)}


class AutomationListView(WorkspaceView):
    parser_classes = (OrjsonParser, FormParser, MultiPartParser)

    @describe("listAutomations", AutomationList)
    def get(self, request: Request, wsid: str) -> Response:
        """List the automations, newest first, in one page."""
        head, answers = build_answers(store.list_automations(wsid), at=read_now())
        return Response(AutomationList(success=True, **head, automations=answers))

    @describe("createAutomation", OneAutomation, status=201, body=(AutomationSerializer, _NEW))
    def post(self, request: Request, wsid: str) -> Response:
        """Create an automation; it answers events from the next second on."""
        at = read_now()
        values = self.check_input(self.get_serializer(data=request.data))
        document = build_document(values, workspace_id=wsid, at=at)
        store.insert_automation(document)
        head, [answer] = build_answers([document], at=at)
        location = reverse("automations:automation", args=(wsid, answer["_id"]))
        return Response(
            OneAutomation(success=True, **head, automation=answer),
            status=status.HTTP_201_CREATED,
            headers={"Location": location},
        )

    def get_serializer(self, **options: Any) -> AutomationSerializer:
        """Return the input of POST, also for the browsable API."""
        return AutomationSerializer(**options, context=self.read_context())


class AutomationView(WorkspaceView):
    shown: Mapping[str, Any] | None = None

    @describe("getAutomation", OneAutomation)
    def get(self, request: Request, wsid: str, automation_id: str) -> Response:
        """Show an automation, with its runs."""
        return self._answer(get_automation(wsid, automation_id))

    @describe(
        "changeAutomation", OneAutomation, body=(AutomationChangesSerializer, {"isActive": False})
    )
    def patch(self, request: Request, wsid: str, automation_id: str) -> Response:
        """Change an automation, or switch it on or off.

        What is not named stays; a part that is null or empty is removed.
        """
        values = self.check_input(self.get_serializer(data=request.data))
        changes, removed = build_changes(values, at=read_now())
        changed = store.update_automation(wsid, automation_id, changes=changes, removed=removed)
        if changed is None:
            raise NotFound
        return self._answer(changed)

    @describe("deleteAutomation", openapi.Done)
    def delete(self, request: Request, wsid: str, automation_id: str) -> Response:
        """Delete an automation; its runs and counts are kept."""
        if not store.delete_automation(wsid, automation_id, at=read_now()):
            raise NotFound
        return Response(openapi.Done(success=True))

    def get_serializer(self, **options: Any) -> AutomationChangesSerializer:
        """Return the input of PATCH, or the form of what is shown."""
        if options.get("instance") is None and "data" not in options:
            options["instance"] = self.shown
        return AutomationChangesSerializer(**options, context=self.read_context())

    def _answer(self, document: Mapping[str, Any]) -> Response:
        self.shown = document
        head, [answer] = build_answers([document], at=read_now())
        return Response(OneAutomation(success=True, **head, automation=answer))


class AutomationStatsView(WorkspaceView):
    @describe("getAutomationStats", AutomationStats)
    def get(self, request: Request, wsid: str, automation_id: str) -> Response:
        """Count an automation's runs now.

        In all, of the last 24 hours and of the last 7 days, to the millisecond.
        """
        document = get_automation(wsid, automation_id)
        head, [found] = build_answers([document], at=read_now())
        names = ("_id", "totalRuns", "lastRunAt", "stats")
        figures = {name: value for name, value in found.items() if name in names}
        return Response({"success": True, **head, **figures})


def build_answers(
    documents: Sequence[Mapping[str, Any]], *, at: datetime
) -> tuple[Instant, list[AutomationAnswer]]:
    """Return the instant of the figures, and automations as the API shows them."""
    with bounded():
        has_stats = service.is_stats_enabled()
        found = service.summarize_runs(documents, at=at, has_windows=has_stats)
    answers = [
        build_automation(one, found.by_automation[name_id(one["_id"])], has_stats=has_stats)
        for one in documents
    ]
    return Instant(asOf=found.as_of, pending=found.pending), answers


def build_automation(
    document: Mapping[str, Any], summary: RunSummary, *, has_stats: bool
) -> AutomationAnswer:
    """Return an automation as the API shows it, without `stats` of an older product."""
    answer: AutomationAnswer = represent(document, texts=_TEXTS)
    last_run_at = summary.last_run_at
    answer["totalRuns"] = summary.total_runs
    answer["lastRunAt"] = None if last_run_at is None else format_time(last_run_at)
    answer.pop("stats", None)
    if has_stats:
        answer["stats"] = {
            "totalRuns": summary.total_runs,
            "last24Hours": summary.last_24_hours,
            "last7Days": summary.last_7_days,
        }
    return answer
