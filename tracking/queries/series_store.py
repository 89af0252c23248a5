"""The queries behind a series: sums of hours by bucket, made where the documents are.

Every method reads in the caller's session, so that an answer is of one snapshot.
"""

from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime, timedelta
from typing import Any

from pymongo.client_session import ClientSession
from pymongo.database import Database

from tracking.ids import list_all_forms
from tracking.queries.time_grid import QUARTER, QUARTERS, Grid
from tracking.rollups.hours import (
    build_base_id,
    build_hour_id,
    build_number,
    hour_of,
    start_of_hour,
)
from tracking.rollups.outcome_store import build_outcome_id

Document = dict[str, Any]

_HOUR = timedelta(hours=1)
_BATCH = 5000
_BASE_FIELDS = ("automationId", "h", "base", "takenAt", "rollupsSince")


class SeriesStore:
    """Reads of hours, and of runs that no hour holds yet."""

    def __init__(self, database: Database[Document]) -> None:
        self._stats = database["automation_run_stats"]
        self._hours = database["automation_hours"]
        self._runs = database["automation_runs"]

    def find_bases(self, ids: Sequence[str], session: ClientSession) -> dict[str, Document]:
        names = [build_base_id(automation_id) for automation_id in ids]
        fields = dict.fromkeys(_BASE_FIELDS, 1)
        found = self._stats.find(
            {"_id": {"$in": names}}, fields, session=session, batch_size=len(names) + 1
        )
        return {base["automationId"]: base for base in found}

    def has_hours_before(
        self, automation_id: str, hours: range, moment: datetime, session: ClientSession
    ) -> bool:
        """Return whether an hour before that of `moment` was rolled up from runs alone."""
        last = min(hours.stop, hour_of(moment)) - 1
        query = _build_range(build_hour_id, automation_id, hours.start, last)
        query |= {"d": {"$exists": False}, "p": {"$exists": False}}
        return self._stats.find_one(query, {"_id": 1}, session=session) is not None

    def sum_hours(
        self, ids: Sequence[str], grid: Grid, session: ClientSession, *, is_split: bool
    ) -> Iterator[Document]:
        """Yield `{_id: {hour, automation}, n, d, p}` of the closed hours that no edge cuts."""
        cut = [start_of_hour(hour) for hour in grid.cut_hours]
        hours = grid.hours
        ranges = [_build_range(build_hour_id, one, hours.start, hours.stop - 1) for one in ids]
        if not ranges or len(cut) == len(hours):
            return
        key = {"hour": "$hour"} | ({"automation": "$automationId"} if is_split else {})
        pipeline: list[Document] = [
            {"$match": {"$or": ranges, "hour": {"$nin": cut}}},
            {"$group": {"_id": key, "n": {"$sum": "$n"}, "d": _sum_fields("d", range(QUARTERS)),
                        "p": _sum_fields("p", range(QUARTERS))}},
        ]  # fmt: skip
        yield from self._stats.aggregate(pipeline, session=session, batchSize=_BATCH)

    def sum_quarters(
        self, ids: Sequence[str], grid: Grid, session: ClientSession, *, is_split: bool
    ) -> Iterator[Document]:
        """Yield `{_id: {hour, automation}, n0..n3, d0..d3, p0..p3}` of the closed hours cut."""
        names = [build_hour_id(one, hour) for one in ids for hour in grid.cut_hours]
        if not names:
            return
        key = {"hour": "$hour"} | ({"automation": "$automationId"} if is_split else {})
        sums: Document = {}
        for quarter in range(QUARTERS):
            minutes = range(quarter * 15, quarter * 15 + 15)
            sums[f"n{quarter}"] = _sum_fields("m", minutes)
            sums[f"d{quarter}"] = {"$sum": f"$d.{quarter}"}
            sums[f"p{quarter}"] = {"$sum": f"$p.{quarter}"}
        pipeline: list[Document] = [
            {"$match": {"_id": {"$in": names}}},
            {"$group": {"_id": key} | sums},
        ]
        yield from self._stats.aggregate(pipeline, session=session, batchSize=_BATCH)

    def count_raw(
        self, ids: Sequence[str], grid: Grid, session: ClientSession
    ) -> Iterator[Document]:
        """Yield `{_id: {automation, quarter}, runs}` of the runs themselves."""
        times = {"$gte": grid.start, "$lt": grid.end}
        key = {"automation": "$automationId", "quarter": build_number(QUARTER)}
        pipeline: list[Document] = [
            {"$match": {"automationId": {"$in": list_all_forms(ids)}, "createdAt": times}},
            {"$group": {"_id": key, "runs": {"$sum": 1}}},
            {"$match": {"_id.quarter": {"$ne": None}}},
        ]
        yield from self._runs.aggregate(
            pipeline, session=session, batchSize=_BATCH, allowDiskUse=True
        )

    def find_outcomes(
        self, ids: Sequence[str], grid: Grid, session: ClientSession
    ) -> Iterator[Document]:
        hours = grid.hours
        ranges = [_build_range(build_outcome_id, one, hours.start, hours.stop - 1) for one in ids]
        if ranges:
            yield from self._hours.find({"$or": ranges}, session=session, batch_size=_BATCH)


def _build_range(build_id: Any, automation_id: str, first: int, last: int) -> Document:
    # The automation is named too: an id may go on as another's does.
    ids = {"$gte": build_id(automation_id, first), "$lte": build_id(automation_id, last)}
    return {"_id": ids, "automationId": automation_id}


def _sum_fields(name: str, keys: Iterable[int]) -> Document:
    return {"$sum": {"$add": [{"$ifNull": [f"${name}.{key}", 0]} for key in keys]}}
