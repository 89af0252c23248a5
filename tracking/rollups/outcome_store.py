"""Hour documents beside those of the runs: what became of steps.

In `automation_hours`, a collection of their own, so that workers and counters never conflict. Kept
as long as the other hours (`tracking/mongo/indexes.py`).

    "<automationId>:o<hour>"        {automationId, hour, o: {<step>: {<state>: n}, completed: n}}

Those of accounts (`tracking/rollups/account_hours.py`) lie beside them.
"""

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

from pymongo import UpdateOne
from pymongo.client_session import ClientSession
from pymongo.database import Database
from pymongo.errors import PyMongoError

from tracking.exceptions import TrackingUnavailable
from tracking.mongo.transactions import run_in_transaction
from tracking.rollups.hours import start_of_hour
from tracking.rollups.outcomes import OutcomePlan, StepOutcome, plan_outcomes

Document = dict[str, Any]

_BATCH = 500


class OutcomeStore:
    """Writes of steps' outcomes."""

    def __init__(self, database: Database[Document]) -> None:
        self._client = database.client
        self._hours = database["automation_hours"]
        self._runs = database["automation_runs"]

    def record_outcomes(self, outcomes: Sequence[StepOutcome], *, seconds: float) -> None:
        """Store reports on their runs and in the hours of those, exactly once.

        Raises TrackingUnavailable.
        """
        for start in range(0, len(outcomes), _BATCH):
            batch = outcomes[start : start + _BATCH]
            try:
                run_in_transaction(self._client, partial(self._record, batch), seconds=seconds)
            except PyMongoError as error:
                raise TrackingUnavailable(f"MongoDB: {type(error).__name__}") from error

    def _record(self, outcomes: Sequence[StepOutcome], session: ClientSession) -> None:
        ids = list({outcome.run_id for outcome in outcomes})
        fields = {"automationId": 1, "createdAt": 1, "steps": 1, "completedAt": 1}
        query = {
            "_id": {"$in": ids},
            "automationId": {"$in": list({outcome.automation_id for outcome in outcomes})},
        }  # fmt: skip
        found = {run["_id"]: run for run in self._runs.find(query, fields, session=session)}
        plan = plan_outcomes(outcomes, found)
        if plan.runs:
            self._write(plan, found, session)

    def _write(
        self, plan: OutcomePlan, found: Mapping[Any, Document], session: ClientSession
    ) -> None:
        runs = [
            UpdateOne({"_id": key, "automationId": found[key]["automationId"]}, {"$set": changes})
            for key, changes in plan.runs.items()
        ]
        self._runs.bulk_write(runs, ordered=False, session=session)
        hours = [
            UpdateOne(
                {"_id": build_outcome_id(automation_id, hour)},
                {
                    "$inc": {f"o.{name}": count for name, count in counts.items()},
                    "$setOnInsert": {"automationId": automation_id, "hour": start_of_hour(hour)},
                },
                upsert=True,
            )
            for (automation_id, hour), counts in sorted(plan.hours.items())
        ]
        if hours:
            self._hours.bulk_write(hours, session=session)


def build_outcome_id(automation_id: str, hour: int) -> str:
    """Return the `_id` of an automation's outcomes in an hour: that of the runs, not the steps."""
    return f"{automation_id}:o{hour}"
