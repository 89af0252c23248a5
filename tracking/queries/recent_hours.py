"""Runs by hour of the last days, for many automations at once: what small charts are drawn from.

Read from the base and live documents alone, however many runs there are (I9). Hours that the base
does not know, as before `add_run_fields` has built them, are not there.
"""

from collections.abc import Collection
from typing import Any

from pymongo.client_session import ClientSession
from pymongo.database import Database
from pymongo.errors import PyMongoError

from tracking.exceptions import TrackingUnavailable
from tracking.mongo.transactions import read_at_snapshot
from tracking.rollups.hours import build_total_ids

Hours = dict[int, int]


def list_recent_hours(
    database: Database[dict[str, Any]], automation_ids: Collection[str], *, seconds: float
) -> dict[str, Hours]:
    """Return `{automation id: {hour number: runs}}` of the last eight days at least.

    Hours are those of tracking.rollups (since 1970, UTC). Raises TrackingUnavailable.
    """
    if not automation_ids:
        return {}

    def read(session: ClientSession) -> dict[str, Hours]:
        return _read(database, automation_ids, session)

    try:
        return read_at_snapshot(database.client, read, seconds=seconds)
    except PyMongoError as error:
        raise TrackingUnavailable(f"MongoDB: {type(error).__name__}") from error


def _read(
    database: Database[dict[str, Any]], automation_ids: Collection[str], session: ClientSession
) -> dict[str, Hours]:
    # By the hours' names as they are stored: merging whole dictionaries is what makes it quick.
    counts: dict[str, dict[str, int]] = {one: {} for one in automation_ids}
    live: list[dict[str, Any]] = []
    ids = [key for one in counts for key in build_total_ids(one)]
    fields = {"automationId": 1, "stripe": 1, "hours": 1, "h": 1}
    for document in database["automation_run_stats"].find(
        {"_id": {"$in": ids}}, fields, session=session, batch_size=len(ids) + 1
    ):
        if "stripe" in document:
            live.append(document)
            continue
        for by_hour in document.get("hours", {}).values():
            counts[document["automationId"]].update(by_hour)
    for document in live:
        hours = counts[document["automationId"]]
        for name, parts in document.get("h", {}).items():
            hours[name] = hours.get(name, 0) + parts.get("n", 0)
    return {one: {int(name): runs for name, runs in hours.items()} for one, hours in counts.items()}
