"""Runs, hours, totals and copies agree."""

import time
from collections.abc import Iterator, Sequence
from datetime import timedelta
from typing import Any

from tracking.drift import is_copy_right
from tracking.drift_store import DriftStore
from tracking.rollups.hours import RECENT_DAYS, hour_of, start_of_hour
from tracking.verification.findings import Finding, Scope, build_finding, describe_some
from tracking.verification.sample import list_sample

_FIX = "run 'python manage.py reconcile_runs', which shows and repairs it"
# A copy is written right after the commit that it follows.
_COPY_SECONDS = 3.0


def check_counts(scope: Scope) -> Iterator[Finding]:
    """Compare each automation at a snapshot of its own: the last days, or all that the TTL left."""
    store = DriftStore(scope.database, now=scope.now)
    since = store.find_first_hour(scope.retention or timedelta.max)
    if not scope.is_full:
        recent = start_of_hour(hour_of(scope.now - timedelta(days=RECENT_DAYS - 1)))
        since = max(since, recent)
    hours: dict[str, int] = {}
    totals: dict[str, int] = {}
    behind: list[tuple[str, Any]] = []
    count = unknown = 0
    for automation_id, key in list_sample(scope):
        counts, drift = store.measure(automation_id, key, since=since)
        count += 1
        unknown += drift.expected_total is None
        if drift.hours:
            hours[automation_id] = drift.hours_difference
        if drift.total_difference or drift.newest_run:
            totals[automation_id] = -drift.total_difference
        if not is_copy_right(counts):
            behind.append((automation_id, key))
    copies = _list_wrong_copies(scope, store, behind)
    yield _build("hours against runs", hours, count, "runs missing in hours")
    of_known = count - unknown
    yield _build("totals against hours", totals, of_known, "runs too many in totals")
    yield _build("copies in automations against totals", copies, count, "runs too many in copies")


def _list_wrong_copies(
    scope: Scope, store: DriftStore, behind: Sequence[tuple[str, Any]]
) -> dict[str, int]:
    """Return copies that stay wrong: those of a flush under way are right in a moment."""
    deadline = time.monotonic() + _COPY_SECONDS
    while True:
        wrong: dict[str, int] = {}
        for automation_id, key in behind:
            counts, _ = store.measure(automation_id, key, since=scope.now)
            if not is_copy_right(counts):
                shown = counts.copy.get("totalRuns") if counts.copy else None
                wrong[automation_id] = int(shown or 0) - counts.total
        if not wrong or time.monotonic() >= deadline:
            return wrong
        time.sleep(0.5)


def _build(what: str, wrong: dict[str, int], count: int, unit: str) -> Finding:
    named = describe_some(f"{one} ({difference:+d})" for one, difference in wrong.items())
    figure = f"{len(wrong)} of {count} automations differ"
    return build_finding(
        what, figure + (f", {unit}: {named}" if wrong else ""), "0", is_ok=not wrong, fix=_FIX
    )
