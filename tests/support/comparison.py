"""The documents of a database beside the reference model: every difference as one sentence."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import pairwise
from typing import Any

from pymongo.database import Database

from tests.support.reference_model import ReferenceModel, Run
from tests.support.triggers import T0
from tracking.ids import parse_trigger_id
from tracking.maintenance.drift_store import DriftStore
from tracking.rollups.hours import hour_of

Document = dict[str, Any]
Minutes = Counter[tuple[int, int]]

# At the least: an event may be known for longer.
TRIGGER_RETENTION = timedelta(days=7)
RETENTION = timedelta(days=90)


@dataclass
class Comparison:
    """What the database should hold, for the few things that the model does not know.

    `stale`: automations whose copy may be behind, because a writer died or failed before its merge.
    `baseless`: automations that may have been counted before their base could be taken.
    `expired_at`: when the TTL indexes last took what was too old for them.
    """

    db: Database[Document]
    model: ReferenceModel
    stale: set[str]
    baseless: set[str]
    expired_at: datetime | None = None
    now: datetime = T0

    def list_differences(self) -> list[str]:
        """Compare everything."""
        self._runs = list(self.db["automation_runs"].find())
        self._stats = list(self.db["automation_run_stats"].find())
        return [
            *self._compare_triggers(),
            *self._compare_runs(),
            *self._compare_contacts(),
            *self._compare_totals(),
            *self._compare_rollups(),
            *self._compare_drift(),
        ]

    def _is_kept(self, at: datetime, retention: timedelta) -> bool:
        return self.expired_at is None or at >= self.expired_at - retention

    def _compare_triggers(self) -> Iterator[str]:
        runs = {run["_id"]: run for run in self._runs}
        stored = {
            parse_trigger_id(one["_id"])[2]: one for one in self.db["automation_triggers"].find()
        }
        for event in stored.keys() - self.model.events.keys():
            yield f"I3: {event} should not be stored"
        for event, wanted in self.model.events.items():
            one = stored.get(event)
            if one is None:
                if self._is_kept(wanted.at, TRIGGER_RETENTION):
                    yield f"I3, I5: {event} is lost"
                continue
            found = (one["automationId"], one["userId"], one["createdAt"], one["outcome"])
            if found != (wanted.automation, wanted.person, wanted.at, wanted.outcome):
                yield f"I1, I2: {event} is {found}, not {wanted}"
            if wanted.run is None:
                continue
            run = runs.get(one["runId"])
            pair = (one["automationId"], one["userId"])
            if run is None:
                if self._is_kept(wanted.run.at, RETENTION):
                    yield f"I3: the run of {event} is not there"
            elif (run["automationId"], run["userId"]) != pair:
                yield f"I3: {event} names a run of another pair"
            elif wanted.outcome == "counted" and run["createdAt"] != wanted.at:
                yield f"I3: {event} names the run at {run['createdAt']}"
            # A replay from long before its pair's newest run is a duplicate by the rule alone.
            elif one["createdAt"] > run["createdAt"] + self.model.window:
                yield f"I2: {event} is a duplicate of nothing"

    def _compare_runs(self) -> Iterator[str]:
        found = Counter(
            Run(one["automationId"], one["userId"], one["createdAt"], one.get("eventId"))
            for one in self._runs
        )
        expected = Counter(run for run in self.model.runs if self._is_kept(run.at, RETENTION))
        for run in found - expected:
            yield f"I1, I3: {run} should not be"
        for run in expected - found:
            yield f"I5, I6: {run} is lost"
        pairs = defaultdict(list)
        for run in found.elements():
            pairs[run.automation, run.person].append((run.at, run.event is not None))
        for pair, times in pairs.items():
            for (earlier, _), (later, is_ours) in pairwise(sorted(times)):
                if is_ours and later - earlier <= self.model.window:
                    yield f"I1: {pair} has runs at {earlier} and {later}"

    def _compare_contacts(self) -> Iterator[str]:
        for contact in self.db["automation_contacts"].find():
            pair = contact["automationId"], contact["userId"]
            newest = self.model.find_newest(*pair)
            if newest is None or contact["lastRunAt"] != newest.at:
                yield f"I1: the contact of {pair} ran at {contact['lastRunAt']}, not {newest}"
            ours = [run for run in self.model.list_runs(pair[0]) if run.event is not None]
            counted = sum(run.person == pair[1] for run in ours)
            if self.expired_at is None and contact["runs"] - contact.get("earlier", 0) != counted:
                yield f"I1: the contact of {pair} has {contact['runs']} runs, not {counted}"

    def _compare_totals(self) -> Iterator[str]:
        automations = {str(one["_id"]): one for one in self.db["automations"].find()}
        totals: Counter[str] = Counter()
        newest: dict[str, datetime] = {}
        bases = {}
        for one in self._stats:
            name = one["automationId"]
            totals[name] += one.get("runs", 0)
            if one.get("lastRunAt"):
                newest[name] = max(one["lastRunAt"], newest.get(name, one["lastRunAt"]))
            if one["_id"] == f"{name}:b":
                bases[name] = one
        counted = {run.automation for run in self.model.runs if run.event is not None}
        for name in counted - bases.keys() - self.baseless:
            yield f"I4: {name} has runs and no base"
        for name in bases:
            total, last = self.model.count_total(name), self.model.find_last_run_at(name)
            if (totals[name], newest.get(name)) != (total, last):
                yield f"I4: {name} has {totals[name]} at {newest.get(name)}, not {total} at {last}"
            ours = sum(run.event is not None for run in self.model.list_runs(name))
            earlier = len(self.model.list_runs(name)) - ours
            if bases[name]["base"] != total - ours - earlier:
                yield f"I4: the base of {name} is {bases[name]['base']}"
            copy = automations.get(name)
            if copy is None:
                continue
            shown = copy.get("totalRuns") or 0, copy.get("lastRunAt")
            is_right = shown == (total, last)
            if not (is_right or (name in self.stale and shown[0] <= total)):
                yield f"I4, I5: the copy of {name} is {shown}, not {total} at {last}"

    def _compare_rollups(self) -> Iterator[str]:
        minutes: dict[str, Minutes] = defaultdict(Counter)
        duplicates: dict[str, Minutes] = defaultdict(Counter)
        for one in self._stats:
            name = one["automationId"]
            hours = {hour_of(one["hour"]): one} if "hour" in one else one.get("h", {})
            if "stripe" not in one and "hour" not in one:
                continue
            for hour, parts in hours.items():
                if parts.get("n", 0) != sum(parts.get("m", {}).values()):
                    yield f"I8: hour {hour} of {one['_id']} is not the sum of its minutes"
                for key, target in (("m", minutes), ("d", duplicates)):
                    for number, count in parts.get(key, {}).items():
                        target[name][int(hour), int(number)] += count
        expected: dict[str, Minutes] = defaultdict(Counter)
        for event in self.model.events.values():
            if event.outcome == "duplicate":
                expected[event.automation][hour_of(event.at), event.at.minute // 15] += 1
        for name in expected.keys() | duplicates.keys():
            if duplicates[name] != expected[name]:
                yield f"Rollups: {name} has {duplicates[name]} duplicates, not {expected[name]}"
        for base in self._stats:
            if base["_id"] == f"{base['automationId']}:b":
                yield from self._compare_minutes(base, minutes[base["automationId"]])

    def _compare_drift(self) -> Iterator[str]:
        """What `verify_run_tracking` compares by itself, without a model, must hold as well."""
        store = DriftStore(self.db, now=self.now)
        since = store.find_first_hour(RETENTION)
        for name in {one["automationId"] for one in self._stats}:
            with self.db.client.start_session(snapshot=True) as session:
                _, drift = store.read_drift(name, None, since=since, session=session)
            if not drift.is_none:
                yield f"I4, I8: the counts of {name} drift: {drift}"

    def _compare_minutes(self, base: Document, found: Minutes) -> Iterator[str]:
        """An older product's runs are rolled up when `add_run_fields` was through, not before."""
        runs = self.model.list_runs(base["automationId"])
        ours = Counter((hour_of(r.at), r.at.minute) for r in runs if r.event is not None)
        everything = Counter((hour_of(run.at), run.at.minute) for run in runs)
        for minute in found.keys() | everything.keys():
            allowed = {everything[minute]}
            if base["rollupsSince"] is not None or self.expired_at is not None:
                allowed.add(ours[minute])
            if found[minute] not in allowed:
                yield f"I8: minute {minute} is rolled up as {found[minute]}, not {allowed}"
