"""What the simulator reads of the collection `automations`."""

from __future__ import annotations

from typing import Any

from automations.store import reach_mongo
from tracking import mongo

# Counters change with every run and say nothing about whom to write to.
_UNUSED = {"totalRuns": 0, "lastRunAt": 0, "updatedAt": 0}


def list_active_automations() -> list[dict[str, Any]]:
    """Return the active automations of every workspace. Raises TrackingUnavailable."""
    with reach_mongo():
        return list(mongo.get_database()["automations"].find({"isActive": True}, _UNUSED))
