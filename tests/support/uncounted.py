"""Waiting until triggers are counted: `count_everything(db)`.

A process that uses `tracking.service` counts by itself, and answers of the API and pages wait for
it. A test that looks into the database calls `count_everything` first. It counts here where nobody
else does, waits for whoever does, and leaves alone what cannot be counted.
"""

import time
from datetime import timedelta
from typing import Any

from pymongo.database import Database

from tracking.conf import conf
from tracking.counting.counter import Counter

Document = dict[str, Any]


def count_everything(
    db: Database[Document], *, window: timedelta | None = None, seconds: float = 20.0
) -> None:
    """Return when no trigger waits any more, but those of automations that are stuck."""
    deadline = time.monotonic() + seconds
    counter = Counter(db, window=window or conf.dedup_window)
    try:
        while True:
            counter.count_all()
            waiting = db["automation_triggers"].count_documents({"partition": {"$gte": 0}})
            if not waiting:
                return
            assert time.monotonic() < deadline, f"{waiting} triggers are not counted"
            time.sleep(0.02)
    finally:
        counter.leave()
