"""How much of an account waits to be sent, and when it will be done."""

from __future__ import annotations

from collections.abc import Collection
from datetime import datetime

import msgspec

from automations import queue_store
from automations.buckets import find_end
from tracking.clock import read_now


class Queue(msgspec.Struct, frozen=True, kw_only=True):
    """What waits of an account: `queued` jobs; one that is in a worker's hands is not among them.

    `oldest_at` is since when the one that has waited longest is due. `finishes_at` is when the
    last one goes out if nothing more comes, by the pace that Meta's limits leave the account and
    by what it was told to wait; an account that is paused finishes later. Both are None while
    nothing waits.
    """

    account_id: str
    queued: int = 0
    oldest_at: datetime | None = None
    finishes_at: datetime | None = None


def summarize_queue(account_id: str, *, now: datetime | None = None) -> Queue:
    """Return what waits of one account; `now` is for tests. Raises TrackingUnavailable."""
    return summarize_queues([account_id], now=now)[account_id]


def summarize_queues(
    account_ids: Collection[str], *, now: datetime | None = None
) -> dict[str, Queue]:
    """Return what waits of each account, in two reads. Raises TrackingUnavailable."""
    at = now or read_now()
    queues = {one: Queue(account_id=one) for one in account_ids}
    counted = queue_store.count_queued(queues.keys()) if queues else []
    keys = [(one["_id"]["accountId"], one["_id"]["via"]) for one in counted]
    lanes = queue_store.find_lanes(keys) if keys else {}
    for one, (account_id, via) in zip(counted, keys, strict=True):
        queue, count = queues[account_id], one["count"]
        # One that is tried again later is not ready before that.
        end = max(find_end(lanes.get((account_id, via), {}), via, count, now=at), one["lastAt"])
        queues[account_id] = Queue(
            account_id=account_id,
            queued=queue.queued + count,
            oldest_at=min(one["firstAt"], queue.oldest_at or one["firstAt"]),
            finishes_at=max(end, queue.finishes_at or end),
        )
    return queues
