"""Reading statistics: a bounded number of small documents, whatever the number of runs (I8, I9)."""

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any

import msgspec
from pymongo.client_session import ClientSession
from pymongo.database import Database

from tracking.rollups import (
    LAST_7_DAYS,
    LAST_24_HOURS,
    WindowEdge,
    build_hour_id,
    build_total_ids,
)
from tracking.runs import truncate_to_milliseconds
from tracking.totals import newest_of, parse_count
from tracking.transactions import read_at_snapshot

Document = dict[str, Any]


_FIELDS = ["automationId", "stripe", "hour", "runs", "lastRunAt", "rollupsSince", "h", "m", "days"]


class RunSummary(msgspec.Struct, frozen=True):
    """An automation's counts at one instant."""

    total_runs: int
    last_run_at: datetime | None
    last_24_hours: int = 0
    last_7_days: int = 0


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
        self._stats = database["automation_run_stats"]
        self._runs = database["automation_runs"]

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
        windows = [self._count_window(stored, edge, session) for edge in edges]
        summaries = {}
        for automation in automations:
            automation_id = str(automation["_id"])
            runs, newest = stored[automation_id].total(automation)
            summaries[automation_id] = RunSummary(
                runs, newest, windows[0][automation_id], windows[1][automation_id]
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
        fields = dict.fromkeys(_FIELDS + [f"hours.{edge.day}" for edge in edges], 1)
        for document in self._stats.find(
            {"_id": {"$in": ids}}, fields, session=session, batch_size=len(ids) + 1
        ):
            parts = stored[document["automationId"]]
            if "stripe" in document:
                parts.live.append(document)
            elif "hour" in document:
                parts.edge_hours[document["_id"]] = document
            else:
                parts.base = document
        return stored

    def _count_window(
        self, stored: Mapping[str, _Stored], edge: WindowEdge, session: ClientSession
    ) -> dict[str, int]:
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
        # Only the minute that the window cuts is counted from runs, and only where it holds any.
        for automation_id, count in self._count_raw(
            cut, {"$gte": edge.start, "$lt": edge.minute_end}, session
        ).items():
            counts[automation_id] += count
        # Before `add_run_fields` has built rollups, an older product's runs are counted one by one.
        if raw:
            found = self._count_raw(raw, {"$gte": edge.start}, session)
            counts |= {automation_id: found.get(automation_id, 0) for automation_id in raw}
        return counts

    def _count_raw(
        self, automation_ids: Iterable[str], created_at: Document, session: ClientSession
    ) -> dict[str, int]:
        ids = list(automation_ids)
        if not ids:
            return {}
        rows = self._runs.aggregate(
            build_count_pipeline(ids, created_at), session=session, batchSize=len(ids) + 1
        )
        return {row["_id"]: row["runs"] for row in rows}


def build_count_pipeline(
    automation_ids: Sequence[str], created_at: Mapping[str, datetime]
) -> list[Document]:
    """Return the pipeline that counts runs per automation; `automationId_createdAt` covers it."""
    return [
        {"$match": {"automationId": {"$in": list(automation_ids)}, "createdAt": dict(created_at)}},
        {"$group": {"_id": "$automationId", "runs": {"$sum": 1}}},
    ]
