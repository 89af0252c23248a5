"""Reading statistics: a bounded number of small documents, whatever the number of runs (I8, I9)."""

import time
from collections.abc import Callable, Collection, Mapping, Sequence
from datetime import datetime
from functools import partial
from typing import Any, NamedTuple, TypeGuard, TypeVar

import msgspec
from pymongo.client_session import ClientSession
from pymongo.database import Database

from tracking.clock import truncate_to_milliseconds
from tracking.ids import list_all_forms, list_names, name_id, partition_of
from tracking.mongo.transactions import read_at_snapshot, run_find, run_read
from tracking.rollups.hours import (
    LAST_7_DAYS,
    LAST_24_HOURS,
    WindowEdge,
    build_base_id,
    build_hour_id,
    newest_of,
    parse_count,
)

Document = dict[str, Any]
Answer = TypeVar("Answer")

STATS, RUNS, TRIGGERS = "automation_run_stats", "automation_runs", "automation_triggers"
_SHORTEST_PAUSE, _LONGEST_PAUSE = 0.005, 0.02
_FIELDS = ["automationId", "hour", "runs", "lastRunAt", "rollupsSince", "h", "m", "days"]


class RunSummary(msgspec.Struct, frozen=True):
    total_runs: int
    last_run_at: datetime | None
    last_24_hours: int = 0
    last_7_days: int = 0


Summaries = dict[str, RunSummary]


class RunSummaries(msgspec.Struct, frozen=True):
    """What automations counted at `as_of`, by automation id.

    `pending` triggers arrived by then and were not counted when it was read.
    """

    as_of: datetime
    pending: int
    by_automation: dict[str, RunSummary]


class Pending(NamedTuple):
    """How many triggers are not counted yet, and how many of them a counter is about to count."""

    all: int = 0
    coming: int = 0


class _Part(NamedTuple):
    """Runs to be counted one by one, for the window with the number `edge`."""

    edge: int
    automation_ids: list[str]
    created_at: Document


class _Stored(msgspec.Struct):
    base: Document | None = None
    edge_hours: dict[str, Document] = {}

    def total(self, automation: Mapping[str, Any]) -> tuple[int, datetime | None]:
        if self.base is not None:
            return parse_count(self.base.get("runs")), newest_of(self.base.get("lastRunAt"))
        return parse_count(automation.get("totalRuns")), newest_of(automation.get("lastRunAt"))


