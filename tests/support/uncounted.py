"""Waiting until triggers are counted: `count_everything(db)`.

A process that uses `tracking.service` counts by itself, and answers of the API and pages wait for
it. A test that looks into the database calls `count_everything` first. It counts here where nobody
else does, waits for whoever does, and leaves alone what cannot be counted.
"""

from typing import Any

from pymongo.database import Database

from tests.support.waiting import wait_until
from tracking.conf import conf
from tracking.counting.counter import Counter


def count_everything(db: Database[dict[str, Any]]) -> None:
    """Return when no trigger waits any more, but those of automations that are stuck."""
    counter = Counter(db, window=conf.dedup_window)

    def is_counted() -> bool:
        counter.count_all()
        return db["automation_triggers"].find_one({"partition": {"$gte": 0}}) is None

    try:
        wait_until(is_counted, seconds=20, what=lambda: "counted")
    finally:
        counter.leave()
