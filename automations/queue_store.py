"""What the queues of accounts are read from, a read each whatever the number of accounts."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

from automations.job_documents import LONG_AGO
from automations.jobs import VIAS
from automations.lanes import LANES, build_lane_id
from tracking.mongo import client as mongo
from tracking.mongo.errors import bounded

Document = dict[str, Any]

_SECONDS = 3.0


def count_queued(account_ids: Collection[str]) -> list[Document]:
    """Return `{"_id": {"accountId", "via"}, "count", "firstAt", "lastAt"}` of lanes with jobs.

    `firstAt` and `lastAt` are the earliest and latest times at which one is due. The index alone
    answers it. Raises TrackingUnavailable.
    """
    pipeline = [
        {"$match": {
            "send.via": {"$in": list(VIAS)},
            "accountId": {"$in": list(account_ids)},
            "nextAt": {"$gt": LONG_AGO},
        }},
        {"$group": {
            "_id": {"accountId": "$accountId", "via": "$send.via"},
            "count": {"$sum": 1},
            "firstAt": {"$min": "$nextAt"},
            "lastAt": {"$max": "$nextAt"},
        }},
    ]  # fmt: skip
    with bounded(_SECONDS):
        return list(mongo.get_database()["automation_triggers"].aggregate(pipeline))


def find_lanes(lanes: Sequence[tuple[str, str]]) -> dict[tuple[str, str], Document]:
    """Return the lanes that exist of these (account, via). Raises TrackingUnavailable."""
    ids = [build_lane_id(account_id, via) for account_id, via in lanes]
    with bounded(_SECONDS):
        found = list(mongo.get_database()[LANES].find({"_id": {"$in": ids}}, batch_size=10_000))
    return {(document["accountId"], document["via"]): document for document in found}
