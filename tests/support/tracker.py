"""Triggers that are stored and counted at once, by one process of the test's own."""

from datetime import timedelta
from typing import Any

from pymongo.database import Database

from tests.support.triggers import WINDOW
from tests.support.waiting import wait_until
from tracking.counting.counter import Counter
from tracking.counting.storage import Storage
from tracking.ids import build_trigger_id
from tracking.runs import Outcome, Trigger


class Tracker:
    def __init__(self, database: Database[dict[str, Any]], *, window: timedelta = WINDOW) -> None:
        self._triggers = database["automation_triggers"]
        self.storage = Storage(database)
        self.counter = Counter(database, window=window)

    def store(self, *triggers: Trigger) -> list[Outcome]:
        return self.storage.store(triggers)

    def count(self) -> None:
        self.counter.count_all()

    def record(self, *triggers: Trigger, seconds: float = 15.0) -> list[Outcome]:
        """Return what became of each trigger, once it is counted."""
        answers = self.store(*triggers)
        ids = [build_trigger_id(one.account_id, one.kind, one.event_id) for one in triggers]
        query = {"_id": {"$in": ids}, "outcome": {"$exists": True}}

        def are_counted() -> bool:
            self.count()
            return self._triggers.count_documents(query) == len(set(ids))

        wait_until(are_counted, seconds=seconds, what=lambda: f"counted: {ids}")
        found = {one["_id"]: one["outcome"] for one in self._triggers.find(query)}
        return [
            Outcome(found[one]) if answer is Outcome.STORED else answer
            for one, answer in zip(ids, answers, strict=True)
        ]

    def close(self) -> None:
        self.storage.close()
        self.counter.leave()
