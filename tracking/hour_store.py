"""Hour documents beside those of the runs: what became of steps, and what an account ignored.

In `automation_hours`, a collection of their own: no flush, fold or rebuild ever meets them, so that
workers and flushes cannot conflict. Kept as long as the other hours (`tracking.indexes`).

    "<automationId>:o<hour>"        {automationId, hour, o: {<step>: {<state>: n}, completed: n}}
    "account:<accountId>:h<hour>"   {accountId, hour, ignored: {<reason>: n}, redelivered: n}
"""

from collections.abc import Collection, Mapping, Sequence
from datetime import datetime, timedelta
from functools import partial
from typing import Any

import msgspec
import pymongo
from pymongo import UpdateOne, WriteConcern
from pymongo.client_session import ClientSession
from pymongo.database import Database
from pymongo.errors import PyMongoError

from tracking.exceptions import TrackingUnavailable
from tracking.mongo.transactions import run_in_transaction
from tracking.outcomes import OutcomePlan, StepOutcome, flatten_counts, plan_outcomes
from tracking.rollups import hour_of, start_of_hour

Document = dict[str, Any]

_BATCH = 500
# Best effort: worth neither a wait for the journal nor a second's patience.
_QUICK = WriteConcern(w=1, j=False)


class AccountHour(msgspec.Struct):
    """What an account had in one hour that became no trigger: ignored by reason, and known."""

    ignored: dict[str, int]
    redelivered: int = 0


class HourStore:
    """Reads and writes of `automation_hours`. Every method raises TrackingUnavailable."""

    def __init__(self, database: Database[Document]) -> None:
        self._client = database.client
        self._hours = database["automation_hours"]
        self._runs = database["automation_runs"]

    def record_outcomes(self, outcomes: Sequence[StepOutcome], *, seconds: float) -> None:
        """Store reports on their runs and in the hours of those, exactly once."""
        for start in range(0, len(outcomes), _BATCH):
            batch = outcomes[start : start + _BATCH]
            try:
                run_in_transaction(self._client, partial(self._record, batch), seconds=seconds)
            except PyMongoError as error:
                raise _unavailable(error) from error

    def _record(self, outcomes: Sequence[StepOutcome], session: ClientSession) -> None:
        ids = list({outcome.run_id for outcome in outcomes})
        fields = {"automationId": 1, "createdAt": 1, "steps": 1, "completedAt": 1}
        found = self._runs.find({"_id": {"$in": ids}}, fields, session=session)
        plan = plan_outcomes(outcomes, {run["_id"]: run for run in found})
        if plan.runs:
            self._write(plan, session)

    def _write(self, plan: OutcomePlan, session: ClientSession) -> None:
        runs = [UpdateOne({"_id": key}, {"$set": changes}) for key, changes in plan.runs.items()]
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

    def summarize_outcomes(
        self, automation_ids: Collection[str], *, since: datetime, until: datetime, seconds: float
    ) -> dict[str, dict[str, int]]:
        """Return each automation's counts over the hours that overlap [since, until)."""
        first, last = hour_of(since), hour_of(until - timedelta(milliseconds=1))
        sums: dict[str, dict[str, int]] = {automation_id: {} for automation_id in automation_ids}
        if not sums or last < first:
            return sums
        # A range of ids each: the number of an hour has six digits until the year 2084.
        ranges = [
            {"_id": {"$gte": build_outcome_id(one, first), "$lte": build_outcome_id(one, last)}}
            for one in sums
        ]
        try:
            with pymongo.timeout(seconds):
                for document in self._hours.find({"$or": ranges}, batch_size=1000):
                    counts = sums[document["automationId"]]
                    for name, count in flatten_counts(document.get("o", {})).items():
                        counts[name] = counts.get(name, 0) + count
        except PyMongoError as error:
            raise _unavailable(error) from error
        return sums

    def add_account_hours(
        self, hours: Mapping[tuple[str, int], AccountHour], *, seconds: float
    ) -> None:
        """Add to the hours of accounts; whoever adds again after a lost answer adds twice."""
        writes = []
        for (account_id, hour), counts in hours.items():
            increments = {f"ignored.{reason}": n for reason, n in counts.ignored.items()}
            if counts.redelivered:
                increments["redelivered"] = counts.redelivered
            writes.append(
                UpdateOne(
                    {"_id": build_account_hour_id(account_id, hour)},
                    {
                        "$inc": increments,
                        "$setOnInsert": {"accountId": account_id, "hour": start_of_hour(hour)},
                    },
                    upsert=True,
                )
            )
        if not writes:
            return
        try:
            with pymongo.timeout(seconds):
                self._hours.with_options(write_concern=_QUICK).bulk_write(writes, ordered=False)
        except PyMongoError as error:
            raise _unavailable(error) from error

    def summarize_account(
        self, account_id: str, *, since: datetime, until: datetime, seconds: float
    ) -> AccountHour:
        """Return the sum of an account's hours that overlap [since, until)."""
        first, last = hour_of(since), hour_of(until - timedelta(milliseconds=1))
        ids = {
            "$gte": build_account_hour_id(account_id, first),
            "$lte": build_account_hour_id(account_id, last),
        }
        total = AccountHour({})
        try:
            with pymongo.timeout(seconds):
                for document in self._hours.find({"_id": ids}, batch_size=1000):
                    total.redelivered += document.get("redelivered", 0)
                    for reason, count in document.get("ignored", {}).items():
                        total.ignored[reason] = total.ignored.get(reason, 0) + count
        except PyMongoError as error:
            raise _unavailable(error) from error
        return total


def build_outcome_id(automation_id: str, hour: int) -> str:
    """Return the `_id` of an automation's outcomes in an hour: that of the runs, not the steps."""
    return f"{automation_id}:o{hour}"


def build_account_hour_id(account_id: str, hour: int) -> str:
    """Return the `_id` of what an account ignored in an hour."""
    return f"account:{account_id}:h{hour}"


def _unavailable(error: PyMongoError) -> TrackingUnavailable:
    return TrackingUnavailable(f"MongoDB: {type(error).__name__}")
