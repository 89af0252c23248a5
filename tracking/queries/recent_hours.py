"""Runs by hour of the last days, for many automations at once: what small charts are drawn from.

Read from the base documents alone, however many runs there are (I9). Hours that a base does not
know, as before `add_run_fields` has built them, are not there.
"""

from collections.abc import Collection
from typing import Any

from pymongo.database import Database

from tracking.mongo.errors import bounded
from tracking.rollups.hours import build_base_id


def list_recent_hours(
    database: Database[dict[str, Any]], automation_ids: Collection[str], *, seconds: float
) -> dict[str, dict[int, int]]:
    """Return `{automation id: {hour number: runs}}` of the last eight days at least.

    Hours are those of tracking.rollups (since 1970, UTC). Raises TrackingUnavailable.
    """
    counts: dict[str, dict[int, int]] = {one: {} for one in automation_ids}
    if not counts:
        return counts
    ids = [build_base_id(one) for one in counts]
    fields = {"automationId": 1, "hours": 1, "h": 1}
    with bounded(seconds):
        # One document is one instant: no snapshot is needed.
        for base in database["automation_run_stats"].find(
            {"_id": {"$in": ids}}, fields, batch_size=len(ids) + 1
        ):
            hours = counts[base["automationId"]]
            for by_hour in base.get("hours", {}).values():
                hours |= {int(name): runs for name, runs in by_hour.items()}
            for name, parts in base.get("h", {}).items():
                hours[int(name)] = hours.get(int(name), 0) + parts.get("n", 0)
    return counts
