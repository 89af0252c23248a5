"""Counting later what was stored as untracked (I7).

Untracked triggers are replayed in the order of their arrival, with their original arrival. One is
counted if no run of its pair lies within the window on either side. After `tracking off` no newer
run exists until all are replayed, so that the result equals never having been off; after a failure
newer runs may exist, and the rule keeps two runs of a pair apart (I1).

What was sent meanwhile had no run to tell of it: it is marked to be told again, and the taps that
continued an untracked trigger get its run.
"""

from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
from pymongo import UpdateOne
from pymongo.client_session import ClientSession
from pymongo.database import Database

from tracking.counting.switch import SwitchState, touch_all_stripes, write_switch
from tracking.counting.writes import FlushStore, generate_run_ids
from tracking.ids import build_contact_id, parse_trigger_id
from tracking.mongo.transactions import run_in_transaction
from tracking.rollups.totals import TotalStore
from tracking.runs import Outcome, Planned, Trigger, plan_replay

Document = dict[str, Any]

BATCH = 500
# Shorter than the webhook's deadline: who is held still gets its answer.
_HOLD = timedelta(seconds=2)
# The stripe that the first of the flushing processes holds, too: a conflict costs one retry.
_STRIPE = 0
# A job that waits to be sent ends within 14 days of its arrival.
_RETENTION = timedelta(days=14)
_LONG_AGO = datetime(1970, 1, 1, tzinfo=UTC)
# The time is what makes MongoDB consider the index: by the outcome alone it scans all triggers.
UNTRACKED = {"outcome": Outcome.UNTRACKED.value, "createdAt": {"$gt": _LONG_AGO}}


class ReplayReport(msgspec.Struct):
    """How many untracked triggers were counted, and how many turned out to be duplicates."""

    counted: int = 0
    duplicates: int = 0

    def add(self, other: "ReplayReport") -> None:
        """Add another report's figures to this one."""
        self.counted += other.counted
        self.duplicates += other.duplicates

    @property
    def replayed(self) -> int:
        """All of them."""
        return self.counted + self.duplicates


