"""What waits to be counted, who counts, and what cannot be counted. Reads only."""

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any

import msgspec
from pymongo.database import Database

from tracking.counting.partitions import IS_OVER, Stuck, list_stuck
from tracking.ids import PARTITIONS

Document = dict[str, Any]

# From here on it is told apart how long triggers have been waiting.
_AGES = {f"{seconds} s": timedelta(seconds=seconds) for seconds in (1, 60, 3600)}


class CounterStatus(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    host: str
    pid: int
    is_dedicated: bool
    partitions: list[int]


class Waiting(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """Triggers that are not counted, those of stuck automations (`stuck`) apart.

    `by_age` are the others: for how long at most, and how many.
    """

    triggers: int
    stuck: int
    oldest_at: datetime | None
    by_age: dict[str, int]


class CountingStatus(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """How counting is doing. `unowned` are partitions that nobody counts."""

    waiting: Waiting
    counters: list[CounterStatus]
    unowned: list[int]
    stuck: list[Stuck]

    def lag(self, now: datetime) -> timedelta:
        oldest = self.waiting.oldest_at
        return timedelta(0) if oldest is None else max(now - oldest, timedelta(0))


def read_status(database: Database[Document], *, now: datetime) -> CountingStatus:
    """Return how counting is doing; counters, whose lease runs, are by host and process."""
    fields = {"owner": 1, "isOver": IS_OVER, "isDedicated": 1, "host": 1, "pid": 1}
    documents = list(database["tracking_partitions"].aggregate([{"$project": fields}]))
    owners: dict[Any, list[int]] = {}
    for one in documents:
        if isinstance(one["_id"], int) and one.get("owner") is not None:
            owners.setdefault(one["owner"], []).append(one["_id"])
    counters = [
        CounterStatus(
            host=one.get("host", ""),
            pid=one.get("pid", 0),
            is_dedicated=bool(one.get("isDedicated")),
            partitions=sorted(owners.get(one["_id"], ())),
        )
        for one in documents
        if isinstance(one["_id"], str) and not one["isOver"]
    ]
    owned = {number for one in counters for number in one.partitions}
    return CountingStatus(
        waiting=read_waiting(database, now=now),
        counters=sorted(counters, key=lambda one: (one.host, one.pid)),
        unowned=[number for number in range(PARTITIONS) if number not in owned],
        stuck=list_stuck(database),
    )


def read_waiting(database: Database[Document], *, now: datetime) -> Waiting:
    """Count what waits, by the index `uncounted` alone."""
    branches = [{"case": {"$lt": ["$partition", 0]}, "then": "stuck"}]
    for name, age in _AGES.items():
        branches.append({"case": {"$gt": ["$createdAt", now - age]}, "then": name})
    by_age = {"$switch": {"branches": branches, "default": "longer"}}
    rows = database["automation_triggers"].aggregate([
        {"$match": {"partition": {"$gte": -PARTITIONS, "$lt": PARTITIONS}}},
        {"$group": {
            "_id": by_age, "triggers": {"$sum": 1}, "oldest": {"$min": "$createdAt"},
        }},
    ])  # fmt: skip
    found = {row["_id"]: row for row in rows}
    stuck = found.pop("stuck", {"triggers": 0})["triggers"]
    return Waiting(
        triggers=sum(row["triggers"] for row in found.values()),
        stuck=stuck,
        oldest_at=min((row["oldest"] for row in found.values()), default=None),
        by_age={name: found[name]["triggers"] for name in (*_AGES, "longer") if name in found},
    )


def describe_stuck(stuck: Sequence[Stuck]) -> list[str]:
    return [
        f"{one.automation_id} cannot be counted since {one.since.isoformat(timespec='seconds')} "
        f"({one.tries} tries): {one.reason}"
        for one in stuck
    ]
