"""Reading counts by hour or day: base documents for open hours, hour documents for closed ones.

All of an answer is read at one snapshot, so that an hour that is being folded is seen once. What
it costs depends on the hours of the range, not on the number of runs; only for automations whose
earlier runs have no hours yet are runs counted one by one.
"""

from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta
from typing import Any

import msgspec
from pymongo.client_session import ClientSession
from pymongo.database import Database

from tracking.ids import list_all_forms, list_names
from tracking.mongo.indexes import STATS_RETENTION
from tracking.queries.stats import is_rolled_up, read_counted
from tracking.queries.time_grid import (
    QUARTER,
    QUARTERS,
    Counts,
    Grid,
    quarter_of,
    split_hour,
    sum_hour,
)
from tracking.rollups.hours import (
    UNDATED,
    build_base_id,
    build_hour_id,
    build_number,
    hour_of,
    start_of_hour,
)
from tracking.rollups.outcome_store import build_outcome_id
from tracking.rollups.outcomes import flatten_counts

Document = dict[str, Any]

_HOUR = timedelta(hours=1)
_MILLISECOND = timedelta(milliseconds=1)
_BATCH = 5000
_BASE_FIELDS = ("automationId", "h", "base", "takenAt", "rollupsSince")


class Series(msgspec.Struct, kw_only=True):
    """Counts by bucket, of all automations together and of each.

    `outcomes` are `{"<step>.<state>": runs, ..., "completed": runs}` of the runs counted in each
    bucket, None where they were not asked for or a bucket's edge cuts an hour, of which they are
    kept as a whole. Figures of buckets from `exact_since` on equal a count of the runs;
    duplicates and new people are known from `known_since` on, None if always. `pending` triggers of
    the range arrived by `as_of` and were not counted when it was read.
    """

    grid: Grid
    total: list[Counts]
    by_automation: dict[str, list[Counts]]
    outcomes: list[dict[str, int]] | None
    as_of: datetime
    pending: int = 0
    exact_since: datetime
    known_since: datetime | None

    @property
    def is_exact(self) -> bool:
        """Whether all that was counted is shown in every bucket."""
        return self.grid.start >= self.exact_since


def read_counts(
    database: Database[Document],
    automation_ids: Sequence[str],
    grid: Grid,
    *,
    at: datetime,
    retention: timedelta,
    is_split: bool = False,
    has_outcomes: bool = False,
    seconds: float,
    wait_seconds: float = 0,
) -> Series:
    pending, series = read_counted(
        database,
        automation_ids,
        lambda session: _Reading(database, automation_ids, grid, session, is_split=is_split).read(
            at=at, retention=retention, has_outcomes=has_outcomes
        ),
        at=min(at, grid.end - _MILLISECOND),
        since=grid.start,
        seconds=seconds,
        wait_seconds=wait_seconds,
    )
    series.pending = pending
    return series


