"""Reading runs: pages from the newest down, one run with what is behind it, and its people.

Pages are cut by `(createdAt, _id)`. The indexes end with `createdAt`, and all runs of a delivery
share theirs: so runs older than a time come in the index's order, and those of one time are sorted
by `_id` on their own. A page costs what it holds and the runs that share its last time.
"""

from collections.abc import Iterator, Sequence
from datetime import datetime
from itertools import groupby
from typing import Any

import msgspec
from bson import ObjectId
from pymongo import DESCENDING
from pymongo.database import Database

from tracking.ids import PERSON, build_trigger_id, list_all_forms, list_names, list_stored_forms
from tracking.mongo.errors import bounded
from tracking.queries.run_filters import (
    Cursor,
    RunFilter,
    build_cursor,
    build_run_query,
    parse_cursor,
)
from tracking.queries.time_grid import BadRange
from tracking.rollups.hours import IS_ARRAY
from tracking.runs import Outcome

Document = dict[str, Any]

# People of a range are counted over at most so many runs: about a second of the server's time.
MOST_RUNS_FOR_PEOPLE = 500_000
# Reasons likewise, over the newest.
MOST_RUNS_FOR_REASONS = 100_000
_PAGE_OF_ALL = 1000
_SECONDS = 5.0
# What a filter that no index serves may look at: about a second of the server's time too.
MOST_RUNS_TO_SEARCH = 200_000
# What events are: those of Instagram, and the calls of other engines.
_KINDS = ("comment", "message", "call")
_MOST_TAPS = 10


class RunPage(msgspec.Struct, frozen=True):
    """Run documents, newest first, and the cursor of the next page, None on the last one.

    `pending` triggers had arrived and were not counted when the page was read.
    """

    runs: list[Document]
    next_cursor: str | None
    pending: int = 0


class FoundRun(msgspec.Struct, frozen=True):
    """One run, and the triggers behind it, oldest first: what counted it, its duplicates and taps.

    Triggers are kept for days, runs for months: of an old run there may be none.
    """

    run: Document
    triggers: list[Document]


class PeopleCount(msgspec.Struct, frozen=True):
    """Distinct people of a range; `is_exact` is False if it held more runs than are looked at."""

    people: int
    is_exact: bool


class Reason(msgspec.Struct, frozen=True):
    """How many runs have a step in a state for a reason; `code` and `subcode` are Meta's."""

    step: str
    state: str
    reason: str | None = None
    code: int | None = None
    subcode: int | None = None
    runs: int = 0


class Reasons(msgspec.Struct, frozen=True):
    """What became of steps, the most frequent first, over `runs` runs; all there are if exact."""

    reasons: list[Reason]
    runs: int
    is_exact: bool


