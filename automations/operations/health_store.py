"""What readiness is read from. Every function is bounded by its caller; errors pass as they are."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from typing import Any

import pymongo
from pymongo.errors import PyMongoError

from automations.outbox.jobs import LONG_AGO, VIAS
from automations.outbox.lanes import LANES, build_lane_id
from tracking import service
from tracking.exceptions import TrackingError, TrackingUnavailable
from tracking.ids import PARTITIONS
from tracking.mongo import client as mongo
from tracking.mongo.indexes import find_missing_indexes

# Look up at most 20 unopened lanes; more would barely change the maximum.
_MOST_LOOKED_UP = 20


@contextmanager
def limited(seconds: float) -> Iterator[None]:
    """Limit what is read inside to `seconds` in all. Raises TrackingUnavailable for any failure."""
    try:
        with pymongo.timeout(seconds):
            yield
    except (PyMongoError, TrackingError) as error:
        raise TrackingUnavailable(type(error).__name__) from error


def read_clock_offset(clock: Callable[[], float]) -> float:
    """Return how many seconds this host's clock is ahead of the primary's.

    To half the time that the question took. An answer proves that there is a primary
    (https://www.mongodb.com/docs/manual/reference/command/hello/).
    """
    asked_at = clock()
    answer = mongo.get_client().admin.command("hello")
    middle = (asked_at + clock()) / 2
    if not answer.get("isWritablePrimary"):
        raise TrackingUnavailable("no primary")
    local_time: datetime = answer["localTime"]
    return middle - local_time.timestamp()


def list_missing_indexes() -> list[str]:
    """Return the declared indexes that are missing; the TTL of runs may be left out on purpose."""
    missing = find_missing_indexes(mongo.get_database(), retention=None)
    return [f"{index.collection}.{index.name}" for index in missing]


def read_queue_lag(*, now: datetime) -> timedelta:
    """Return for how long the send has waited that could go first and has not.

    What waits for its account's pace or for a pause to end is not late. One index key for each
    account with due jobs, and their lanes.
    """
    database = mongo.get_database()
    jobs = database["automation_triggers"]
    due = [
        (account_id, via)
        for via in VIAS
        for account_id in jobs.distinct("accountId", {"send.via": via, "nextAt": {"$lte": now}})
    ]
    ids = [build_lane_id(*one) for one in due]
    found = database[LANES].find({"_id": {"$in": ids}}, {"turnAt": 1}, batch_size=len(ids) + 1)
    turns = {lane["_id"]: lane.get("turnAt") for lane in found}
    since: list[datetime] = [turn for turn in turns.values() if turn is not None]
    unopened = [one for one in due if turns.get(build_lane_id(*one)) is None]
    for account_id, via in unopened[:_MOST_LOOKED_UP]:
        query = {"send.via": via, "accountId": account_id, "nextAt": {"$gt": LONG_AGO}}
        oldest = jobs.find_one(query, {"nextAt": 1}, sort=[("nextAt", 1)])
        if oldest is not None:
            since.append(oldest["nextAt"])
    return max([timedelta(0), *(now - moment for moment in since)])


def read_counting_lag(*, now: datetime) -> timedelta:
    """Return for how long the trigger has waited that is counted next.

    What waits of automations that cannot be counted has negative partitions, and is not late.
    """
    pipeline: list[dict[str, Any]] = [
        {"$match": {"partition": {"$gte": 0}}},
        # One index key for each partition.
        {"$sort": {"partition": 1, "createdAt": 1}},
        {"$group": {"_id": "$partition", "oldest": {"$first": "$createdAt"}}},
    ]
    found = mongo.get_database()["automation_triggers"].aggregate(pipeline)
    since: list[datetime] = [one["oldest"] for one in found]
    return max([timedelta(0), *(now - moment for moment in since)])


def count_waiting() -> dict[str, int]:
    """Return what waits, by the names of Health, counted in indexes."""
    database = mongo.get_database()
    triggers = database["automation_triggers"]
    queued = {"send.via": {"$in": list(VIAS)}, "nextAt": {"$gt": LONG_AGO}}
    return {
        "dead_letters": database["webhook_dead_letters"].count_documents({"state": "waiting"}),
        "uncounted": triggers.count_documents({"partition": {"$gte": -PARTITIONS}}),
        "stuck": len(service.list_stuck()),
        "queued": triggers.count_documents(queued),
    }
