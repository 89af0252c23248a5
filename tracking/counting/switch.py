"""The stored switches: one document each. That of counting is read by counters alone."""

from datetime import datetime
from enum import StrEnum
from typing import Any

from pymongo.database import Database


class SwitchState(StrEnum):
    """Whether triggers are counted, or wait until they are."""

    ON = "on"
    OFF = "off"


def read_switch(database: Database[dict[str, Any]], name: str = "tracking") -> SwitchState:
    """Return the switch `tracking` or `stats`: one never touched is on, an unknown state off."""
    document = database["tracking_switch"].find_one({"_id": name})
    is_on = document is None or document.get("state") == SwitchState.ON
    return SwitchState.ON if is_on else SwitchState.OFF


def write_switch(
    database: Database[dict[str, Any]], name: str, state: SwitchState, *, now: datetime
) -> None:
    """Set a switch; counters see it before their next batch, answers at once."""
    change = {"$set": {"state": state.value, "changedAt": now}}
    database["tracking_switch"].update_one({"_id": name}, change, upsert=True)


def find_switch_time(database: Database[dict[str, Any]], name: str) -> datetime | None:
    """Return when a switch was last set, None if it never was."""
    document = database["tracking_switch"].find_one({"_id": name})
    changed_at = document.get("changedAt") if document else None
    return changed_at if isinstance(changed_at, datetime) else None
