"""The stored switch of tracking: one document that every process reads in its flush.

While it is not on, a flush also touches a document of its stripe. The transaction that turns the
switch on touches all of them: a flush that stores untracked triggers at that moment conflicts
with it, and no untracked trigger is left behind a switch that is on.
"""

from collections.abc import Mapping
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any, NamedTuple

from pymongo.client_session import ClientSession
from pymongo.database import Database

from tracking.rollups.hours import STRIPES


class SwitchState(StrEnum):
    """Whether triggers are counted; anything but `on` stores them as untracked."""

    ON = "on"
    OFF = "off"
    CATCHING_UP = "catching_up"
    # Never stored: catching up ends, and a flush waits for it rather than store one more.
    HELD = "held"


class Switch(NamedTuple):
    """What one read of the switch tells a flush.

    `erased_until`: who arrives up to then may be of a pair that was erased.
    """

    state: SwitchState
    erased_until: datetime | None = None


def find_switch(database: Database[dict[str, Any]], session: ClientSession | None = None) -> Switch:
    """Return the switch as it is stored."""
    document = database["tracking_switch"].find_one({"_id": "tracking"}, session=session)
    return parse_switch(document, now=datetime.now(UTC))


def parse_switch(document: Mapping[str, Any] | None, *, now: datetime) -> Switch:
    """Return what is stored; a switch that nobody ever touched is on, an unknown state off."""
    if document is None:
        return Switch(SwitchState.ON)
    return Switch(_parse_state(document, now), document.get("erasedUntil"))


def read_switch(
    database: Database[dict[str, Any]], session: ClientSession | None = None
) -> SwitchState:
    """Return the stored state alone."""
    return find_switch(database, session).state


def _parse_state(document: Mapping[str, Any], now: datetime) -> SwitchState:
    try:
        state = SwitchState(document.get("state", ""))
    except ValueError:
        return SwitchState.OFF
    held_until = document.get("heldUntil")
    if state is SwitchState.CATCHING_UP and isinstance(held_until, datetime):
        # A hold ends by itself, should whoever took it be killed.
        return SwitchState.HELD if now < held_until else state
    return state


def note_erasure(
    database: Database[dict[str, Any]], *, until: datetime, session: ClientSession
) -> None:
    """Have flushes look for erased claims of what arrives up to `until`."""
    database["tracking_switch"].update_one(
        {"_id": "tracking"},
        {"$max": {"erasedUntil": until}, "$setOnInsert": {"state": SwitchState.ON.value}},
        upsert=True, session=session,
    )  # fmt: skip


def is_stats_switched_on(database: Database[dict[str, Any]]) -> bool:
    """Return whether the stored switch lets statistics be shown."""
    document = database["tracking_switch"].find_one({"_id": "stats"})
    return document is None or document.get("state") == SwitchState.ON


def touch_stripe(database: Database[dict[str, Any]], stripe: int, session: ClientSession) -> None:
    """Note in a flush's transaction that it found the switch not on."""
    database["tracking_switch"].update_one(
        {"_id": f"stripe:{stripe}"}, {"$inc": {"flushes": 1}}, upsert=True, session=session
    )


def touch_all_stripes(database: Database[dict[str, Any]], session: ClientSession) -> None:
    """Conflict with every flush that finds the switch not on."""
    for stripe in range(STRIPES):
        touch_stripe(database, stripe, session)


def write_switch(
    database: Database[dict[str, Any]],
    name: str,
    state: SwitchState,
    *,
    now: datetime,
    held_until: datetime | None = None,
    session: ClientSession | None = None,
) -> None:
    """Set the switch `tracking` or `stats`; every process sees it in its next flush or answer."""
    change = {"state": state.value, "changedAt": now, "heldUntil": held_until}
    database["tracking_switch"].update_one(
        {"_id": name}, {"$set": change}, upsert=True, session=session
    )


def find_switch_time(database: Database[dict[str, Any]], name: str) -> datetime | None:
    """Return when a switch was last set, None if nobody ever touched it."""
    document = database["tracking_switch"].find_one({"_id": name})
    changed_at = document.get("changedAt") if document else None
    return changed_at if isinstance(changed_at, datetime) else None
