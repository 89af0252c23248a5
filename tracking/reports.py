"""The front door of reading: runs, series, people and outcomes. `tracking.service` is the other.

Plain values in, plain values out. What pages and the API show is of this; every function raises
TrackingUnavailable when MongoDB is unavailable or takes longer than 5 s.
"""

from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta, tzinfo

import msgspec

from tracking.conf import conf
from tracking.counting.switch import find_wait_seconds
from tracking.mongo import client as mongo
from tracking.mongo.errors import bounded
from tracking.queries.run_filters import RunFilter
from tracking.queries.run_store import FoundRun, PeopleCount, Reasons, RunPage, RunStore
from tracking.queries.series import Series, read_counts
from tracking.queries.stats import read_counted
from tracking.queries.time_grid import BadRange, Grid, Unit, build_grid
from tracking.rollups.account_hours import AccountHourStore
from tracking.rollups.hours import hour_of, start_of_hour
from tracking.rollups.outcomes import COMPLETED, SENT

_SECONDS = 5.0
_MILLISECOND = timedelta(milliseconds=1)


class Funnel(msgspec.Struct, frozen=True, kw_only=True):
    """How far the runs of whole hours, `from_` to `to`, came; `steps` has every step and state.

    `opened` got the opening message, `asked` were asked to follow, `completed` got everything.
    An automation without such a step has 0 there.
    """

    triggered: int
    opened: int
    asked: int
    completed: int
    steps: dict[str, int]
    from_: datetime
    to: datetime
    as_of: datetime
    pending: int
    is_exact: bool


class Uncounted(msgspec.Struct, frozen=True, kw_only=True):
    """What came in the whole hours `from_` to `to`, and why not all of it was counted.

    `counted`, `duplicates` and `pending` (waiting to be counted) are the automation's. What is
    `redelivered` (the same event again) and `ignored` by reason came to its account, for whichever
    automation, and is known but for a second of a process that dies.
    """

    counted: int
    duplicates: int
    pending: int
    redelivered: int
    ignored: dict[str, int]
    from_: datetime
    to: datetime
    as_of: datetime
    is_exact: bool


def list_runs(
    wanted: RunFilter,
    *,
    limit: int,
    cursor: str | None = None,
    automation_ids: Sequence[str] = (),
    at: datetime | None = None,
) -> RunPage:
    """Return a page of runs, newest first. Raises InvalidCursor.

    A first page waits up to 250 ms for what arrived by `at` at these automations to be counted,
    not while counting is off.
    """
    pending = 0
    if cursor is None and at is not None:
        with bounded(_SECONDS):
            database = mongo.get_read_database()
            pending, _ = read_counted(
                database, automation_ids, lambda _: None, at=at, seconds=_SECONDS,
                wait_seconds=find_wait_seconds(database),
            )  # fmt: skip
    page = _get_run_store().list_page(wanted, limit=limit, cursor=cursor)
    return msgspec.structs.replace(page, pending=pending)


def iterate_runs(wanted: RunFilter) -> Iterator[dict[str, object]]:
    """Yield every run, newest first, however many there are.

    With `to` in the past the runs that come meanwhile do not matter.
    """
    return _get_run_store().iterate(wanted)


def find_run(workspace_id: str, run_id: str) -> FoundRun | None:
    return _get_run_store().find(workspace_id, run_id)


def count_people(wanted: RunFilter) -> PeopleCount:
    return _get_run_store().count_people(wanted)


def read_series(
    automation_ids: Sequence[str],
    *,
    unit: Unit,
    zone: tzinfo,
    from_: datetime,
    to: datetime,
    at: datetime,
    is_split: bool = False,
    has_outcomes: bool = False,
) -> Series:
    """Return counts by hour or day of a zone, over all buckets that overlap [from_, min(to, at]).

    Together, and by automation if `is_split`; with the outcomes of steps if `has_outcomes`. Raises
    BadRange.
    """
    if from_ > at:
        raise BadRange("'from' should be in the past.")
    grid = build_grid(unit, zone=zone, from_=from_, to=min(to, at + _MILLISECOND))
    return _read_counts(automation_ids, grid, at, is_split=is_split, has_outcomes=has_outcomes)


def summarize_funnel(
    automation_ids: Sequence[str],
    *,
    from_: datetime,
    to: datetime,
    at: datetime,
) -> Funnel:
    """Return how far the runs came that were counted in the hours that overlap [from_, to)."""
    series = _read_range(automation_ids, from_, to, at=at)
    [total], [steps] = series.total, series.outcomes or [{}]
    return Funnel(
        triggered=total.counted,
        opened=steps.get(f"opening_dm.{SENT}", 0),
        asked=steps.get(f"ask_follow.{SENT}", 0),
        completed=steps.get(COMPLETED, 0),
        steps={name: count for name, count in sorted(steps.items()) if name != COMPLETED},
        from_=series.grid.start,
        to=series.grid.end,
        as_of=at,
        pending=series.pending,
        is_exact=series.is_exact,
    )


def summarize_reasons(wanted: RunFilter) -> Reasons:
    """Return what became of the runs' steps and why, over MOST_RUNS_FOR_REASONS at most."""
    return _get_run_store().summarize_reasons(wanted)


def summarize_uncounted(
    automation_id: str,
    account_id: str | None,
    *,
    from_: datetime,
    to: datetime,
    at: datetime,
) -> Uncounted:
    """Return what was counted in the hours that overlap [from_, to), and what was not and why.

    Without an account there is nothing to say about redeliveries and ignored events.
    """
    series = _read_range([automation_id], from_, to, at=at)
    [total], start, end = series.total, series.grid.start, series.grid.end
    ignored: dict[str, int] = {}
    redelivered = 0
    if account_id is not None:
        hours = AccountHourStore(mongo.get_read_database())
        found = hours.summarize_account(account_id, since=start, until=end, seconds=_SECONDS)
        ignored, redelivered = found.ignored, found.redelivered
    return Uncounted(
        counted=total.counted,
        duplicates=total.duplicates,
        pending=series.pending,
        redelivered=redelivered,
        ignored=ignored,
        from_=start,
        to=end,
        as_of=at,
        is_exact=series.is_exact,
    )


def _read_range(
    automation_ids: Sequence[str], from_: datetime, to: datetime, *, at: datetime
) -> Series:
    """Return the whole hours of a range as one bucket, with their outcomes."""
    if from_ >= to:
        raise BadRange("'from' should be before 'to'.")
    end = start_of_hour(hour_of(to - _MILLISECOND) + 1)
    grid = Grid([start_of_hour(hour_of(from_)), end])
    return _read_counts(automation_ids, grid, at, has_outcomes=True)


def _read_counts(
    automation_ids: Sequence[str], grid: Grid, at: datetime, **options: bool
) -> Series:
    database = mongo.get_read_database()
    with bounded(_SECONDS):
        return read_counts(
            database, automation_ids, grid, at=at, retention=conf.retention, seconds=_SECONDS,
            wait_seconds=find_wait_seconds(database), **options,
        )  # fmt: skip


def _get_run_store() -> RunStore:
    return RunStore(mongo.get_read_database())