class Replayer:
    """Counts untracked triggers. Safe to repeat, to interrupt and to run twice at once."""

    def __init__(self, database: Database[Document], *, window: timedelta) -> None:
        self._database = database
        self._window = window
        self._triggers = database["automation_triggers"]
        self._contacts = database["automation_contacts"]
        self._runs = database["automation_runs"]
        self._store = FlushStore(database)
        self._totals = TotalStore(database)

    def count_untracked(self) -> int:
        """Return how many triggers wait."""
        return self._triggers.count_documents(UNTRACKED)

    def replay_batch(self, *, now: datetime) -> ReplayReport:
        """Replay the oldest untracked triggers; an empty report means that there are none."""
        # In the order of the index; which of two of the same instant is first is no matter.
        found = self._triggers.find(UNTRACKED, {"automationId": 1}).sort("createdAt", 1)
        oldest = list(found.limit(BATCH))
        return self.replay_triggers(oldest, now=now) if oldest else ReplayReport()

    def replay_triggers(self, oldest: Sequence[Document], *, now: datetime) -> ReplayReport:
        """Replay these (`_id`, `automationId`), as far as they are untracked."""
        keys = {
            automation_id: self._totals.find_key(automation_id)
            for automation_id in {document["automationId"] for document in oldest}
        }
        self._totals.ensure_bases(keys, now=now, seconds=600.0)
        ids = [document["_id"] for document in oldest]
        report = run_in_transaction(
            self._database.client, lambda session: self._replay(ids, keys, session), seconds=60.0
        )
        self._totals.merge_totals(keys, now=now)
        return report

    def replay_all(self, *, now: datetime) -> ReplayReport:
        """Replay until no untracked trigger is left."""
        report = ReplayReport()
        while (batch := self.replay_batch(now=now)).replayed:
            report.add(batch)
        return report

    def turn_on(self, *, now: datetime) -> ReplayReport:
        """Catch up and only then count again: the result equals never having been off.

        New triggers are stored as untracked while the old ones are replayed. For the last few,
        flushes are held for a moment; the transaction that ends it conflicts with every flush that
        is still storing another one.
        """
        write_switch(self._database, "tracking", SwitchState.CATCHING_UP, now=now)
        report = ReplayReport()
        while True:
            report.add(self._replay_most(now))
            held_until = datetime.now(UTC) + _HOLD
            write_switch(
                self._database, "tracking", SwitchState.CATCHING_UP, now=now, held_until=held_until
            )
            while datetime.now(UTC) < held_until:
                batch = self.replay_batch(now=now)
                report.add(batch)
                if not batch.replayed and self._try_to_end(now):
                    return report

    def _replay_most(self, now: datetime) -> ReplayReport:
        """Replay until few are left, or traffic brings more than are replayed."""
        report = ReplayReport()
        left, before = self.count_untracked(), None
        while left > BATCH and (before is None or left < before):
            report.add(self.replay_batch(now=now))
            left, before = self.count_untracked(), left
        return report

    def _try_to_end(self, now: datetime) -> bool:
        return run_in_transaction(
            self._database.client,
            lambda session: self._end_catching_up(now, session),
            seconds=60.0,
        )

    def _end_catching_up(self, now: datetime, session: ClientSession) -> bool:
        if self._triggers.find_one(UNTRACKED, {"_id": 1}, session=session) is not None:
            return False
        touch_all_stripes(self._database, session)
        write_switch(self._database, "tracking", SwitchState.ON, now=now, session=session)
        return True

    def _replay(
        self, ids: Sequence[str], keys: dict[str, Any], session: ClientSession
    ) -> ReplayReport:
        query = {"_id": {"$in": list(ids)}, "outcome": Outcome.UNTRACKED.value}
        documents = sorted(
            self._triggers.find(query, session=session),
            key=lambda document: (document["createdAt"], document["_id"]),
        )
        if not documents:
            return ReplayReport()
        triggers = [build_trigger(document, keys) for document in documents]
        planned = plan_replay(
            triggers,
            [document["_id"] for document in documents],
            runs=self._find_runs(triggers, session),
            people=self._find_people(triggers, session),
            window=self._window,
            run_ids=generate_run_ids(),
        )
        told = {document["_id"] for document in documents if document.get("progress")}
        self._write(planned, told, session)
        self._continue({item.trigger_id: item.run_id for item in planned}, session)
        counted = sum(item.outcome is Outcome.COUNTED for item in planned)
        return ReplayReport(counted, len(planned) - counted)

    def _find_runs(
        self, triggers: Sequence[Trigger], session: ClientSession
    ) -> dict[str, list[tuple[datetime, Any]]]:
        """Return (time, id) of every run near one of the triggers, by contact id, oldest first."""
        pairs: dict[str, set[str]] = {}
        for trigger in triggers:
            pairs.setdefault(trigger.automation_id, set()).add(trigger.user_id)
        first = min(trigger.arrived_at for trigger in triggers) - self._window
        last = max(trigger.arrived_at for trigger in triggers) + self._window
        runs: dict[str, list[tuple[datetime, Any]]] = {}
        for automation_id, user_ids in pairs.items():
            query = {
                "automationId": automation_id,
                "userId": {"$in": list(user_ids)},
                "createdAt": {"$gte": first, "$lte": last},
            }
            fields = {"userId": 1, "createdAt": 1}
            for run in self._runs.find(query, fields, session=session).sort("createdAt", 1):
                contact_id = build_contact_id(automation_id, run["userId"])
                runs.setdefault(contact_id, []).append((run["createdAt"], run["_id"]))
        return runs

    def _find_people(self, triggers: Iterable[Trigger], session: ClientSession) -> set[str]:
        ids = {build_contact_id(t.automation_id, t.user_id) for t in triggers}
        cursor = self._contacts.find({"_id": {"$in": list(ids)}}, {"_id": 1}, session=session)
        return {document["_id"] for document in cursor}

    def _continue(self, run_ids: dict[str, Any], session: ClientSession) -> None:
        """Give the triggers that continue these, and those that continue them, their run."""
        while run_ids:
            query = {"continues": {"$in": list(run_ids)}, "runId": None}
            found = list(
                self._triggers.find(query, {"continues": 1, "progress": 1}, session=session)
            )
            run_ids = {document["_id"]: run_ids[document["continues"]] for document in found}
            writes = [
                UpdateOne(
                    {"_id": document["_id"]},
                    {"$set": {"runId": run_ids[document["_id"]]} | _build_report(document)},
                )
                for document in found
            ]
            if writes:
                self._triggers.bulk_write(writes, ordered=False, session=session)

    def _write(self, planned: Sequence[Planned], told: set[str], session: ClientSession) -> None:
        triggers = [
            _build_trigger_write(item, has_progress=item.trigger_id in told) for item in planned
        ]
        contacts = [
            _build_contact_write(item) for item in planned if item.outcome is Outcome.COUNTED
        ]
        self._triggers.bulk_write(triggers, ordered=False, session=session)
        if contacts:
            # Ordered: two runs of one pair touch the same contact.
            self._contacts.bulk_write(contacts, session=session)
        self._store.insert_runs(planned, session)
        self._store.update_live(planned, stripe=_STRIPE, session=session)