class _Reading:
    """Reads of hours at one snapshot, and of runs that no hour holds yet."""

    def __init__(
        self,
        database: Database[Document],
        ids: Sequence[str],
        grid: Grid,
        session: ClientSession,
        *,
        is_split: bool,
    ) -> None:
        self._stats = database["automation_run_stats"]
        self._hours = database["automation_hours"]
        self._runs = database["automation_runs"]
        self._grid = grid
        self._session = session
        self._ids = list(dict.fromkeys(ids))
        self._cut = grid.cut_hours
        self._total = grid.build_counts()
        self._split = {one: grid.build_counts() for one in self._ids} if is_split else {}

    def read(self, *, at: datetime, retention: timedelta, has_outcomes: bool) -> Series:
        bases = self._find_bases()
        raw = {one for one in self._ids if not is_rolled_up(bases.get(one), self._grid.start)}
        self._add_closed([one for one in self._ids if one not in raw], is_counted=True)
        self._add_closed(sorted(raw), is_counted=False)
        for automation_id, base in bases.items():
            self._add_open(base, is_counted=automation_id not in raw)
        earlier: set[str] = set()
        for row in self._count_raw(sorted(raw)) if raw else ():
            bucket = self._grid.find_bucket(int(row["_id"]["quarter"]))
            for automation_id in raw.intersection(list_names(row["_id"]["automation"])):
                earlier.add(automation_id)
                self._add(automation_id, bucket, Counts(counted=row["runs"]))
        return Series(
            grid=self._grid,
            total=self._total,
            by_automation=self._split,
            outcomes=self._sum_outcomes() if has_outcomes and not self._cut else None,
            as_of=at,
            exact_since=_find_exact_since(
                bases,
                at=at,
                oldest_run=at - retention if earlier else None,
                has_undated=self._has_undated(),
            ),
            known_since=self._find_known_since(bases, earlier, at=at),
        )

    def _find_bases(self) -> dict[str, Document]:
        query = {"_id": {"$in": [build_base_id(automation_id) for automation_id in self._ids]}}
        fields = dict.fromkeys(_BASE_FIELDS, 1)
        found = self._stats.find(
            query, fields, session=self._session, batch_size=len(self._ids) + 1
        )
        return {base["automationId"]: base for base in found}

    def _add_closed(self, ids: Sequence[str], *, is_counted: bool) -> None:
        for row in self._sum_hours(ids):
            bucket = self._grid.find_bucket(quarter_of(row["_id"]["hour"]))
            counts = Counts(row["n"] if is_counted else 0, row["d"], row["p"])
            self._add(row["_id"].get("automation"), bucket, counts)
        for row in self._sum_quarters(ids):
            first = quarter_of(row["_id"]["hour"])
            for quarter in range(QUARTERS):
                counted = row[f"n{quarter}"] if is_counted else 0
                counts = Counts(counted, row[f"d{quarter}"], row[f"p{quarter}"])
                bucket = self._grid.find_bucket(first + quarter)
                self._add(row["_id"].get("automation"), bucket, counts)

    def _sum_hours(self, ids: Sequence[str]) -> Iterable[Document]:
        """Return `{_id: {hour, automation}, n, d, p}` of the closed hours that no edge cuts."""
        ranges = self._list_ranges(build_hour_id, ids)
        if not ranges or len(self._cut) == len(self._grid.hours):
            return ()
        sums = {name: _sum_fields(name, range(QUARTERS)) for name in ("d", "p")}
        cut = [start_of_hour(hour) for hour in self._cut]
        match = {"$or": ranges, "hour": {"$nin": cut}}
        return self._sum(match, {"n": {"$sum": "$n"}, **sums})

    def _sum_quarters(self, ids: Sequence[str]) -> Iterable[Document]:
        """Return `{_id: {hour, automation}, n0..n3, d0..d3, p0..p3}` of the closed hours cut."""
        names = [build_hour_id(one, hour) for one in ids for hour in self._cut]
        if not names:
            return ()
        sums: Document = {}
        for quarter in range(QUARTERS):
            minutes = range(quarter * 15, quarter * 15 + 15)
            sums[f"n{quarter}"] = _sum_fields("m", minutes)
            sums[f"d{quarter}"] = {"$sum": f"$d.{quarter}"}
            sums[f"p{quarter}"] = {"$sum": f"$p.{quarter}"}
        return self._sum({"_id": {"$in": names}}, sums)

    def _sum(self, match: Document, sums: Document) -> Iterable[Document]:
        key = {"hour": "$hour"} | ({"automation": "$automationId"} if self._split else {})
        pipeline: list[Document] = [{"$match": match}, {"$group": {"_id": key, **sums}}]
        return self._stats.aggregate(pipeline, session=self._session, batchSize=_BATCH)

    def _add_open(self, base: Document, *, is_counted: bool) -> None:
        for name, parts in base.get("h", {}).items():
            hour = int(name)
            quarters = split_hour(parts) if hour in self._cut else [sum_hour(parts)]
            for offset, counts in enumerate(quarters):
                if not is_counted:
                    counts.counted = 0
                bucket = self._grid.find_bucket(hour * QUARTERS + offset)
                self._add(base["automationId"], bucket, counts)

    def _count_raw(self, ids: Sequence[str]) -> Iterable[Document]:
        """Return `{_id: {automation, quarter}, runs}` of the runs themselves."""
        times = {"$gte": self._grid.start, "$lt": self._grid.end}
        key = {"automation": "$automationId", "quarter": build_number(QUARTER)}
        pipeline: list[Document] = [
            {"$match": {"automationId": {"$in": list_all_forms(ids)}, "createdAt": times}},
            {"$group": {"_id": key, "runs": {"$sum": 1}}},
            {"$match": {"_id.quarter": {"$ne": None}}},
        ]
        options: Document = {"batchSize": _BATCH, "allowDiskUse": True}
        return self._runs.aggregate(pipeline, session=self._session, **options)

    def _add(self, automation_id: str | None, bucket: int | None, counts: Counts) -> None:
        if bucket is None:
            return
        self._total[bucket].add(counts)
        if automation_id in self._split:
            self._split[automation_id][bucket].add(counts)

    def _sum_outcomes(self) -> list[dict[str, int]]:
        sums: list[dict[str, int]] = [{} for _ in self._grid.starts]
        ranges = self._list_ranges(build_outcome_id, self._ids)
        query = {"$or": ranges}
        found = self._hours.find(query, session=self._session, batch_size=_BATCH) if ranges else ()
        for document in found:
            bucket = self._grid.find_bucket(quarter_of(document["hour"]))
            if bucket is not None:
                for name, count in flatten_counts(document.get("o", {})).items():
                    sums[bucket][name] = sums[bucket].get(name, 0) + count
        return sums

    def _has_undated(self) -> bool:
        """Return whether an automation has runs that no bucket holds."""
        query = {"automationId": {"$in": list_all_forms(self._ids)}, "$or": UNDATED}
        return self._runs.find_one(query, {"_id": 1}, session=self._session) is not None

    def _find_known_since(
        self, bases: dict[str, Document], earlier: set[str], *, at: datetime
    ) -> datetime | None:
        """Return since when duplicates and new people are kept, None if for the whole range."""
        late = [at] if earlier - bases.keys() else []
        late += [
            base["takenAt"]
            for automation_id, base in bases.items()
            if base["takenAt"] > self._grid.start
            and (automation_id in earlier or self._has_hours_before(automation_id, base))
        ]
        return max(late, default=None)

    def _has_hours_before(self, automation_id: str, base: Document) -> bool:
        """Return whether an hour before that of its base was rolled up from runs alone."""
        hours = self._grid.hours
        last = min(hours.stop, hour_of(base["takenAt"])) - 1
        query = _build_range(build_hour_id, automation_id, hours.start, last)
        query |= {"d": {"$exists": False}, "p": {"$exists": False}}
        return self._stats.find_one(query, {"_id": 1}, session=self._session) is not None

    def _list_ranges(self, build_id: Any, ids: Sequence[str]) -> list[Document]:
        hours = self._grid.hours
        return [_build_range(build_id, one, hours.start, hours.stop - 1) for one in ids]


def _find_exact_since(
    bases: dict[str, Document], at: datetime, oldest_run: datetime | None, *, has_undated: bool
) -> datetime:
    """Return from when on nothing that was counted is missing.

    Before it hours or runs have expired, or an older product had counted what it kept no run of.
    A run without a time may be missing anywhere.
    """
    if has_undated:
        return at + _MILLISECOND
    taken: list[datetime] = [base["takenAt"] for base in bases.values() if base.get("base")]
    expired = [] if oldest_run is None else [oldest_run]
    return max([at - STATS_RETENTION + _HOUR, *expired, *taken])


def _build_range(build_id: Any, automation_id: str, first: int, last: int) -> Document:
    # The automation is named too: an id may go on as another's does.
    ids = {"$gte": build_id(automation_id, first), "$lte": build_id(automation_id, last)}
    return {"_id": ids, "automationId": automation_id}


def _sum_fields(name: str, keys: Iterable[int]) -> Document:
    return {"$sum": {"$add": [{"$ifNull": [f"${name}.{key}", 0]} for key in keys]}}
