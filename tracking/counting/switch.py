"""The stored switches: one document each. That of counting is read by counters alone."""

import time
from datetime import datetime
from enum import StrEnum
from typing import Any

from pymongo.database import Database

_KEPT_SECONDS = 1.0
# How long a read waits for what arrived before it to be counted (I5).
WAIT_SECONDS = 0.25
# (client, until when, state) by name; a new client, as in another test, knows nothing.
_kept: dict[str, tuple[Any, float, "SwitchState"]] = {}


class SwitchState(StrEnum):
    """Whether triggers are counted, or wait until they are."""

    ON = "on"
    OFF = "off"


def read_switch(database: Database[dict[str, Any]], name: str = "tracking") -> SwitchState:
    """Return the switch `tracking` or `stats`: one never touched is on, an unknown state off."""
    document = database["tracking_switch"].find_one({"_id": name})
    is_on = document is None or document.get("state") == SwitchState.ON
    return SwitchState.ON if is_on else SwitchState.OFF


def read_switch_of_late(database: Database[dict[str, Any]], name: str) -> SwitchState:
    """Return a switch as it was at most a second ago, for answers that read nothing else of it."""
    known = _kept.get(name)
    if known is not None and known[0] is database.client and time.monotonic() < known[1]:
        return known[2]
    state = read_switch(database, name)
    _kept[name] = (database.client, time.monotonic() + _KEPT_SECONDS, state)
    return state


def find_wait_seconds(database: Database[dict[str, Any]]) -> float:
    """Return how long a read may wait for what is pending: not at all while counting is off."""
    is_on = read_switch_of_late(database, "tracking") is SwitchState.ON
    return WAIT_SECONDS if is_on else 0


def write_switch(
    database: Database[dict[str, Any]], name: str, state: SwitchState, *, now: datetime
) -> None:
    """Set a switch; counters see it before their next batch, answers within a second."""
    change = {"$set": {"state": state.value, "changedAt": now}}
    database["tracking_switch"].update_one({"_id": name}, change, upsert=True)
    _kept.clear()


def find_switch_time(database: Database[dict[str, Any]], name: str) -> datetime | None:
    """Return when a switch was last set, None if it never was."""
    document = database["tracking_switch"].find_one({"_id": name})
    changed_at = document.get("changedAt") if document else None
    return changed_at if isinstance(changed_at, datetime) else None