class StatsStore:
    """Reads of totals and windows, all of one answer at one snapshot."""

    def __init__(self, database: Database[Document]) -> None:
        self._database = database

    def summarize(
        self,
        automations: Sequence[Mapping[str, Any]],
        *,
        at: datetime,
        has_windows: bool = True,
        wait_seconds: float = 0,
    ) -> RunSummaries:
        """Return each automation's summary at the instant `at`, windows only if `has_windows`.

        `automations` are documents with `_id` and, where an older product left them, `totalRuns`
        and `lastRunAt`.
        """
        # A date of MongoDB is cut to milliseconds, and so is where a window starts.
        at = truncate_to_milliseconds(at)
        lengths = (LAST_24_HOURS, LAST_7_DAYS) if has_windows else ()
        edges = [WindowEdge(at - length) for length in lengths]
        if not automations:
            return RunSummaries(at, 0, {})

        def attempt(is_last: bool, session: ClientSession) -> tuple[int, Summaries] | None:
            pending, stored = self._read(automations, edges, session, at=at)
            if pending.coming and not is_last:
                return None
            return pending.all, self._summarize(automations, edges, stored, session)

        pending, summaries = wait_until_counted(self._database, attempt, wait_seconds=wait_seconds)
        return RunSummaries(at, pending, summaries)

    def _summarize(
        self,
        automations: Sequence[Mapping[str, Any]],
        edges: Sequence[WindowEdge],
        stored: Mapping[str, _Stored],
        session: ClientSession,
    ) -> Summaries:
        windows, parts = [], []
        for index, edge in enumerate(edges):
            counts, uncounted = _count_whole(stored, edge, index=index)
            windows.append(counts)
            parts += uncounted
        for row in self._count_runs(parts, session):
            window = windows[row["edge"]]
            for automation_id in list_names(row["_id"]):
                window[automation_id] = window.get(automation_id, 0) + row["runs"]
        summaries = {}
        for automation in automations:
            automation_id = name_id(automation["_id"])
            runs, newest = stored[automation_id].total(automation)
            by_window = (window.get(automation_id, 0) for window in windows)
            summaries[automation_id] = RunSummary(runs, newest, *by_window)
        return summaries

    def _read(
        self,
        automations: Sequence[Mapping[str, Any]],
        edges: Sequence[WindowEdge],
        session: ClientSession,
        *,
        at: datetime,
    ) -> tuple[Pending, dict[str, _Stored]]:
        """Return what is pending, and the stored counts by automation, by one command."""
        stored = {name_id(automation["_id"]): _Stored() for automation in automations}
        ids = [build_base_id(one) for one in stored]
        ids += [build_hour_id(one, edge.hour) for one in stored for edge in edges]
        # Of the hours that a base keeps, those of the two days that the windows cut.
        fields = _FIELDS + [f"hours.{edge.day}" for edge in edges]
        waiting = {"coll": TRIGGERS, "pipeline": build_pending_pipeline(list(stored), before=at)}
        pipeline = [
            {"$match": {"_id": {"$in": ids}}},
            {"$project": dict.fromkeys(fields, 1)},
            {"$unionWith": waiting},
        ]
        command = {"aggregate": STATS, "pipeline": pipeline, "cursor": {"batchSize": len(ids) + 2}}
        pending = Pending()
        for document in run_read(self._database, STATS, command, session):
            if document["_id"] is None:
                pending = Pending(document["pending"], document["coming"])
                continue
            parts = stored[document["automationId"]]
            if "hour" in document:
                parts.edge_hours[document["_id"]] = document
            else:
                parts.base = document
        return pending, stored

    def _count_runs(self, parts: Sequence[_Part], session: ClientSession) -> list[Document]:
        """Return `{_id, edge, runs}` for each automation that has runs in a part."""
        if not parts:
            return []
        # A row for each stored form of an id.
        cursor = {"batchSize": sum(len(part.automation_ids) for part in parts) + 10_000}
        command = {"aggregate": RUNS, "pipeline": build_parts_pipeline(parts), "cursor": cursor}
        return run_read(self._database, RUNS, command, session)


def list_recent_hours(
    database: Database[Document], automation_ids: Collection[str]
) -> dict[str, dict[int, int]]:
    """Return `{automation id: {hour number: runs}}` of the last eight days at least.

    Read from the base documents alone, however many runs there are (I9). Hours that a base does not
    know, as before `add_run_fields` has built them, are not there.
    """
    counts: dict[str, dict[int, int]] = {one: {} for one in automation_ids}
    if not counts:
        return {}
    # One document is one instant: no snapshot is needed.
    query = {"_id": {"$in": [build_base_id(one) for one in counts]}}
    for base in run_find(database, STATS, query, ("automationId", "hours", "h"), most=len(counts)):
        hours = counts[base["automationId"]]
        for by_hour in base.get("hours", {}).values():
            hours |= {int(name): runs for name, runs in by_hour.items()}
        for name, parts in base.get("h", {}).items():
            hours[int(name)] = hours.get(int(name), 0) + parts.get("n", 0)
    return counts


def read_counted(
    database: Database[Document],
    automation_ids: Collection[str],
    read: Callable[[ClientSession], Answer],
    *,
    at: datetime,
    since: datetime | None = None,
    seconds: float = 10.0,
    wait_seconds: float = 0,
) -> tuple[int, Answer]:
    """Return how many triggers that arrived by `at` are not counted, and what `read` finds.

    Both are of one snapshot; it is taken as soon as nothing is pending, or after `wait_seconds`.
    What arrived before `since` does not matter.
    """

    def attempt(is_last: bool, session: ClientSession) -> tuple[int, Answer] | None:
        pending = find_pending(database, automation_ids, before=at, since=since, session=session)
        if pending.coming and not is_last:
            return None
        return pending.all, read(session)

    return wait_until_counted(database, attempt, seconds=seconds, wait_seconds=wait_seconds)


