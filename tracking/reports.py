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
from tracking.rollups.account_hours import AccountHour, AccountHourStore
from tracking.rollups.hours import hour_of, start_of_hour
from tracking.rollups.outcomes import COMPLETED, SENT

_SECONDS = 5.0
_MILLISECOND = timedelta(milliseconds=1)


class Outcomes(msgspec.Struct, frozen=True, kw_only=True):
    """What came to an automation in the whole hours `from_` to `to`, and how far it came.

    Of the `counted` runs, `opened` got the opening message, `asked` were asked to follow, and
    `completed` got everything; `steps` has every step and state. `pending` events wait to be
    counted. What is `redelivered` (the same event again) and `ignored` by reason came to the
    account, for whichever automation, and is known but for a second of a process that dies.
    """

    counted: int
    opened: int = 0
    asked: int = 0
    completed: int = 0
    steps: dict[str, int] = {}
    duplicates: int = 0
    pending: int = 0
    redelivered: int = 0
    ignored: dict[str, int] = {}
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
    page = RunStore(mongo.get_read_database()).list_page(wanted, limit=limit, cursor=cursor)
    return msgspec.structs.replace(page, pending=pending)


def iterate_runs(wanted: RunFilter) -> Iterator[dict[str, object]]:
    """Yield every run, newest first, however many there are.

    With `to` in the past the runs that come meanwhile do not matter.
    """
    return RunStore(mongo.get_read_database()).iterate(wanted)


def find_run(workspace_id: str, run_id: str) -> FoundRun | None:
    return RunStore(mongo.get_read_database()).find(workspace_id, run_id)


def count_people(wanted: RunFilter) -> PeopleCount:
    return RunStore(mongo.get_read_database()).count_people(wanted)


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


def summarize_reasons(wanted: RunFilter) -> Reasons:
    """Return what became of the runs' steps and why, over MOST_RUNS_FOR_REASONS at most."""
    return RunStore(mongo.get_read_database()).summarize_reasons(wanted)


def summarize_outcomes(
    automation_id: str, account_id: str | None, *, from_: datetime, to: datetime, at: datetime
) -> Outcomes:
    """Return what became of what came in the hours that overlap [from_, to).

    Without an account there is nothing to say about redeliveries and ignored events. Raises
    BadRange.
    """
    if from_ >= to:
        raise BadRange("'from' should be before 'to'.")
    start, end = start_of_hour(hour_of(from_)), start_of_hour(hour_of(to - _MILLISECOND) + 1)
    series = _read_counts([automation_id], Grid([start, end]), at, has_outcomes=True)
    [total], [steps] = series.total, series.outcomes or [{}]
    of_account = AccountHour({})
    if account_id is not None:
        hours = AccountHourStore(mongo.get_read_database())
        of_account = hours.summarize_account(account_id, since=start, until=end, seconds=_SECONDS)
    return Outcomes(
        counted=total.counted,
        opened=steps.get(f"opening_dm.{SENT}", 0),
        asked=steps.get(f"ask_follow.{SENT}", 0),
        completed=steps.get(COMPLETED, 0),
        steps={name: count for name, count in sorted(steps.items()) if name != COMPLETED},
        duplicates=total.duplicates,
        pending=series.pending,
        redelivered=of_account.redelivered,
        ignored=of_account.ignored,
        from_=start,
        to=end,
        as_of=at,
        is_exact=series.is_exact,
    )


def _read_counts(
    automation_ids: Sequence[str], grid: Grid, at: datetime, **options: bool
) -> Series:
    database = mongo.get_read_database()
    with bounded(_SECONDS):
        return read_counts(
            database, automation_ids, grid, at=at, retention=conf.retention, seconds=_SECONDS,
            wait_seconds=find_wait_seconds(database), **options,
        )  # fmt: skip
