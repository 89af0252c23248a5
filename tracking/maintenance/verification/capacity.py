"""How fast collections grow, how long the disk lasts, and how fast statistics are."""

import time
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

from bson import ObjectId

from tracking.maintenance.verification.findings import Finding, Scope, State, build_finding
from tracking.queries.stats import StatsStore

DAY = timedelta(days=1)
FEWEST_DAYS = 14
_MOST = 5_000_000
MOST_MILLISECONDS = 200.0
_AUTOMATIONS = 50
_TRIES = 3

# The indexed time that tells a document's age, how long after it a document goes (None: the
# retention of runs), and how long before it the document was stored. Other collections grow with
# automations and accounts, or are small.
_GROWING: dict[str, tuple[str, timedelta | None, timedelta]] = {
    "automation_runs": ("createdAt", None, timedelta(0)),
    "automation_contacts": ("lastRunAt", None, timedelta(0)),
    # Most live for seven days and carry the end of that time.
    "automation_triggers": ("expireAt", timedelta(0), 7 * DAY),
    "automation_run_stats": ("hour", 400 * DAY, timedelta(0)),
}


def check_growth(scope: Scope) -> Iterator[Finding]:
    """Bytes that come in a day, less those that the TTLs take, against what the disk has left."""
    daily = 0.0
    for collection in _GROWING:
        size, count = _read_size(scope.database, collection)
        new, leaving = _count_change(scope, collection)
        bytes_a_day = (new - leaving) * (size / count if count else 0.0)
        daily += bytes_a_day
        yield build_finding(
            f"size of {collection}",
            f"{count} documents, {_show(size)}, {_show(bytes_a_day)} a day ({new} new, "
            f"{leaving} leave)",
            "none of its own",
        )
    yield _check_disk(scope.database, daily)


def _check_disk(database: Any, daily: float) -> Finding:
    stats = database.command("dbStats")
    what, limit = "days until the disk is full", f"{FEWEST_DAYS} days"
    if not stats.get("fsTotalSize"):
        figure = "MongoDB does not tell the size of its disk"
        return Finding(what=what, state=State.SKIPPED, figure=figure, limit=limit)
    free = stats["fsTotalSize"] - stats["fsUsedSize"]
    days = free / daily if daily > 0 else float("inf")
    lasts = f"{days:.0f}" if days < 10_000 else "more than 10000"
    fix = "enlarge the disk, or keep runs for a shorter time (TRACKING_RETENTION_DAYS)"
    figure = f"{lasts}, {_show(free)} free"
    return build_finding(what, figure, limit, is_ok=days >= FEWEST_DAYS, fix=fix)


def _read_size(database: Any, collection: str) -> tuple[float, int]:
    """Return what a collection takes on disk with its indexes, and how many documents it has."""
    rows = list(database[collection].aggregate([{"$collStats": {"storageStats": {}}}]))
    stats = [row["storageStats"] for row in rows]  # one for each shard
    return sum(one["totalSize"] for one in stats), sum(one.get("count", 0) for one in stats)


def _count_change(scope: Scope, name: str) -> tuple[int, int]:
    """Return how many documents came in the last day, and how many go in the next one."""
    collection = scope.database[name]
    field, kept, stored_before = _GROWING[name]
    kept = scope.retention if kept is None else kept
    if kept is None:  # without a TTL, no index on the time; there are fewer contacts than runs
        since = ObjectId.from_datetime(scope.now - DAY)
        return collection.count_documents({"_id": {"$gte": since}}, limit=_MOST), 0
    born = scope.now + stored_before
    new = collection.count_documents({field: {"$gt": born - DAY, "$lte": born}}, limit=_MOST)
    gone = scope.now - kept
    leaving = {field: {"$gt": gone, "$lte": gone + DAY}}
    return new, collection.count_documents(leaving, limit=_MOST)


def _show(size: float) -> str:
    for unit in ("B", "KB", "MB", "GB"):
        if abs(size) < 1000:
            return f"{size:.0f} {unit}"
        size /= 1000
    return f"{size:.1f} TB"


def check_speed(scope: Scope) -> Iterator[Finding]:
    """Time the statistics of the newest automations, as many as a list shows: the best of three.

    The best, because what else the machine does is not the database's fault.
    """
    newest = scope.database["automations"].find({}, {"totalRuns": 1, "lastRunAt": 1})
    automations = list(newest.sort("_id", -1).limit(_AUTOMATIONS))
    store = StatsStore(scope.database)
    best = float("inf")
    for _ in range(_TRIES):
        started = time.perf_counter()
        store.summarize(automations, at=scope.now, wait_seconds=0)
        best = min(best, (time.perf_counter() - started) * 1000)
    yield build_finding(
        f"statistics of {len(automations)} automations",
        f"{best:.1f} ms",
        f"{MOST_MILLISECONDS:.0f} ms",
        is_ok=best < MOST_MILLISECONDS,
        fix="look at the lines on indexes and bases; else at the load of MongoDB",
    )
