"""The floor: one writer that only inserts run documents, as fast as this mongod takes them.

No HTTP, no signature, no deduplication, no totals: what nobody who stores the runs can be under.
"""

import time
from datetime import UTC, datetime
from typing import Any

from bson import ObjectId
from pymongo.database import Database

from tests.benchmarks.workload import PER_ACCOUNT, pick_text

BATCH = 1000
NAME = f"floor: insert_many of {BATCH} runs"


class Floor:
    """Inserts runs of the size that ours have, majority and journal, batch after batch."""

    def __init__(
        self, database: Database[dict[str, Any]], automations: list[dict[str, Any]]
    ) -> None:
        self._runs = database["automation_runs"]
        self._automations = automations
        self._number = 0
        self.inserted = 0

    def run(self, *, seconds: float, batches: int) -> tuple[int, float]:
        """Insert up to `batches`, built before the clock starts; return (runs, seconds)."""
        ready = [self._build_batch() for _ in range(batches)]
        started = time.perf_counter()
        done = 0
        for batch in ready:
            self._runs.insert_many(batch)
            done += len(batch)
            if time.perf_counter() - started >= seconds:
                break
        self.inserted += done
        return done, time.perf_counter() - started

    def _build_batch(self) -> list[dict[str, Any]]:
        now = datetime.now(UTC).replace(microsecond=0)
        batch = []
        for _ in range(BATCH):
            self._number += 1
            number = self._number
            # In entries of 100 events of one account, as the deliveries have them.
            account = number // 100 * PER_ACCOUNT + number % PER_ACCOUNT
            automation = self._automations[account % len(self._automations)]
            batch.append({
                "_id": ObjectId(),
                "automationId": automation["_id"],
                "workspaceId": automation["workspaceId"],
                "triggerType": "opening_dm",
                "userId": f"1784{number:013d}",
                "metadata": {
                    "messageText": pick_text(number, word="guide7"),
                    "postId": f"1790{number % 97:013d}",
                },
                "createdAt": now,
                "eventId": f"1785{number:013d}",
                "occurredAt": now,
            })  # fmt: skip
        return batch