class RunStore:
    """Reads of `automation_runs` and of the triggers behind them.

    Every method raises TrackingUnavailable when the database takes longer than 5 s.
    """

    def __init__(self, database: Database[Document]) -> None:
        self._runs = database["automation_runs"]
        self._automations = database["automations"]
        self._triggers = database["automation_triggers"]

    def list_page(self, wanted: RunFilter, *, limit: int, cursor: str | None) -> RunPage:
        """Return a page of at most `limit` runs. Raises InvalidCursor and BadRange."""
        after = None if cursor is None else parse_cursor(cursor)
        with bounded(_SECONDS):
            self._verify_searchable(wanted)
        return self._list_page(wanted, after, limit)

    def _list_page(self, wanted: RunFilter, after: Cursor | None, limit: int) -> RunPage:
        with bounded(_SECONDS):
            # One more than asked for says whether there is a next page.
            runs = self._list_below(build_run_query(wanted), after, limit + 1)
        is_last = len(runs) <= limit
        del runs[limit:]
        return RunPage(runs, None if is_last else build_cursor(runs[-1]))

    def iterate(self, wanted: RunFilter) -> Iterator[Document]:
        """Yield every run, newest first; each page of them has the store's time anew."""
        page = self.list_page(wanted, limit=_PAGE_OF_ALL, cursor=None)
        yield from page.runs
        while page.next_cursor is not None:
            page = self._list_page(wanted, parse_cursor(page.next_cursor), _PAGE_OF_ALL)
            yield from page.runs

    def _verify_searchable(self, wanted: RunFilter) -> None:
        searched = wanted.find_indexed()
        if searched is None:
            return
        query = build_run_query(searched)
        del query["createdAt"]["$not"]  # so that an index alone answers
        if searched.automation_id is not None:  # which is of one workspace
            del query["workspaceId"]
        most = MOST_RUNS_TO_SEARCH
        if self._runs.count_documents(query, limit=most + 1) > most:
            raise BadRange(
                f"This filter would look at more than {most:,} runs: ask for fewer days, or for "
                "one automation."
            )

    def _list_below(self, query: Document, after: Cursor | None, number: int) -> list[Document]:
        runs: list[Document] = []
        if after is not None:
            times = query["createdAt"]
            if times["$gte"] <= after.created_at < times["$lt"]:
                # `$lt` of a query compares with ids of the same type alone.
                is_below = {"$expr": {"$lt": ["$_id", {"$literal": after.run_id}]}}
                runs = self._list_tied(query, after.created_at, number, is_below)
            older = min(after.created_at, times["$lt"])
            query = query | {"createdAt": times | {"$lt": older}}
        wanted = number - len(runs)
        if wanted > 0:
            found = self._list_by_time(query, wanted)
            if len(found) == wanted:
                # Its last time may have more runs than were found, in another order.
                last = found[-1]["createdAt"]
                found = [run for run in found if run["createdAt"] > last]
                found = self._sort_ties(query, found)
                found += self._list_tied(query, last, wanted - len(found))
            else:
                found = self._sort_ties(query, found)
            runs += found
        return runs

    def _list_by_time(self, query: Document, number: int) -> list[Document]:
        cursor = self._runs.find(query, limit=number, batch_size=number + 1)
        return list(cursor.sort("createdAt", DESCENDING))

    def _list_tied(
        self, query: Document, at: datetime, number: int, more: Document | None = None
    ) -> list[Document]:
        query = query | {"createdAt": {"$eq": at, "$not": IS_ARRAY}} | (more or {})
        cursor = self._runs.find(query, limit=number, batch_size=number + 1)
        return list(cursor.sort("_id", DESCENDING))

    def _sort_ties(self, query: Document, found: list[Document]) -> list[Document]:
        """Return runs in the order of their times, those of the same time by `_id`."""
        runs: list[Document] = []
        for at, tied in groupby(found, lambda run: run["createdAt"]):
            ties = list(tied)
            if all(type(run["_id"]) is ObjectId for run in ties):
                runs += sorted(ties, key=lambda run: run["_id"], reverse=True)
            else:  # MongoDB alone knows the order of ids of different types
                runs += self._list_tied(query, at, len(ties))
        return runs

    def find(self, workspace_id: str, run_id: str) -> FoundRun | None:
        query = {
            "_id": {"$in": list_stored_forms(run_id)},
            "workspaceId": {"$in": list_stored_forms(workspace_id)},
        }
        with bounded(_SECONDS):
            run = self._runs.find_one(query)
            if run is None:
                return None
            triggers = self._find_triggers(run)
        return FoundRun(run, sorted(triggers, key=lambda one: one["createdAt"]))

    def _find_triggers(self, run: Document) -> list[Document]:
        duplicates = {"runId": run["_id"], "outcome": Outcome.DUPLICATE.value}
        found = list(self._triggers.find(duplicates))
        known = {one["_id"] for one in found} | self._list_possible_ids(run)
        found += self._triggers.find({"_id": {"$in": sorted(known)}, "runId": run["_id"],
                                      "outcome": Outcome.COUNTED.value})  # fmt: skip
        # A tap continues a trigger, and the next tap that one.
        for _ in range(_MOST_TAPS):
            taps = {"continues": {"$exists": True, "$in": sorted(known)}}
            fresh = [one for one in self._triggers.find(taps) if one["_id"] not in known]
            if not fresh:
                break
            known = {one["_id"] for one in fresh}
            found += fresh
        return found

    def _list_possible_ids(self, run: Document) -> set[str]:
        """Return the ids that the trigger of a run may have; a run does not name its account."""
        event_id = run.get("eventId")
        if not isinstance(event_id, str):
            return set()
        automation = self._automations.find_one(
            {"_id": {"$in": list_all_forms(list_names(run.get("automationId")))}}, {"accountId": 1}
        )
        accounts = {str((automation or {}).get("accountId")), str(run["workspaceId"])}
        return {build_trigger_id(one, kind, event_id) for one in accounts for kind in _KINDS}

    def count_people(self, wanted: RunFilter) -> PeopleCount:
        """Count the distinct people of the runs, of the first MOST_RUNS_FOR_PEOPLE at most."""
        pipeline = build_people_pipeline(build_run_query(wanted))
        with bounded(_SECONDS):
            rows = list(self._runs.aggregate(pipeline, allowDiskUse=True))
        [row] = rows or [{"people": 0, "runs": 0}]
        return PeopleCount(row["people"], row["runs"] <= MOST_RUNS_FOR_PEOPLE)

    def summarize_reasons(self, wanted: RunFilter) -> Reasons:
        """Return the reasons among the newest MOST_RUNS_FOR_REASONS runs that are asked for."""
        pipeline = build_reasons_pipeline(build_run_query(wanted))
        with bounded(_SECONDS):
            [row] = self._runs.aggregate(pipeline, allowDiskUse=True)
        runs = row["all"][0]["runs"] if row["all"] else 0
        reasons = [Reason(**one["_id"], runs=one["runs"]) for one in row["reasons"]]
        reasons.sort(key=lambda one: (-one.runs, one.step, one.state, one.reason or ""))
        is_exact = runs <= MOST_RUNS_FOR_REASONS
        return Reasons(reasons, min(runs, MOST_RUNS_FOR_REASONS), is_exact)


def build_reasons_pipeline(query: Document) -> list[Document]:
    """Return the pipeline that counts runs by what became of each of their steps."""
    steps = {"$cond": [{"$eq": [{"$type": "$steps"}, "object"]}, {"$objectToArray": "$steps"}, []]}
    fields = {name: f"$steps.v.{name}" for name in ("state", "reason", "code", "subcode")}
    return [
        {"$match": query},
        # Without it the order is the planner's; the index has the newest first.
        {"$sort": {"createdAt": -1}},
        {"$limit": MOST_RUNS_FOR_REASONS + 1},
        {"$project": {"_id": 0, "steps": steps}},
        {"$facet": {
            "all": [{"$count": "runs"}],
            "reasons": [
                {"$unwind": "$steps"},
                {"$match": {"steps.v.state": {"$type": "string"}}},
                {"$group": {"_id": {"step": "$steps.k"} | fields, "runs": {"$sum": 1}}},
            ],
        }},
    ]  # fmt: skip


def build_people_pipeline(query: Document) -> Sequence[Document]:
    return [
        {"$match": query},
        {"$limit": MOST_RUNS_FOR_PEOPLE + 1},
        {"$group": {"_id": PERSON, "runs": {"$sum": 1}}},
        {"$group": {
            "_id": None,
            "people": {"$sum": {"$cond": [{"$eq": ["$_id", None]}, 0, 1]}},
            "runs": {"$sum": "$runs"},
        }},
    ]  # fmt: skip
