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

from tracking.ids import list_names
from tracking.mongo.indexes import STATS_RETENTION
from tracking.queries.series_store import SeriesStore
from tracking.queries.stats import read_counted
from tracking.queries.time_grid import QUARTERS, Counts, Grid, quarter_of, split_hour, sum_hour
from tracking.rollups.hours import hour_of
from tracking.rollups.outcomes import flatten_counts

Document = dict[str, Any]

_HOUR = timedelta(hours=1)
_MILLISECOND = timedelta(milliseconds=1)


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
    store = SeriesStore(database)
    pending, series = read_counted(
        database,
        automation_ids,
        lambda session: _Reading(store, automation_ids, grid, session).read(
            at=at, retention=retention, is_split=is_split, has_outcomes=has_outcomes
        ),
        at=min(at, grid.end - _MILLISECOND),
        since=grid.start,
        seconds=seconds,
        wait_seconds=wait_seconds,
    )
    series.pending = pending
    return series


class _Reading:
    def __init__(
        self, store: SeriesStore, ids: Sequence[str], grid: Grid, session: ClientSession
    ) -> None:
        self._store = store
        self._grid = grid
        self._session = session
        self._ids = list(dict.fromkeys(ids))
        self._cut = frozenset(grid.cut_hours)
        self._total = grid.build_counts()
        self._split: dict[str, list[Counts]] = {}

    def read(
        self, *, at: datetime, retention: timedelta, is_split: bool, has_outcomes: bool
    ) -> Series:
        grid, session, store = self._grid, self._session, self._store
        bases = store.find_bases(self._ids, session)
        raw = {one for one in self._ids if not _is_rolled_up(bases.get(one), grid.start)}
        self._split = {one: grid.build_counts() for one in self._ids} if is_split else {}
        for ids, is_counted in (
            ([one for one in self._ids if one not in raw], True),
            (sorted(raw), False),
        ):
            self._add_closed(ids, is_split=is_split, is_counted=is_counted)
        for automation_id, base in bases.items():
            self._add_open(base, is_counted=automation_id not in raw)
        earlier: set[str] = set()
        if raw:
            for row in store.count_raw(sorted(raw), grid, session):
                bucket = grid.find_bucket(int(row["_id"]["quarter"]))
                for automation_id in raw.intersection(list_names(row["_id"]["automation"])):
                    earlier.add(automation_id)
                    self._add(automation_id, bucket, Counts(counted=row["runs"]))
        return Series(
            grid=grid,
            total=self._total,
            by_automation=self._split,
            outcomes=self._sum_outcomes() if has_outcomes and not self._cut else None,
            as_of=at,
            exact_since=_find_exact_since(
                bases, at=at, oldest_run=at - retention if earlier else None
            ),
            known_since=self._find_known_since(bases, earlier, at=at),
        )

    def _add_closed(self, ids: Sequence[str], *, is_split: bool, is_counted: bool) -> None:
        options = {"is_split": is_split}
        for row in self._store.sum_hours(ids, self._grid, self._session, **options):
            bucket = self._grid.find_bucket_of_hour(hour_of(row["_id"]["hour"]))
            counts = Counts(row["n"] if is_counted else 0, row["d"], row["p"])
            self._add(row["_id"].get("automation"), bucket, counts)
        for row in self._store.sum_quarters(ids, self._grid, self._session, **options):
            first = quarter_of(row["_id"]["hour"])
            for quarter in range(QUARTERS):
                counted = row[f"n{quarter}"] if is_counted else 0
                counts = Counts(counted, row[f"d{quarter}"], row[f"p{quarter}"])
                bucket = self._grid.find_bucket(first + quarter)
                self._add(row["_id"].get("automation"), bucket, counts)

    def _add_open(self, base: Document, *, is_counted: bool) -> None:
        for name, parts in base.get("h", {}).items():
            hour = int(name)
            is_cut = hour in self._cut
            quarters: Iterable[Counts] = split_hour(parts) if is_cut else [sum_hour(parts)]
            for offset, counts in enumerate(quarters):
                if not is_counted:
                    counts.counted = 0
                bucket = self._grid.find_bucket(hour * QUARTERS + offset)
                self._add(base["automationId"], bucket, counts)

    def _add(self, automation_id: str | None, bucket: int | None, counts: Counts) -> None:
        if bucket is None:
            return
        self._total[bucket].add(counts)
        if automation_id in self._split:
            self._split[automation_id][bucket].add(counts)

    def _sum_outcomes(self) -> list[dict[str, int]]:
        sums: list[dict[str, int]] = [{} for _ in self._grid.starts]
        for document in self._store.find_outcomes(self._ids, self._grid, self._session):
            bucket = self._grid.find_bucket_of_hour(hour_of(document["hour"]))
            if bucket is not None:
                for name, count in flatten_counts(document.get("o", {})).items():
                    sums[bucket][name] = sums[bucket].get(name, 0) + count
        return sums

    def _find_known_since(
        self, bases: dict[str, Document], earlier: set[str], *, at: datetime
    ) -> datetime | None:
        """Return since when duplicates and new people are kept, None if for the whole range."""
        start = self._grid.start
        late = [at] if earlier - bases.keys() else []
        late += [
            base["takenAt"]
            for automation_id, base in bases.items()
            if base["takenAt"] > start
            and (automation_id in earlier or self._has_hours_before(automation_id, base))
        ]
        return max(late, default=None)

    def _has_hours_before(self, automation_id: str, base: Document) -> bool:
        return self._store.has_hours_before(
            automation_id, self._grid.hours, base["takenAt"], self._session
        )


def _find_exact_since(
    bases: dict[str, Document], at: datetime, oldest_run: datetime | None
) -> datetime:
    """Return from when on nothing that was counted is missing.

    Before it hours or runs have expired, or an older product had counted what it kept no run of.
    """
    taken: list[datetime] = [base["takenAt"] for base in bases.values() if base.get("base")]
    expired = [] if oldest_run is None else [oldest_run]
    return max([at - STATS_RETENTION + _HOUR, *expired, *taken])


def _is_rolled_up(base: Document | None, start: datetime) -> bool:
    if base is None:
        return False
    since = base.get("rollupsSince")
    return since is None or since < start
