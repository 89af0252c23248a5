"""The state machine of counting: what may happen in a history, and what must be true after it."""

import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from tests.support.histories import (
    AUTOMATIONS,
    JUMPS,
    PEOPLE,
    STEPS,
    Delivery,
    Fault,
    batches,
    earlier_runs,
    faults,
    stored_totals,
)
from tests.support.laboratory import Laboratory, lose_commit_replies
from tests.support.oracle import recount
from tests.support.reference_model import ReferenceModel, Run
from tests.support.triggers import MILLISECOND, T0, WINDOW, make_run, make_trigger
from tests.support.wire import Crash, Document, Process
from tracking.clock import truncate_to_milliseconds
from tracking.counting.partitions import retry_stuck
from tracking.counting.switch import SwitchState, write_switch
from tracking.ids import parse_trigger_id
from tracking.maintenance.backfill import Backfill
from tracking.queries.stats import StatsStore
from tracking.runs import Outcome, Trigger

# Nothing arrives later: after seven days an event may be forgotten (I3).
LATEST = timedelta(days=6)
RETENTION = timedelta(days=90)
LONG_AGO = datetime(1970, 1, 1, tzinfo=UTC)
KEYS = {str(key): key for key in AUTOMATIONS}
WAITING = {"partition": {"$exists": True}}
processes = st.sampled_from([0, 0, 0, 1, 1, 2])


