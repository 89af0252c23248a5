"""Runs, hours, totals, copies and contacts agree."""

from collections import Counter
from collections.abc import Iterator, Mapping
from datetime import timedelta
from typing import Any

from tracking.conf import conf
from tracking.ids import list_names, list_stored_forms, name_id
from tracking.maintenance.contacts import ContactStore
from tracking.maintenance.drift import is_copy_right
from tracking.maintenance.drift_store import DriftStore
from tracking.maintenance.verification.findings import Finding, Scope, build_finding
from tracking.rollups.hours import (
    IS_DATED,
    RECENT_DAYS,
    build_base_id,
    hour_of,
    parse_count,
    start_of_hour,
)

_FIX = "run 'python manage.py reconcile_runs', which shows and repairs it"
_NEWEST = 100
_CONTACT_RUNS = 500
_PAIR_RUNS = 2000
_BATCH = 10_000


def check_counts(scope: Scope) -> Iterator[Finding]:
    """Compare each automation at a snapshot of its own: the last days, or all that the TTL left."""
    store = DriftStore(scope.database, now=scope.now)
    since = store.find_first_hour(scope.retention or timedelta.max)
    if not scope.is_full:
        recent = start_of_hour(hour_of(scope.now - timedelta(days=RECENT_DAYS - 1)))
        since = max(since, recent)
    hours: dict[str, int] = {}
    totals: dict[str, int] = {}
    copies: dict[str, int] = {}
    count = known = 0
    for automation_id, key in list_sample(scope):
        counts, drift = store.measure(automation_id, key, since=since)
        count += 1
        known += drift.expected_total is not None
        if drift.hours:
            hours[automation_id] = drift.hours_difference
        if drift.total_difference or drift.newest_run:
            totals[automation_id] = -drift.total_difference
        if not is_copy_right(counts):
            shown = counts.copy.get("totalRuns") if counts.copy else None
            copies[automation_id] = parse_count(shown) - counts.total
    for what, wrong, compared, unit in (
        ("hours against runs", hours, count, "runs missing in hours"),
        ("totals against hours", totals, known, "runs too many in totals"),
        ("copies in automations against totals", copies, count, "runs too many in copies"),
    ):
        named = [f"{one} ({difference:+d})" for one, difference in wrong.items()]
        figure = f"{len(wrong)} of {compared} automations differ" + (f", {unit}" if wrong else "")
        yield build_finding(what, figure, named=named, fix=_FIX)


def list_sample(scope: Scope) -> Iterator[tuple[str, Any]]:
    """Yield (automation id, typed key) of those that ran last, of all if the scope is full.

    By their bases, so that the runs of an automation that was removed are looked at, too. Those
    that have no hours yet are left out: another check names them.
    """
    stats = scope.database["automation_run_stats"]
    query = {"base": {"$exists": True}, "rollupsSince": None}
    if scope.is_full:
        found = stats.find(query, {"automationId": 1, "automationKey": 1})
    else:
        newest = scope.database["automation_runs"].aggregate([
            {"$sort": {"_id": -1}},
            {"$limit": 20_000},
            {"$group": {"_id": "$automationId", "runs": {"$sum": 1}}},
            {"$sort": {"runs": -1, "_id": 1}},
            {"$limit": _NEWEST},
        ])  # fmt: skip
        ids = [build_base_id(one) for row in newest for one in list_names(row["_id"])]
        found = list(stats.find({"_id": {"$in": ids}} | query))
        found += stats.find({"_id": {"$nin": ids}} | query, limit=_NEWEST - len(found))
    for base in found:
        yield base["automationId"], base["automationKey"]


def check_contacts(scope: Scope) -> Iterator[Finding]:
    """Compare the pairs of each automation's newest runs, or all, a batch at a snapshot."""
    store = ContactStore(scope.database)
    drift = DriftStore(scope.database, now=scope.now)
    oldest = drift.find_first_hour(scope.retention or timedelta.max)
    wrong: Counter[str] = Counter()
    count = 0
    newest = None if scope.is_full else _CONTACT_RUNS
    for automation_id, _ in list_sample(scope):
        for people, changes in store.compare(automation_id, oldest=oldest, newest=newest):
            wrong[automation_id] += len(changes)
            count += len(people)
    named = [f"{pairs} of {one}" for one, pairs in (+wrong).items()]
    figure = f"{wrong.total()} of {count} differ"
    yield build_finding("contacts against runs", figure, named=named, fix=_FIX)


def check_pairs(scope: Scope) -> Iterator[Finding]:
    """Look at neighbours: in the newest runs of each automation, or in all, by the index alone."""
    scan = _scan_all(scope) if scope.is_full else _scan_newest(scope)
    wrong, count = [], 0
    later: Mapping[str, Any] | None = None
    for run in scan:  # each pair from the newest
        count += 1
        pair = run.get("automationId"), run.get("userId")
        if later is not None and pair == (later.get("automationId"), later.get("userId")):
            is_near = later["createdAt"] - run["createdAt"] <= conf.dedup_window
            if is_near and _is_ours(scope, later):
                wrong.append(f"{name_id(pair[0])} at {later['createdAt'].isoformat()}")
        later = run
    yield build_finding(
        "runs of a pair within the window",
        f"{len(wrong)} in {count} runs",
        named=wrong,
        fix="delete the run that no trigger names (runId), then run "
        "'python manage.py reconcile_runs'",
    )


def _is_ours(scope: Scope, run: Mapping[str, Any]) -> bool:
    """Return whether the later run was counted by us: an older product is not judged."""
    query = {"_id": run["_id"]} if "_id" in run else dict(run)
    query["eventId"] = {"$exists": True}
    return scope.database["automation_runs"].find_one(query, {"_id": 1}) is not None


def _scan_all(scope: Scope) -> Iterator[Mapping[str, Any]]:
    """Yield all runs by pair, the newest first: sorted by the index, which holds all it takes."""
    fields = {"_id": 0, "automationId": 1, "userId": 1, "createdAt": 1}
    dates = {"createdAt": IS_DATED}
    runs = scope.database["automation_runs"].find(dates, fields, batch_size=_BATCH)
    order = [("automationId", 1), ("userId", 1), ("createdAt", -1)]
    yield from runs.sort(order).hint("automationId_userId_createdAt")


def _scan_newest(scope: Scope) -> Iterator[Mapping[str, Any]]:
    """Yield the newest runs of each automation of the sample, by pair, the newest first."""
    fields = {"automationId": 1, "userId": 1, "createdAt": 1}
    for automation_id, _ in list_sample(scope):
        forms = list_stored_forms(automation_id)
        query = {"automationId": {"$in": forms}, "createdAt": IS_DATED}
        found = scope.database["automation_runs"].find(query, fields, batch_size=_BATCH)
        newest = list(found.sort("createdAt", -1).limit(_PAIR_RUNS))
        newest.sort(
            key=lambda run: str(run.get("userId"))
        )  # stable: the newest of each stays first
        yield from newest
