"""How much is queued for an account, and when the last of it goes out."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from datetime import datetime
from typing import Any

import msgspec

from automations.outbox.documents import LONG_AGO
from automations.outbox.jobs import VIAS
from automations.outbox.lanes import LANES, build_lane_id
from automations.outbox.rate_limits import find_end
from tracking.clock import read_now
from tracking.mongo import client as mongo
from tracking.mongo.errors import bounded

Document = dict[str, Any]

_SECONDS = 3.0


class Queue(msgspec.Struct, frozen=True, kw_only=True):
    """The `queued` jobs of an account, without those that a worker has leased.

    `oldest_at` is when the longest waiting job became due. `finishes_at` is when the last job
    goes out if no more arrive, by the pace of Meta's limits and the account's back-off; a paused
    account finishes later. Both are None for an empty queue.
    """

    account_id: str
    queued: int = 0
    oldest_at: datetime | None = None
    finishes_at: datetime | None = None


def summarize_queue(account_id: str, *, now: datetime | None = None) -> Queue:
    """Return one account's queue; `now` is for tests. Raises TrackingUnavailable."""
    return summarize_queues([account_id], now=now)[account_id]


def summarize_queues(
    account_ids: Collection[str], *, now: datetime | None = None
) -> dict[str, Queue]:
    """Return each account's queue, in two reads. Raises TrackingUnavailable."""
    at = now or read_now()
    queues = {one: Queue(account_id=one) for one in account_ids}
    counted = count_queued(queues.keys()) if queues else []
    keys = [(one["_id"]["accountId"], one["_id"]["via"]) for one in counted]
    lanes = find_lanes(keys) if keys else {}
    for one, (account_id, via) in zip(counted, keys, strict=True):
        queue, count = queues[account_id], one["count"]
        # A job that is retried later is not ready before that.
        end = max(find_end(lanes.get((account_id, via), {}), via, count, now=at), one["lastAt"])
        queues[account_id] = Queue(
            account_id=account_id,
            queued=queue.queued + count,
            oldest_at=min(one["firstAt"], queue.oldest_at or one["firstAt"]),
            finishes_at=max(end, queue.finishes_at or end),
        )
    return queues


def count_queued(account_ids: Collection[str]) -> list[Document]:
    """Return `{"_id": {"accountId", "via"}, "count", "firstAt", "lastAt"}` of lanes with jobs.

    `firstAt` and `lastAt` are the earliest and latest times at which one is due. The index covers
    it. Raises TrackingUnavailable.
    """
    query = {
        "send.via": {"$in": list(VIAS)},
        "accountId": {"$in": list(account_ids)},
        "nextAt": {"$gt": LONG_AGO},
    }
    groups = {
        "_id": {"accountId": "$accountId", "via": "$send.via"},
        "count": {"$sum": 1},
        "firstAt": {"$min": "$nextAt"},
        "lastAt": {"$max": "$nextAt"},
    }
    with bounded(_SECONDS):
        triggers = mongo.get_database()["automation_triggers"]
        return list(triggers.aggregate([{"$match": query}, {"$group": groups}]))


def find_lanes(lanes: Sequence[tuple[str, str]]) -> dict[tuple[str, str], Document]:
    """Return the existing lanes of these (account, via). Raises TrackingUnavailable."""
    ids = [build_lane_id(account_id, via) for account_id, via in lanes]
    with bounded(_SECONDS):
        found = list(mongo.get_database()[LANES].find({"_id": {"$in": ids}}, batch_size=10_000))
    return {(document["accountId"], document["via"]): document for document in found}