def build_trigger(document: Document, keys: dict[str, Any]) -> Trigger:
    """Return the trigger that an untracked document holds."""
    account_id, kind, event_id = parse_trigger_id(document["_id"])
    return Trigger(
        account_id=account_id,
        kind=kind,
        event_id=event_id,
        automation_key=keys[document["automationId"]],
        automation_id=document["automationId"],
        workspace_id=document["workspaceId"],
        trigger_type=document["triggerType"],
        user_id=document["userId"],
        person_unknown=document.get("personUnknown", False),
        arrived_at=document["createdAt"],
        occurred_at=document.get("occurredAt"),
        metadata=document.get("metadata") or {},
        run_id=document.get("runId"),
    )


def _build_report(document: Mapping[str, Any]) -> Document:
    """Return what has a worker tell the run again what became of the steps: it is long due."""
    return {"reportAt": _LONG_AGO} if document.get("progress") else {}


def _build_trigger_write(item: Planned, *, has_progress: bool) -> UpdateOne:
    change = {
        **_build_report({"progress": has_progress}),
        "outcome": item.outcome.value,
        "runId": item.run_id,
        "expireAt": item.trigger.arrived_at + _RETENTION,
    }
    return UpdateOne({"_id": item.trigger_id}, {"$set": change, "$unset": {"metadata": ""}})


def _build_contact_write(item: Planned) -> UpdateOne:
    """A pipeline, because a newer run may be the pair's newest already."""
    trigger = item.trigger
    is_newer = {"$lt": [{"$ifNull": ["$lastRunAt", None]}, trigger.arrived_at]}
    change = {
        "automationId": {"$literal": trigger.automation_id},
        "workspaceId": {"$literal": trigger.workspace_id},
        "userId": {"$literal": trigger.user_id},
        "firstRunAt": {"$min": ["$firstRunAt", trigger.arrived_at]},
        "lastRunId": {"$cond": [is_newer, {"$literal": item.run_id}, "$lastRunId"]},
        "lastRunAt": {"$max": ["$lastRunAt", trigger.arrived_at]},
        "runs": {"$add": [{"$ifNull": ["$runs", 0]}, 1]},
    }
    contact_id = build_contact_id(trigger.automation_id, trigger.user_id)
    return UpdateOne({"_id": contact_id}, [{"$set": change}], upsert=True)
