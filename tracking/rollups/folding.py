"""Folding: closed hours leave the base documents, so that reads stay small.

An hour that is over moves, in one transaction an automation, from `h` of its base document into
an hour document (kept 400 days) and, as one number, into `days` and `hours` of the base (kept 9
days). A trigger that is counted late opens its hour again, and it is folded next time.
"""

from collections.abc import Mapping
from datetime import datetime, timedelta
from functools import partial
from typing import Any

from pymongo import UpdateOne
from pymongo.client_session import ClientSession
from pymongo.database import Database

from tracking.mongo.transactions import run_in_transaction, transact
from tracking.rollups.hours import (
    HOURS_PER_DAY,
    build_base_id,
    build_hour_id,
    hour_of,
    start_of_hour,
)
from tracking.rollups.totals import is_recent_day

Document = dict[str, Any]

CLOSED_AFTER = timedelta(minutes=2)


class Folder:
    """Moves closed hours out of the base documents."""

    def __init__(self, database: Database[Document]) -> None:
        self._client = database.client
        self._stats = database["automation_run_stats"]

    def fold_all(self, *, now: datetime) -> int:
        """Fold every automation that has open hours; return how many hours there were."""
        stored = self._stats.find({"h": {"$gt": {}}}, {"automationId": 1})
        found = sorted(one["automationId"] for one in stored)
        return sum(self.fold(one, now=now) for one in found)

    def fold(
        self, automation_id: str, *, now: datetime, session: ClientSession | None = None
    ) -> int:
        """Fold one automation's closed hours; return how many there were.

        A counter does it in its own `session`, once.
        """
        work = partial(self._fold, automation_id, now)
        if session is not None:
            return transact(session, work)
        return run_in_transaction(self._client, work, seconds=5.0)

    def _fold(self, automation_id: str, now: datetime, session: ClientSession) -> int:
        base_id = build_base_id(automation_id)
        base = self._stats.find_one({"_id": base_id}, session=session)
        if base is None:
            return 0
        last_open = hour_of(now - CLOSED_AFTER)
        hours = base.get("h", {})
        closed = {hour: hours[hour] for hour in hours if int(hour) < last_open}
        if not closed:
            return 0
        increments: dict[str, int] = {}
        unset = {f"h.{hour}": "" for hour in closed}
        for name, counts in closed.items():
            hour, day = int(name), int(name) // HOURS_PER_DAY
            if is_recent_day(day, now):
                runs = counts.get("n", 0)
                increments[f"hours.{day}.{hour}"] = runs
                increments[f"days.{day}"] = increments.get(f"days.{day}", 0) + runs
        for day in base.get("days", {}):
            if not is_recent_day(int(day), now):
                unset |= {f"days.{day}": "", f"hours.{day}": ""}
        change: Document = {"$unset": unset}
        if increments:
            change["$inc"] = increments
        query = {"_id": base_id, "automationId": automation_id}
        writes = [build_hour_write(automation_id, int(one), closed[one]) for one in closed]
        self._stats.bulk_write([*writes, UpdateOne(query, change)], ordered=False, session=session)
        return len(closed)


def build_hour_write(automation_id: str, hour: int, counts: Mapping[str, Any]) -> UpdateOne:
    """Return the update that adds an hour's `{n, m, d, p}` to its document."""
    increments = {"n": counts.get("n", 0)}
    for name in ("m", "d", "p"):
        for key, count in counts.get(name, {}).items():
            increments[f"{name}.{key}"] = count
    return UpdateOne(
        {"_id": build_hour_id(automation_id, hour), "automationId": automation_id},
        {"$inc": increments, "$setOnInsert": {"hour": start_of_hour(hour)}},
        upsert=True,
    )
