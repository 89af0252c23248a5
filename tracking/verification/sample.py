"""Which automations a check looks at."""

from collections.abc import Iterator
from typing import Any

from tracking.rollups.hours import build_base_id
from tracking.verification.findings import Scope

_NEWEST = 100


def list_sample(scope: Scope) -> Iterator[tuple[str, Any]]:
    """Yield (automation id, typed key) of those that ran last, of all if the scope is full.

    By their bases, so that the runs of an automation that was removed are looked at, too. Those
    that have no hours yet are left out: another check names them.
    """
    stats = scope.database["automation_run_stats"]
    query = {"base": {"$exists": True}, "rollupsSince": None}
    if scope.is_full:
        for base in stats.find(query, {"automationId": 1, "automationKey": 1}):
            yield base["automationId"], base["automationKey"]
        return
    newest = scope.database["automation_runs"].aggregate([
        {"$sort": {"_id": -1}},
        {"$limit": 20_000},
        {"$group": {"_id": "$automationId", "runs": {"$sum": 1}}},
        {"$sort": {"runs": -1, "_id": 1}},
        {"$limit": _NEWEST},
    ])  # fmt: skip
    ids = [build_base_id(row["_id"]) for row in newest if isinstance(row["_id"], str)]
    found = list(stats.find({"_id": {"$in": ids}} | query))
    found += stats.find({"_id": {"$nin": ids}} | query, limit=_NEWEST - len(found))
    for base in found:
        yield base["automationId"], base["automationKey"]
