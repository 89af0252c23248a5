"""The stored switch of tracking: one document that every process reads in its flush."""

from enum import StrEnum
from typing import Any

from pymongo.client_session import ClientSession
from pymongo.database import Database


class SwitchState(StrEnum):
    """Whether triggers are counted; anything but `on` stores them as untracked."""

    ON = "on"
    OFF = "off"
    CATCHING_UP = "catching_up"


def read_switch(
    database: Database[dict[str, Any]], session: ClientSession | None = None
) -> SwitchState:
    """Return the stored state; a switch that nobody ever touched is on, an unknown state off."""
    document = database["tracking_switch"].find_one({"_id": "tracking"}, session=session)
    if document is None:
        return SwitchState.ON
    try:
        return SwitchState(document.get("state", ""))
    except ValueError:
        return SwitchState.OFF


def is_stats_switched_on(database: Database[dict[str, Any]]) -> bool:
    """Return whether the stored switch lets statistics be shown."""
    document = database["tracking_switch"].find_one({"_id": "stats"})
    return document is None or document.get("state") == SwitchState.ON
