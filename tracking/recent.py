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
from tracking.rollups import build_total_ids
from tracking.transactions import read_at_snapshot

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
    counts: dict[str, Hours] = {one: {} for one in automation_ids}
    ids = [key for one in counts for key in build_total_ids(one)]
    fields = {"automationId": 1, "hours": 1, "h": 1}
    for document in database["automation_run_stats"].find(
        {"_id": {"$in": ids}}, fields, session=session, batch_size=len(ids) + 1
    ):
        hours = counts[document["automationId"]]
        for by_hour in document.get("hours", {}).values():
            for number, runs in by_hour.items():
                hour = int(number)
                hours[hour] = hours.get(hour, 0) + runs
        for number, parts in document.get("h", {}).items():
            hour = int(number)
            hours[hour] = hours.get(hour, 0) + parts.get("n", 0)
    return counts
