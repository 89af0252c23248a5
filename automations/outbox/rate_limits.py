"""Meta's limits as token buckets, and the aggregations that take from them.

A bucket is one date, up to which its tokens are granted. The time from it until now, divided by
the bucket's pace, is the number of tokens left, at most the burst.
"""

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any

import msgspec

from automations.outbox.jobs import DM, PRIVATE_REPLY

Document = dict[str, Any]


class Bucket(msgspec.Struct, frozen=True):
    """A limit: `burst` tokens at once, one more after each `pace` (whole milliseconds)."""

    burst: int
    pace: timedelta

    @property
    def depth(self) -> timedelta:
        return self.burst * self.pace


# Burst plus one period's refill stays below Meta's limits (automations/instagram/limits.py):
# 40 + 690 private replies, and 17 more if each token is used as late as a lease and a call allow;
# 10 + 40 texts, so that a second with a burst of private replies too has 90; 1 + 1 reads. 5218 ms
# are 690 an hour, rounded down.
MAIN = {
    PRIVATE_REPLY: Bucket(40, timedelta(milliseconds=5218)),
    DM: Bucket(10, timedelta(milliseconds=25)),
}
READS = Bucket(1, timedelta(seconds=1))


def in_ms(duration: timedelta) -> int:
    return duration // timedelta(milliseconds=1)


def _choose(dm: timedelta, private_reply: timedelta) -> Document:
    return {"$cond": [{"$eq": ["$via", DM]}, in_ms(dm), in_ms(private_reply)]}


# Of the bucket in a lane's field `givenUntil`.
PACE = _choose(MAIN[DM].pace, MAIN[PRIVATE_REPLY].pace)
_DEPTH = _choose(MAIN[DM].depth, MAIN[PRIVATE_REPLY].depth)


def build_now(now: datetime | None) -> Any:
    return "$$NOW" if now is None else now


def build_fill(want: int, moment: Any) -> list[Document]:
    """Return the update that refills a lane's bucket and takes `granted` tokens, up to `want`."""
    given = "$givenUntil"
    ready = {"$floor": {"$divide": [{"$subtract": [moment, given]}, PACE]}}
    return [
        {"$set": {"givenUntil": {"$max": [given, {"$subtract": [moment, _DEPTH]}]}}},
        {"$set": {"granted": {"$max": [0, {"$min": [want, ready]}]}}},
        {"$set": {"givenUntil": {"$add": [given, {"$multiply": ["$granted", PACE]}]}}},
    ]


def build_take_read(moment: Any, *, is_expected: bool) -> list[Document]:
    """Return the update that takes a profile read (`granted` 1) or a place in the queue.

    Only one read a second is granted. Every other caller gets a time of its own to come back, the
    last one `readsPromisedUntil`, so that they do not all return every second. A caller with such
    a time `is_expected` and goes before new ones.
    """
    given, promised, pace = "$readsGivenUntil", "$readsPromisedUntil", in_ms(READS.pace)
    next_at = {"$add": [given, pace]}
    is_ready = {"$lte": [next_at, moment]}
    is_free = True if is_expected else {"$not": [{"$gt": [promised, moment]}]}
    place = {"$max": [{"$add": [promised, pace]}, next_at]}
    has_place = {"$or": [{"$eq": ["$granted", 1]}, is_expected]}
    oldest = {"$subtract": [moment, in_ms(READS.depth)]}
    return [
        {"$set": {"readsGivenUntil": {"$max": [given, oldest]}}},
        {"$set": {"granted": {"$cond": [{"$and": [is_ready, is_free]}, 1, 0]}}},
        {"$set": {"readsPromisedUntil": {"$cond": [has_place, promised, place]}}},
        {"$set": {"readsGivenUntil": {"$cond": [{"$eq": ["$granted", 1]}, next_at, given]}}},
    ]


def find_end(lane: Mapping[str, Any], via: str, length: int, *, now: datetime) -> datetime:
    bucket = MAIN[via]
    full = now - bucket.depth
    given_until: datetime = max(lane.get("givenUntil", full), full)
    last_at = given_until + length * bucket.pace
    end: datetime = max(now, last_at, lane.get("backOffUntil", now))
    return end
