"""Folding: closed hours leave the live documents, so that reads stay small.

An hour that is over moves, in one transaction an automation, from the live documents of all
stripes into its hour document (kept 400 days) and, as one number, into `days` and `hours` of the
base document (kept 9 days). A late replay opens the hour in a live document again and is folded
next time. Live documents of stripes that nobody holds give their runs to the base and go.
"""

from collections.abc import Callable, Collection
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from pymongo import DeleteOne, UpdateOne
from pymongo.client_session import ClientSession
from pymongo.database import Database

from tracking.mongo.transactions import run_in_transaction
from tracking.rollups.hours import (
    HOURS_PER_DAY,
    STRIPES,
    build_base_id,
    build_hour_id,
    build_live_ids,
    hour_of,
    merge_hours,
    start_of_hour,
)
from tracking.rollups.totals import is_recent_day, newest_of, parse_count

Document = dict[str, Any]

CLOSED_AFTER = timedelta(minutes=2)


class Folder:
    """Moves closed hours out of the live documents."""

    def __init__(
        self,
        database: Database[Document],
        *,
        on_session: Callable[[UUID], None] | None = None,
    ) -> None:
        """`on_session` names each session in a lease: whoever dies in it must not lock writers."""
        self._database = database
        self._on_session = on_session
        self._stats = database["automation_run_stats"]
        self._writers = database["tracking_writers"]

    def fold_all(self, *, now: datetime) -> int:
        """Fold every automation that has something to fold; return how many hours there were."""
        return sum(
            self.fold(automation_id, now=now) for automation_id in self.list_foldable(now=now)
        )

    def list_foldable(self, *, now: datetime) -> list[str]:
        """Return the automations whose live documents hold a closed hour, or lie on no stripe."""
        last_open = hour_of(now - CLOSED_AFTER)
        held = self._list_held_stripes()
        return sorted({
            document["automationId"]
            for document in self._stats.find({"stripe": {"$gte": 0}},
                                             {"automationId": 1, "stripe": 1, "h": 1})
            if document["stripe"] not in held
            or any(int(hour) < last_open for hour in document.get("h", {}))
        })  # fmt: skip

    def fold(self, automation_id: str, *, now: datetime) -> int:
        """Fold one automation's closed hours; return how many there were."""
        held = self._list_held_stripes()
        return run_in_transaction(
            self._database.client,
            lambda session: self._fold(automation_id, now, held, session),
            seconds=5.0,
            on_session=self._on_session,
        )

    def _list_held_stripes(self) -> set[int]:
        return {writer["_id"] % STRIPES for writer in self._writers.find({}, {"_id": 1})}

    def _fold(
        self, automation_id: str, now: datetime, held: Collection[int], session: ClientSession
    ) -> int:
        base_id = build_base_id(automation_id)
        base = self._stats.find_one({"_id": base_id}, session=session)
        if base is None:
            return 0  # nobody took the base yet: it subtracts the live documents
        live = list(
            self._stats.find({"_id": {"$in": build_live_ids(automation_id)}}, session=session)
        )
        last_open = hour_of(now - CLOSED_AFTER)
        closed: dict[int, list[Document]] = {}
        writes: list[UpdateOne | DeleteOne] = []
        moved_runs, newest = 0, None
        for document in live:
            hours = document.get("h", {})
            is_orphan = document["stripe"] not in held
            leaving = [hour for hour in hours if is_orphan or int(hour) < last_open]
            for hour in leaving:
                closed.setdefault(int(hour), []).append(hours[hour])
            if is_orphan:
                moved_runs += parse_count(document.get("runs"))
                newest = newest_of(newest, document.get("lastRunAt"))
                writes.append(DeleteOne({"_id": document["_id"]}))
            elif leaving:
                unset = {f"h.{hour}": "" for hour in leaving}
                writes.append(UpdateOne({"_id": document["_id"]}, {"$unset": unset}))
        if not writes:
            return 0
        increments: dict[str, int] = {"runs": moved_runs}
        for hour, parts in closed.items():
            merged = merge_hours(parts)
            writes.append(build_hour_write(automation_id, hour, merged))
            day = hour // HOURS_PER_DAY
            if is_recent_day(day, now):
                increments[f"hours.{day}.{hour}"] = merged["n"]
                increments[f"days.{day}"] = increments.get(f"days.{day}", 0) + merged["n"]
        update: Document = {"$inc": increments}
        if newest is not None:
            update["$max"] = {"lastRunAt": newest}
        expired = [day for day in base["days"] if not is_recent_day(int(day), now)]
        if expired:
            paths = [f"{name}.{day}" for day in expired for name in ("days", "hours")]
            update["$unset"] = dict.fromkeys(paths, "")
        writes.append(UpdateOne({"_id": base_id}, update))
        self._stats.bulk_write(writes, ordered=False, session=session)
        return len(closed)


def build_hour_write(automation_id: str, hour: int, merged: Document) -> UpdateOne:
    """Return the update that adds an hour's `{n, m, d, p}` to its document."""
    increments = {"n": merged["n"]}
    for name in ("m", "d", "p"):
        for key, count in merged.get(name, {}).items():
            increments[f"{name}.{key}"] = count
    return UpdateOne(
        {"_id": build_hour_id(automation_id, hour)},
        {
            "$inc": increments,
            "$setOnInsert": {"automationId": automation_id, "hour": start_of_hour(hour)},
        },
        upsert=True,
    )
