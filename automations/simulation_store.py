"""What the simulator reads of the collection `automations`."""

from __future__ import annotations

from typing import Any

from tracking import service
from tracking.mongo import client as mongo
from tracking.mongo.errors import reach_mongo

# Counters change with every run and say nothing about whom to write to.
_UNUSED = {"totalRuns": 0, "lastRunAt": 0, "updatedAt": 0}


def list_active_automations() -> list[dict[str, Any]]:
    """Return the active automations of every workspace. Raises TrackingUnavailable."""
    with reach_mongo():
        return list(mongo.get_database()["automations"].find({"isActive": True}, _UNUSED))


def read_totals() -> dict[str, tuple[str, int]]:
    """Return (name, total runs) of the active automations by id. Raises TrackingUnavailable."""
    with reach_mongo():
        found = list(mongo.get_database()["automations"].find({"isActive": True}))
        totals = service.get_totals(found)
    return {
        str(one["_id"]): (str(one.get("name") or one["_id"]), totals[str(one["_id"])][0])
        for one in found
    }
