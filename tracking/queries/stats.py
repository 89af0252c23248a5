"""Reading statistics: a bounded number of small documents, whatever the number of runs (I8, I9)."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, NamedTuple

import msgspec
from pymongo.client_session import ClientSession
from pymongo.database import Database

from tracking.clock import truncate_to_milliseconds
from tracking.mongo.commands import run_find, run_read
from tracking.mongo.transactions import read_at_snapshot
from tracking.rollups.hours import (
    LAST_7_DAYS,
    LAST_24_HOURS,
    WindowEdge,
    build_hour_id,
    build_total_ids,
)
from tracking.rollups.totals import newest_of, parse_count

Document = dict[str, Any]

STATS, RUNS = "automation_run_stats", "automation_runs"
_FIELDS = ["automationId", "stripe", "hour", "runs", "lastRunAt", "rollupsSince", "h", "m", "days"]


class RunSummary(msgspec.Struct, frozen=True):
    """An automation's counts at one instant."""

    total_runs: int
    last_run_at: datetime | None
    last_24_hours: int = 0
    last_7_days: int = 0


class _Part(NamedTuple):
    """Runs to be counted one by one, for the window with the number `edge`."""

    edge: int
    automation_ids: list[str]
    created_at: Document


class _Stored:
    """The stored counts of one automation, as one read found them."""

    __slots__ = ("base", "edge_hours", "live")

    def __init__(self) -> None:
        self.base: Document | None = None
        self.live: list[Document] = []
        self.edge_hours: dict[str, Document] = {}

    def total(self, automation: Mapping[str, Any]) -> tuple[int, datetime | None]:
        runs = sum(parse_count(document.get("runs")) for document in self.live)
        newest = [document.get("lastRunAt") for document in self.live]
        if self.base is not None:
            return runs + parse_count(self.base["runs"]), newest_of(
                self.base.get("lastRunAt"), *newest
            )
        stored = parse_count(automation.get("totalRuns"))
        return runs + stored, newest_of(automation.get("lastRunAt"), *newest)

    def is_complete_since(self, start: datetime) -> bool:
        if self.base is None:
            return False
        since = self.base.get("rollupsSince")
        return since is None or since < start


class StatsStore:
    """Reads of totals and windows, all of one answer at one snapshot."""

    def __init__(self, database: Database[Document]) -> None:
        self._database = database

    def list_totals(
        self, automations: Sequence[Mapping[str, Any]]
    ) -> dict[str, tuple[int, datetime | None]]:
        """Return (total, newest run) by automation id, without windows."""
        if not automations:
            return {}
        stored = read_at_snapshot(
            self._database.client, lambda session: self._read(automations, (), session)
        )
        return {
            str(automation["_id"]): stored[str(automation["_id"])].total(automation)
            for automation in automations
        }

    def summarize(
        self, automations: Sequence[Mapping[str, Any]], *, at: datetime
    ) -> dict[str, RunSummary]:
        """Return each automation's summary at the instant `at`, by automation id.

        `automations` are documents with `_id` and, where an older product left them, `totalRuns`
        and `lastRunAt`.
        """
        if not automations:
            return {}
        return read_at_snapshot(
            self._database.client,
            lambda session: self._summarize(automations, at, session),
        )

    def _summarize(
        self, automations: Sequence[Mapping[str, Any]], at: datetime, session: ClientSession
    ) -> dict[str, RunSummary]:
        # A date of MongoDB is cut to milliseconds, and so is where a window starts.
        at = truncate_to_milliseconds(at)
        edges = (WindowEdge(at - LAST_24_HOURS), WindowEdge(at - LAST_7_DAYS))
        stored = self._read(automations, edges, session)
        windows, parts = [], []
        for index, edge in enumerate(edges):
            counts, uncounted = _count_whole(stored, edge, index=index)
            windows.append(counts)
            parts += uncounted
        for row in self._count_runs(parts, session):
            window, automation_id = windows[row["edge"]], row["_id"]
            window[automation_id] = window.get(automation_id, 0) + row["runs"]
        summaries = {}
        for automation in automations:
            automation_id = str(automation["_id"])
            runs, newest = stored[automation_id].total(automation)
            summaries[automation_id] = RunSummary(
                runs, newest, *(window.get(automation_id, 0) for window in windows)
            )
        return summaries

    def _read(
        self,
        automations: Sequence[Mapping[str, Any]],
        edges: Sequence[WindowEdge],
        session: ClientSession,
    ) -> dict[str, _Stored]:
        stored: dict[str, _Stored] = {}
        ids: list[str] = []
        for automation in automations:
            automation_id = str(automation["_id"])
            stored[automation_id] = _Stored()
            ids += build_total_ids(automation_id)
            ids += [build_hour_id(automation_id, edge.hour) for edge in edges]
        # Of the hours that a base keeps, those of the two days that the windows cut.
        fields = _FIELDS + [f"hours.{edge.day}" for edge in edges]
        for document in run_find(
            self._database, STATS, {"_id": {"$in": ids}}, fields, most=len(ids), session=session
        ):
            parts = stored[document["automationId"]]
            if "stripe" in document:
                parts.live.append(document)
            elif "hour" in document:
                parts.edge_hours[document["_id"]] = document
            else:
                parts.base = document
        return stored

    def _count_runs(self, parts: Sequence[_Part], session: ClientSession) -> list[Document]:
        """Return `{_id, edge, runs}` for each automation that has runs in a part."""
        if not parts:
            return []
        most = sum(len(part.automation_ids) for part in parts)
        command = {
            "aggregate": RUNS,
            "pipeline": build_parts_pipeline(parts),
            "cursor": {"batchSize": most + 1},
        }
        return run_read(self._database, RUNS, command, session)


def _count_whole(
    stored: Mapping[str, _Stored], edge: WindowEdge, *, index: int
) -> tuple[dict[str, int], list[_Part]]:
    """Return the counts of a window's whole minutes, and what has to be counted from runs."""
    counts: dict[str, int] = {}
    cut: list[str] = []
    raw: list[str] = []
    for automation_id, parts in stored.items():
        if parts.base is None or not parts.is_complete_since(edge.start):
            raw.append(automation_id)
            continue
        counts[automation_id], in_cut_minute = edge.count_whole(
            parts.base,
            [document.get("h", {}) for document in parts.live],
            parts.edge_hours.get(build_hour_id(automation_id, edge.hour)),
        )
        if in_cut_minute:
            cut.append(automation_id)
    uncounted = (
        # Only the minute that the window cuts, and only where it holds any.
        _Part(index, cut, {"$gte": edge.start, "$lt": edge.minute_end}),
        # Before `add_run_fields` has built rollups, an older product's runs are counted one by one.
        _Part(index, raw, {"$gte": edge.start}),
    )
    return counts, [part for part in uncounted if part.automation_ids]


def build_parts_pipeline(parts: Sequence[_Part]) -> list[Document]:
    """Return the pipeline that counts several parts, each by its own scan of the index."""
    first, *others = [
        [
            *build_count_pipeline(part.automation_ids, part.created_at),
            {"$set": {"edge": part.edge}},
        ]
        for part in parts
    ]
    return first + [{"$unionWith": {"coll": RUNS, "pipeline": other}} for other in others]


def build_count_pipeline(
    automation_ids: Sequence[str], created_at: Mapping[str, datetime]
) -> list[Document]:
    """Return the pipeline that counts runs per automation; `automationId_createdAt` covers it."""
    return [
        {"$match": {"automationId": {"$in": list(automation_ids)}, "createdAt": dict(created_at)}},
        {"$group": {"_id": "$automationId", "runs": {"$sum": 1}}},
    ]