def wait_until_counted(
    database: Database[Document],
    attempt: Callable[[bool, ClientSession], tuple[int, Answer] | None],
    *,
    seconds: float = 10.0,
    wait_seconds: float = 0,
) -> tuple[int, Answer]:
    """Attempt a read, each time at another snapshot, until it gives an answer.

    The last attempt, after `wait_seconds`, is told that it is the last and must give one.
    """
    until = time.monotonic() + wait_seconds
    pause = _SHORTEST_PAUSE
    while True:
        is_last = time.monotonic() >= until
        answer = read_at_snapshot(database.client, partial(attempt, is_last), seconds=seconds)
        if answer is not None:
            return answer
        time.sleep(pause)
        pause = min(2 * pause, _LONGEST_PAUSE)


def find_pending(
    database: Database[Document],
    automation_ids: Collection[str],
    *,
    before: datetime,
    since: datetime | None = None,
    session: ClientSession | None = None,
) -> Pending:
    """Count the triggers of these automations that arrived by `before` and are not counted.

    The index `uncounted_automationId` covers it.
    """
    if not automation_ids:
        return Pending()
    pipeline = build_pending_pipeline(automation_ids, before=before, since=since)
    command = {"aggregate": TRIGGERS, "pipeline": pipeline, "cursor": {}}
    rows = run_read(database, TRIGGERS, command, session)
    return Pending(rows[0]["pending"], rows[0]["coming"]) if rows else Pending()


def build_pending_pipeline(
    automation_ids: Collection[str], *, before: datetime, since: datetime | None = None
) -> list[Document]:
    """Return the pipeline that counts what is not counted yet; no document where all is.

    `coming` are those that a counter is about to count: all but those of stuck automations.
    """
    numbers = {partition_of(one) for one in automation_ids}
    # A stuck automation's triggers wait in a lane of their own (`tracking.counting`).
    lanes = sorted({-number - 1 for number in numbers} | numbers)
    times = {"$lte": before} if since is None else {"$gte": since, "$lte": before}
    automations = {"$in": list(automation_ids)}
    match = {"partition": {"$in": lanes}, "createdAt": times, "automationId": automations}
    is_coming = {"$cond": [{"$gte": ["$partition", 0]}, 1, 0]}
    counts = {"_id": None, "pending": {"$sum": 1}, "coming": {"$sum": is_coming}}
    return [{"$match": match}, {"$group": counts}]


def is_rolled_up(base: Document | None, start: datetime) -> TypeGuard[Document]:
    """Return whether hours hold every run of an automation since `start`."""
    if base is None:
        return False
    since = base.get("rollupsSince")
    return since is None or since < start


def _count_whole(
    stored: Mapping[str, _Stored], edge: WindowEdge, *, index: int
) -> tuple[dict[str, int], list[_Part]]:
    """Return the counts of a window's whole minutes, and what has to be counted from runs."""
    counts: dict[str, int] = {}
    cut: list[str] = []
    raw: list[str] = []
    for automation_id, parts in stored.items():
        if not is_rolled_up(parts.base, edge.start):
            raw.append(automation_id)
            continue
        counts[automation_id], in_cut_minute = edge.count_whole(
            parts.base,
            parts.base.get("h", {}),
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
        [*build_count_pipeline(part.automation_ids, part.created_at), {"$set": {"edge": part.edge}}]
        for part in parts
    ]
    return first + [{"$unionWith": {"coll": RUNS, "pipeline": other}} for other in others]


def build_count_pipeline(
    automation_ids: Sequence[str], created_at: Mapping[str, datetime]
) -> list[Document]:
    """Return the pipeline that counts runs per automation; `automationId_createdAt` covers it."""
    automations = {"$in": list_all_forms(automation_ids)}
    return [
        {"$match": {"automationId": automations, "createdAt": dict(created_at)}},
        {"$group": {"_id": "$automationId", "runs": {"$sum": 1}}},
    ]
