"""The route that ran before on the same database: find, insert, update, each on its own.

It names automations by the text of their `_id`, so that its increment never meets an ObjectId.
"""

from datetime import datetime, timedelta
from typing import Any

from pymongo.database import Database

Document = dict[str, Any]

HOUR = timedelta(hours=1)


class OldProduct:
    """Its counting, on a clock that is given; one event after the other, without its races."""

    def __init__(self, database: Database[Document]) -> None:
        self._runs = database["automation_runs"]
        self._automations = database["automations"]

    def track(self, automation_id: str, user_id: str, *, at: datetime, dies: bool = False) -> bool:
        """Count a run unless it finds one of the last hour; return whether it did.

        One that `dies` comes as far as the insert.
        """
        pair = {"automationId": automation_id, "userId": user_id}
        if self._runs.find_one({**pair, "createdAt": {"$gte": at - HOUR}}):
            return False
        self._runs.insert_one({
            **pair,
            "workspaceId": "w1",
            "triggerType": "comment_reply",
            "metadata": {"messageText": "LINK"},
            "createdAt": at,
        })  # fmt: skip
        if not dies:
            self._automations.update_one(
                {"_id": automation_id},
                {"$inc": {"totalRuns": 1}, "$set": {"lastRunAt": at, "updatedAt": at}},
            )
        return True

    def list_stats(self, *, at: datetime) -> dict[str, tuple[int, int, int]]:
        return {
            str(one["_id"]): (
                one.get("totalRuns") or 0,
                self._count(str(one["_id"]), at - timedelta(hours=24)),
                self._count(str(one["_id"]), at - timedelta(days=7)),
            )
            for one in self._automations.find()
        }

    def _count(self, automation_id: str, since: datetime) -> int:
        query = {"automationId": automation_id, "createdAt": {"$gte": since}}
        return self._runs.count_documents(query)