class Counting(RuleBasedStateMachine):
    """Histories of up to three processes, and what must be true after each step."""

    def __init__(self, lab: Laboratory) -> None:
        super().__init__()
        self.lab = lab
        self.db = lab.db
        lab.clear()
        self.model = ReferenceModel(WINDOW)
        self.processes = [self._start() for _ in range(3)]
        self.dead: list[Process] = []  # whose leases have not run out yet
        self.events = 0
        self.sent: dict[str, list[Trigger]] = {}  # all forms in which an event was sent
        self.acknowledged: set[str] = set()
        self.decided: dict[str, str] = {}

    def _start(self) -> Process:
        process = self.lab.start_process()
        process.wire.on_commit = self._note_commit
        return process

    @initialize(runs=earlier_runs, totals=stored_totals)
    def an_older_product_was_here(self, runs: Any, totals: Any) -> None:
        for key, total in zip(AUTOMATIONS, totals, strict=False):
            fields = {} if total is None else {"totalRuns": total, "lastRunAt": None}
            self.db["automations"].insert_one({"_id": key, **fields})
            self.model.stored_totals[str(key)] = total or 0
        for automation, person, quarters, ms in runs:
            at = T0 - quarters * WINDOW / 4 - ms * MILLISECOND
            run = Run(str(AUTOMATIONS[automation]), PEOPLE[person], at)
            self.model.runs.append(run)
            self.db["automation_runs"].insert_one(
                make_run(run.automation, run.at, userId=run.person)
            )

    # -- rules: the more often something is drawn, the more of it there is

    @rule(process=processes, batch=batches, wait=st.sampled_from(STEPS))
    def store(self, process: int, batch: list[Delivery], wait: timedelta) -> None:
        self.lab.now += wait
        self._store(self.processes[process], batch)

    @rule(process=processes, batch=batches, is_after_reply=st.booleans())
    def store_and_die(self, process: int, batch: list[Delivery], is_after_reply: bool) -> None:
        fault = Fault("crash", ("insert", "automation_triggers"), is_after_reply, [])
        with self._struck(self.processes[process], fault):
            self._store(self.processes[process], batch)

    @rule(process=processes, batch=batches, wait=st.sampled_from(STEPS))
    def store_and_count(self, process: int, batch: list[Delivery], wait: timedelta) -> None:
        self.lab.now += wait
        self._store(self.processes[process], batch)
        self.processes[process].count()

    @rule(process=processes)
    def count(self, process: int) -> None:
        self.processes[process].count()

    @rule(process=processes, fault=faults)
    def count_and(self, process: int, fault: Fault) -> None:
        one = self.processes[process]
        with self._struck(one, fault):
            one.count()

    @rule(process=processes, batch=batches, fault=faults)
    def store_and_count_and(self, process: int, batch: list[Delivery], fault: Fault) -> None:
        one = self.processes[process]
        self._store(one, batch)
        with self._struck(one, fault):
            one.count()

    @rule(process=processes)
    def stop(self, process: int) -> None:
        """A clean stop, and a new process in its place."""
        self.processes[process].counter.leave()
        self.processes[process] = self._start()

    @rule(process=processes, wait=st.sampled_from(JUMPS), fault=st.none() | faults)
    def fold(self, process: int, wait: timedelta, fault: Fault | None) -> None:
        self.lab.now += wait
        self._replace_dead()
        one = self.processes[process]
        with self._struck(one, fault):
            one.folder.fold_all(now=self.lab.now)

    @rule(state=st.sampled_from(SwitchState))
    def switch(self, state: SwitchState) -> None:
        write_switch(self.db, "tracking", state, now=self.lab.now)

    @rule(back=st.integers(0, 5))
    def poison(self, back: int) -> None:
        """A trigger that cannot be read: its automation waits, all others go on."""
        waiting = list(self.db["automation_triggers"].find(WAITING, {"_id": 1}).limit(6))
        if waiting:
            one = {"_id": waiting[back % len(waiting)]["_id"]}
            self.db["automation_triggers"].update_one(one, {"$rename": {"userId": "hidden"}})

    @rule()
    def heal(self) -> None:
        self.db["automation_triggers"].update_many({}, {"$rename": {"hidden": "userId"}})
        retry_stuck(self.db, now=LONG_AGO)

    @rule(process=processes, is_recount=st.booleans(), fault=st.none() | faults)
    def add_run_fields(self, process: int, is_recount: bool, fault: Fault | None) -> None:
        self._replace_dead()
        one = self.processes[process]
        with self._struck(one, fault):
            self._backfill(one, is_recount=is_recount)

    @rule(process=processes, is_dead=st.booleans(), is_back=st.booleans())
    def leases_run_out(self, process: int, is_dead: bool, is_back: bool) -> None:
        """Of whoever died; or a process stands still for so long that it is taken for dead."""
        if is_dead:
            return self._expire_dead()
        self._expire([self.processes[process]])
        self.processes[process - 1].count()
        if is_back:
            self.processes[process].count()
        return None

    @precondition(lambda self: self.model.runs)
    @rule(back=st.integers(0, 5), days=st.sampled_from([1, 7]), ms=st.sampled_from([-1, 0, 0.5, 1]))
    def read_at_an_edge(self, back: int, days: int, ms: float) -> None:
        """A window that starts exactly at a run, or half a millisecond beside it (I8)."""
        run = self.model.runs[-1 - back % len(self.model.runs)]
        self._read(run.at + timedelta(days=days) + ms * MILLISECOND)

    @invariant()
    def nothing_is_lost_and_windows_are_exact(self) -> None:
        stored = {parse_trigger_id(one["_id"])[2]: one
                  for one in self.db["automation_triggers"].find()}  # fmt: skip
        assert self.acknowledged <= stored.keys(), "I5: acknowledged and lost"
        for event, one in stored.items():
            if "outcome" in one:
                assert one["outcome"] == self.decided.get(event), f"{event} is marked as {one}"
        self._read(self.lab.now)

    def teardown(self) -> None:
        if sys.exc_info()[0] is not None:
            return  # a step has failed: its own error is the one to show
        self._settle()
        self.everything_is_as_in_the_model()
        one = self.processes[0]
        self._backfill(one, is_recount=True)
        self.everything_is_as_in_the_model()
        one.folder.fold_all(now=self.lab.now)
        self.everything_is_as_in_the_model()

    def _settle(self) -> None:
        """Let every lease of a dead process run out, mend what was broken, and count."""
        self._expire_dead()
        write_switch(self.db, "tracking", SwitchState.ON, now=self.lab.now)
        self.heal()
        for _ in range(20):
            for one in self.processes:
                one.count()
            if not self.db["automation_triggers"].count_documents(WAITING):
                break
            self.lab.now += timedelta(minutes=5)  # whatever is stuck is due

    def everything_is_as_in_the_model(self) -> None:
        differences = [
            *recount(self.db, at=self.lab.now),
            *self._compare_triggers(),
            *self._compare_runs(),
            *self._compare_automations(),
        ]
        assert not differences, "\n".join(differences)

    # -- storing

    def _build(self, delivery: Delivery) -> list[Trigger]:
        lab, runs, run = self.lab, self.model.runs, None
        arrived_at = lab.now - delivery.ago
        if delivery.near is not None and runs:
            run = runs[-1 - delivery.near % len(runs)]
            arrived_at = run.at + delivery.distance
        arrived_at = max(arrived_at, lab.now - LATEST)
        lab.now = max(lab.now, arrived_at)
        triggers = []
        for item in delivery.items:
            key = AUTOMATIONS[item.automation]
            self.events += 1
            fields = {"event_id": f"e{self.events}", "user_id": PEOPLE[item.person]}
            if run is not None and item is delivery.items[0]:
                key = KEYS[run.automation]
                fields["user_id"] = run.person
            elif item.again is not None and self.sent:
                names = list(self.sent)
                before = self.sent[names[-1 - item.again % len(names)]][0]
                fields = {"event_id": before.event_id, "user_id": before.user_id}
            trigger = make_trigger(
                automation_key=key,
                automation_id=str(key),
                arrived_at=arrived_at,
                continues="any" if item.is_tap else None,
                **fields,
            )
            triggers.append(trigger)
            self.sent.setdefault(trigger.event_id, []).append(trigger)
        return triggers

    def _store(self, process: Process, batch: Sequence[Delivery]) -> None:
        triggers = [one for delivery in batch for one in self._build(delivery)]
        known = {parse_trigger_id(one["_id"])[2]
                 for one in self.db["automation_triggers"].find({}, {"_id": 1})}  # fmt: skip
        answers = process.store(triggers)
        for trigger, answer in zip(triggers, answers, strict=True):
            is_known = trigger.event_id in known
            expected = Outcome.REDELIVERED if is_known else Outcome.STORED
            assert answer is expected, f"I3: {trigger.event_id} is told as {answer}"
            known.add(trigger.event_id)
        self.acknowledged |= {trigger.event_id for trigger in triggers}

    # -- counting

    def _note_commit(self, marks: Document) -> None:
        """The server committed: from here on it has happened, whoever hears of it."""
        outcomes = dict.fromkeys([*marks["counted"], *marks["jobs"]], "counted")
        outcomes |= {trigger_id: outcome for trigger_id, _, _, outcome, _ in marks["others"]}
        found = self.db["automation_triggers"].find({"_id": {"$in": list(outcomes)}})
        # Of two at the same instant either may be counted.
        for one in sorted(found, key=lambda t: (t["createdAt"], outcomes[t["_id"]] != "counted")):
            event = parse_trigger_id(one["_id"])[2]
            assert event not in self.model.events, f"I1, I6: {event} is counted twice"
            expected = self.model.record(
                event, one["automationId"], one["userId"], one["createdAt"],
                is_tap="continues" in one,
            )  # fmt: skip
            self.decided[event] = outcomes[one["_id"]]
            assert expected == outcomes[one["_id"]], f"I1, I2: {event} is {self.decided[event]}"

    # -- what goes wrong

    @contextmanager
    def _struck(self, process: Process, fault: Fault | None) -> Iterator[None]:
        """Run an operation of `process` with something happening in the middle of it."""
        if fault is None:
            yield
            return
        if fault.kind == "reply":
            with lose_commit_replies(process.client, 1 + fault.is_after_reply):
                yield
            return
        process.wire.arm(
            partial(self._strike, process, fault),
            place=fault.place,
            is_after_reply=fault.is_after_reply,
        )
        try:
            yield
        except Crash:
            if process.wire.error is not None:
                raise process.wire.error from None
            self._mourn(process)
        finally:
            process.wire.disarm()

    def _strike(self, process: Process, fault: Fault) -> None:
        other = self.processes[self.processes.index(process) - 1]
        if fault.kind == "crash":
            process.wire.die()
        elif fault.kind == "fence":
            self._expire([process])
            other.count()
        elif fault.kind == "count":
            other.count()
        elif fault.kind == "store":
            self._store(other, fault.deliveries)
        elif fault.kind == "off":
            write_switch(self.db, "tracking", SwitchState.OFF, now=self.lab.now)
        elif not process.wire.open and not self.dead:
            # These wait for whoever holds a lock, and here nobody could let go of it.
            if fault.kind == "fold":
                other.folder.fold_all(now=self.lab.now)
            else:
                self._backfill(other, is_recount=fault.is_after_reply)

    def _mourn(self, process: Process) -> None:
        """Put another process in the place of one that died; its lease is still running."""
        counters = self.db["tracking_partitions"].find({"session": {"$exists": True}})
        named = {bytes(one["session"]) for one in counters}
        # What no lease names ends by the server's time limit for transactions.
        self.lab.kill_sessions(process.wire.open.keys() - named)
        self.dead.append(process)
        self.processes[self.processes.index(process)] = self._start()

    def _expire(self, processes: Sequence[Process]) -> None:
        self._expire_leases({"$in": [one.counter._partitions.counter_id for one in processes]})

    def _expire_dead(self) -> None:
        # A process may have died between its registration and the reply.
        if self.dead:
            alive = [one.counter._partitions.counter_id for one in self.processes]
            self._expire_leases({"$nin": alive})
        self.dead = []

    def _expire_leases(self, ids: Document) -> None:
        query = {"_id": {"$type": "string", **ids}}
        self.db["tracking_partitions"].update_many(query, {"$set": {"renewedAt": LONG_AGO}})

    def _replace_dead(self) -> None:
        self._expire_dead()
        self.processes[0].count()

    def _backfill(self, process: Process, *, is_recount: bool) -> None:
        backfill = Backfill(process.database, now=self.lab.now, retention=RETENTION)
        for batch in backfill.list_batches(200):
            backfill.run_batch(batch, recount=is_recount)

    # -- comparing

    def _compare_triggers(self) -> Iterator[str]:
        for one in self.db["automation_triggers"].find():
            event = parse_trigger_id(one["_id"])[2]
            forms = [(t.automation_id, t.user_id, t.arrived_at) for t in self.sent[event]]
            if (one["automationId"], one["userId"], one["createdAt"]) not in forms:
                yield f"I3: {event} is {one}"
            _, decided = self.model.events.get(event, (None, "undecided"))
            if one.get("outcome") != decided:
                yield f"I5: {event} is {one.get('outcome')}, not {decided}"

    def _compare_runs(self) -> Iterator[str]:
        found = Counter(
            Run(one["automationId"], one["userId"], one["createdAt"], one.get("eventId"))
            for one in self.db["automation_runs"].find()
        )
        expected = Counter(self.model.runs)
        yield from (f"I1, I3: {run} should not be" for run in found - expected)
        yield from (f"I5, I6: {run} is lost" for run in expected - found)

    def _compare_automations(self) -> Iterator[str]:
        bases = {
            one["automationId"]: one
            for one in self.db["automation_run_stats"].find({"base": {"$exists": True}})
        }
        duplicates: Counter[str] = Counter()
        for stats in self.db["automation_run_stats"].find():
            hours = stats.get("h", {}).values() if "base" in stats else [stats]
            for hour in hours:
                duplicates[stats["automationId"]] += sum(hour.get("d", {}).values())
        told = Counter(self.model.events.values())
        for name, base in bases.items():
            found = base["runs"], base["lastRunAt"]
            expected = self.model.count_total(name), self.model.find_last_run_at(name)
            if found != expected:
                yield f"I4: {name} has {found}, not {expected}"
            if duplicates[name] != told[name, "duplicate"]:
                yield f"{name} has {duplicates[name]} duplicates, not {told[name, 'duplicate']}"

    def _read(self, at: datetime) -> None:
        """Compare the statistics with a count of the runs at the same instant (I8)."""
        at = truncate_to_milliseconds(at)
        documents = [{"_id": key} for key in AUTOMATIONS]
        found = StatsStore(self.db).summarize(documents, at=at, wait_seconds=0)
        waiting = self.db["automation_triggers"].count_documents(
            WAITING | {"createdAt": {"$lte": at}}
        )
        assert found.pending == waiting, f"I5: {found.pending} are pending, not {waiting}"
        for name, shown in found.by_automation.items():
            for days, count in ((1, shown.last_24_hours), (7, shown.last_7_days)):
                expected = self.model.count_since(name, at - timedelta(days=days))
                assert count == expected, f"I8: {name} shows {count} in {days} days, not {expected}"
