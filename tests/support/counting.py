"""The state machine of counting: what may happen in a history, and what must be true after it."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any
from unittest import mock

import msgspec
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from pymongo.errors import OperationFailure

from tests.support.comparison import RETENTION, Comparison
from tests.support.histories import (
    AUTOMATIONS,
    DAY,
    JUMPS,
    PEOPLE,
    STEPS,
    Delivery,
    Fault,
    batches,
    crashes,
    earlier_runs,
    faults,
    stored_totals,
)
from tests.support.laboratory import Laboratory, lose_commit_replies
from tests.support.reference_model import ReferenceModel, Run
from tests.support.triggers import MILLISECOND, T0, WINDOW, make_run, make_trigger
from tests.support.wire import Crash, Document, Process
from tracking.clock import truncate_to_milliseconds
from tracking.counting.committer import Ticket
from tracking.counting.switch import SwitchState, read_switch, write_switch
from tracking.ids import parse_trigger_id
from tracking.maintenance.backfill import Backfill
from tracking.maintenance.replay import Replayer
from tracking.queries.stats import StatsStore
from tracking.runs import Outcome, Trigger

# Nothing arrives later: after seven days an event may be forgotten (I3).
LATEST = timedelta(days=6)
# Statistics are read at the present; hours are kept for a day longer than the window.
OLDEST_READ = timedelta(hours=22)
LONG_AGO = datetime(1970, 1, 1, tzinfo=UTC)
FAILURES = {"merge": "merge_totals", "base": "ensure_bases"}
KEYS = {str(key): key for key in AUTOMATIONS}
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
        self.sent: list[Trigger] = []  # what may come again
        self.unacknowledged: list[list[Trigger]] = []
        self.stale: set[str] = set()  # automations whose copy may be behind
        self.baseless: set[str] = set()  # those that may have been counted without a base
        self.expired_at: datetime | None = None
        # None while it is being switched on: then it follows from what is stored.
        self.is_on: bool | None = True

    def _start(self) -> Process:
        process = self.lab.start_process()
        process.wire.on_commit = partial(self._note_commit, process)
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
    def flush(self, process: int, batch: list[Delivery], wait: timedelta) -> None:
        self.lab.now += wait
        self._flush(self.processes[process], [self._build(one) for one in batch], None)

    @rule(process=processes, batch=batches, wait=st.sampled_from(STEPS), fault=faults)
    def flush_and(self, process: int, batch: list[Delivery], wait: timedelta, fault: Fault) -> None:
        self.lab.now += wait
        self._flush(self.processes[process], [self._build(one) for one in batch], fault)

    @rule(process=processes, batch=batches, fault=crashes)
    def flush_and_die(self, process: int, batch: list[Delivery], fault: Fault) -> None:
        self._flush(self.processes[process], [self._build(one) for one in batch], fault)

    @precondition(lambda self: self.unacknowledged)
    @rule(process=processes, wait=st.sampled_from(STEPS))
    def send_again(self, process: int, wait: timedelta) -> None:
        """As Meta does with what was not acknowledged; the arrival is another."""
        self.lab.now += wait
        self._send_again(process)

    @rule(process=processes, wait=st.sampled_from(JUMPS), fault=st.none() | faults)
    def fold(self, process: int, wait: timedelta, fault: Fault | None) -> None:
        self.lab.now += wait
        self._bury_all()
        one = self.processes[process]
        with self._struck(one, fault):
            one.folder.fold_all(now=self.lab.now)

    @precondition(lambda self: self.is_on)
    @rule(process=processes)
    def switch_off(self, process: int) -> None:
        """From the next flush on nothing is counted (I7)."""
        write_switch(
            self.processes[process].database, "tracking", SwitchState.OFF, now=self.lab.now
        )
        self.is_on = False

    @precondition(lambda self: not self.is_on)
    @rule(process=processes, fault=st.none() | faults)
    def switch_on(self, process: int, fault: Fault | None) -> None:
        """Catch up and count again; whoever dies meanwhile has left it off, or on."""
        self._switch_on(self.processes[process], fault)

    @precondition(lambda self: self.is_on and self.model.list_untracked())
    @rule(process=processes, fault=st.none() | faults)
    def replay(self, process: int, fault: Fault | None) -> None:
        """What failures and dead letters have left is counted while others count, too."""
        self._replay(self.processes[process], fault)

    @rule(process=processes, is_recount=st.booleans(), fault=st.none() | faults)
    def add_run_fields(self, process: int, is_recount: bool, fault: Fault | None) -> None:
        self._bury_all()
        one = self.processes[process]
        with self._struck(one, fault):
            self._backfill(one, is_recount=is_recount)

    @rule(process=processes, is_dead=st.booleans(), is_back=st.booleans())
    def leases_run_out(self, process: int, is_dead: bool, is_back: bool) -> None:
        """Who is dead can be buried, by whoever meets what it locked; or a process stands still
        for so long that it is taken for dead, and then goes on.
        """
        if is_dead:
            return self._expire_dead()
        self._expire_leases([self.processes[process]])
        self.processes[process - 1].flusher.lease.reap_expired()
        if is_back:
            self.processes[process].flusher.lease.renew()
        return None

    @precondition(lambda self: self.model.runs)
    @rule(back=st.integers(0, 5), days=st.sampled_from([1, 7]), ms=st.sampled_from([-1, 0, 0.5, 1]))
    def read_at_an_edge(self, back: int, days: int, ms: float) -> None:
        """A window that starts exactly at a run, or half a millisecond beside it (I8)."""
        run = self.model.runs[-1 - back % len(self.model.runs)]
        at = run.at + days * DAY + ms * MILLISECOND
        if at >= self.lab.now - OLDEST_READ:
            self._read(at)

    @precondition(lambda self: len(self.model.runs) > 8 and not self.baseless)
    @rule(days=st.sampled_from([8, 91]))
    def documents_expire(self, days: int) -> None:
        """Long after; whatever Meta still had to send came before."""
        self._settle()
        self.lab.now = self.expired_at = now = self.lab.now + days * DAY
        self.db["automation_triggers"].delete_many({"expireAt": {"$lt": now}})
        self.db["automation_runs"].delete_many({"createdAt": {"$lt": now - RETENTION}})
        self.db["automation_contacts"].delete_many({"lastRunAt": {"$lt": now - RETENTION}})
        self.sent = []
        # Of what is gone before anybody counted it, nobody can know.
        taken = set(self.db["automation_run_stats"].distinct("automationId"))
        self.model.runs = [
            run for run in self.model.runs if run.automation in taken or run.at >= now - RETENTION
        ]

    @invariant()
    def everything_is_as_in_the_model(self) -> None:
        comparison = Comparison(
            self.db,
            self.model,
            self.stale,
            self.baseless,
            expired_at=self.expired_at,
            now=self.lab.now,
        )
        differences = comparison.list_differences()
        assert not differences, "\n".join(differences)
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

    # -- deliveries

    def _build(self, delivery: Delivery) -> list[Trigger]:
        """Return the triggers of a delivery, as they are at its arrival."""
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
                before = self.sent[-1 - item.again % len(self.sent)]
                fields = {"event_id": before.event_id, "user_id": before.user_id}
            trigger = make_trigger(
                automation_key=key,
                automation_id=str(key),
                arrived_at=arrived_at,
                continues="any" if item.is_tap else None,
                is_late=item.is_late,
                **fields,
            )
            triggers.append(trigger)
            self.sent.append(trigger)
        return triggers

    def _flush(
        self,
        process: Process,
        batch: list[list[Trigger]],
        fault: Fault | None,
        *,
        is_locked: bool = False,
    ) -> None:
        triggers = [trigger for one in batch for trigger in one]
        self.stale |= {trigger.automation_id for trigger in triggers}
        self.unacknowledged += batch
        process.in_flight, process.committed = triggers, {}
        tickets = [Ticket(one, time.monotonic() + 60) for one in batch]
        is_merged = fault is None or fault.kind not in {"merge", "base"}
        if fault is not None and fault.kind == "base":
            self.baseless |= {trigger.automation_id for trigger in triggers}
        with self._struck(process, fault):
            process.committer._flush(tickets)
            self._check_answers(
                process, tickets, is_locked=is_locked or bool(self.dead), is_merged=is_merged
            )
        process.in_flight = []
        process.committer._parked.clear()

    def _note_commit(self, process: Process, documents: list[Document]) -> None:
        """The server committed: from here on it has happened, whoever hears of it."""
        for one in documents:
            if "createdAt" not in one:
                event = parse_trigger_id(one["_id"])[2]
                self.stale.add(self.model.events[event].automation)
                assert self.model.replay(event) == one["outcome"], f"I7: {event} is {one}"
        stored = {
            (parse_trigger_id(one["_id"])[2], one["automationId"], one["createdAt"]): one["outcome"]
            for one in documents
            if "createdAt" in one
        }
        # In the order of the flush, whatever the order of its writes was.
        for trigger in process.in_flight:
            event = trigger.event_id
            one = (event, trigger.automation_id, trigger.arrived_at)
            if one in stored and event not in process.committed:
                self.stale.add(trigger.automation_id)
                process.committed[event] = self.model.record(
                    event, trigger.automation_id, trigger.user_id, trigger.arrived_at,
                    is_tap=trigger.continues is not None,
                    is_counting=self._is_counting(process, trigger, stored[one]),
                )  # fmt: skip

    def _is_counting(self, process: Process, trigger: Trigger, outcome: str) -> bool:
        if trigger.is_late or process.is_failing:
            return False
        return outcome != Outcome.UNTRACKED if self.is_on is None else self.is_on

    def _check_answers(
        self, process: Process, tickets: list[Ticket], *, is_locked: bool, is_merged: bool
    ) -> None:
        told = set()
        for ticket in tickets:
            for trigger, answer in zip(ticket.triggers, ticket.answers, strict=True):
                event = trigger.event_id
                if answer is None:
                    assert is_locked, f"I6: nobody holds what {event} needs"
                elif event in process.committed and event not in told:
                    told.add(event)
                    expected = process.committed[event]
                    assert answer == expected, f"I1: {event} is told as {answer}, not {expected}"
                else:
                    assert answer == "redelivered", f"I3: {event} is told as {answer} again"
                    assert event in self.model.events, f"I5: {event} is acknowledged and lost"
            is_acknowledged = all(isinstance(answer, Outcome) for answer in ticket.answers)
            if is_acknowledged:
                self.unacknowledged.remove(ticket.triggers)
                if is_merged:
                    # A tap counts nothing, so there is nothing that a merge would show.
                    self.stale -= {
                        one.automation_id for one in ticket.triggers if not one.continues
                    }

    def _send_again(self, process: int) -> None:
        batch, self.unacknowledged = self.unacknowledged, []
        self._flush(
            self.processes[process],
            [
                [msgspec.structs.replace(one, arrived_at=self.lab.now) for one in part]
                for part in batch
            ],
            None,
        )

    def _settle(self) -> None:
        """Let every lease of a dead process run out, send again what was not acknowledged, and
        count what was not counted.
        """
        self._expire_dead()
        if self.unacknowledged:
            self._send_again(0)
        if not self.is_on:
            self._switch_on(self.processes[0], None)
        self._replay(self.processes[0], None)
        assert not self.unacknowledged, "I6: nobody holds what is still not acknowledged"

    # -- off and on

    def _switch_on(self, process: Process, fault: Fault | None) -> None:
        self._bury_all()
        self.is_on = None
        is_done = False
        with self._struck(process, fault):
            Replayer(process.database, window=WINDOW).turn_on(now=self.lab.now)
            is_done = True
        self.is_on = read_switch(self.db) is SwitchState.ON
        assert self.is_on or not is_done, "I7: it is still off"

    def _replay(self, process: Process, fault: Fault | None) -> None:
        self._bury_all()
        before = self.model.list_untracked()
        is_done = False
        with self._struck(process, fault):
            Replayer(process.database, window=WINDOW).replay_all(now=self.lab.now)
            is_done = True
        if is_done:
            left = set(before) & set(self.model.list_untracked())
            assert not left, f"I7: {left} were left behind"
            self.stale -= {self.model.events[event].automation for event in before}

    # -- what goes wrong

    @contextmanager
    def _struck(self, process: Process, fault: Fault | None) -> Iterator[None]:
        """Run an operation of `process` with something happening in the middle of it."""
        if fault is None:
            yield
            return
        if fault.kind in FAILURES:
            error = OperationFailure("made up", 8)
            totals = process.flusher._totals
            with mock.patch.object(totals, FAILURES[fault.kind], side_effect=error):
                yield
            process.flusher._bases._retry_at.clear()  # a minute later
            return
        if fault.kind == "count":
            process.is_failing = True
            error = OperationFailure("made up", 8)
            store = process.flusher._transaction._store
            with mock.patch.object(store, "insert_runs", side_effect=error):
                yield
            process.is_failing = False
            return
        if fault.kind == "reply":
            with lose_commit_replies(process, 1 + fault.is_after_reply):
                yield
            return
        process.wire.arm(
            lambda: self._strike(process, fault),
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
        is_writing = process.wire.has_written
        if fault.kind == "crash":
            process.wire.die()
        elif fault.kind == "flush" and not process.wire.is_taking_bases:
            batch = [self._build(delivery) for delivery in fault.deliveries]
            self._flush(other, batch, None, is_locked=is_writing)
        elif fault.kind == "bury":
            self._expire_leases([process])
            other.flusher.lease.reap_expired()
        elif not is_writing and not self.dead:
            # These wait for whoever holds a lock, and here nobody could let go of it.
            other.flusher.lease.reap_expired()
            if fault.kind == "fold":
                other.folder.fold_all(now=self.lab.now)
            elif fault.kind == "on":
                if self.is_on is False:
                    self._switch_on(other, None)
            else:
                self._backfill(other, is_recount=fault.is_after_reply)

    def _mourn(self, process: Process) -> None:
        """Put another process in the place of one that died; its lease is still running."""
        writers = list(self.db["tracking_writers"].find())
        named = {bytes(one[name]) for one in writers for name in ("session", "chore") if one[name]}
        # What no lease names ends by the server's time limit for transactions.
        self.lab.kill_sessions(process.wire.open.keys() - named)
        self.dead.append(process)
        self.processes[self.processes.index(process)] = self._start()

    def _expire_leases(self, processes: list[Process]) -> None:
        owners = [process.owner for process in processes]
        self.db["tracking_writers"].update_many(
            {"owner": {"$in": owners}}, {"$set": {"leaseUntil": LONG_AGO}}
        )

    def _expire_dead(self) -> None:
        self._expire_leases(self.dead)
        self.dead = []

    def _bury_all(self) -> None:
        self._expire_dead()
        self.processes[0].flusher.lease.reap_expired()

    def _backfill(self, process: Process, *, is_recount: bool) -> None:
        self.stale |= {str(key) for key in AUTOMATIONS}
        backfill = Backfill(process.database, now=self.lab.now, retention=RETENTION)
        for batch in backfill.list_batches(200):
            backfill.run_batch(batch, recount=is_recount)
        self.stale.clear()
        self.baseless -= {str(key) for key in AUTOMATIONS[:2]}

    # -- reads

    def _read(self, at: datetime) -> None:
        """Compare the statistics with a count of the runs at the same instant (I8, I9)."""
        reader, runs = self.lab.reader, self.db["automation_runs"]
        documents = [*self.db["automations"].find(), {"_id": "gone"}]
        bases = {
            one["automationId"]: one
            for one in self.db["automation_run_stats"].find({"base": {"$exists": True}})
        }
        reader.wire.sent.clear()
        summaries = StatsStore(reader.database).summarize(documents, at=at)
        sent = reader.wire.sent
        for document in documents:
            name = str(document["_id"])
            shown = summaries[name]
            for days, count in ((1, shown.last_24_hours), (7, shown.last_7_days)):
                start = truncate_to_milliseconds(at - days * DAY)
                expected = self.model.count_since(name, start)
                said = f"I8: {name} shows {count} runs of {days} days at {at}"
                assert count == expected, f"{said}, not {expected}"
                if at != self.lab.now:
                    query = {"automationId": name, "createdAt": {"$gte": at - days * DAY}}
                    assert count == runs.count_documents(query), said
            total = self.model.count_total(name)
            if name not in bases:
                ours = [run for run in self.model.list_runs(name) if run.event is not None]
                total = (document.get("totalRuns") or 0) + len(ours)
            assert shown.total_runs == total, f"I4: {name} shows {shown.total_runs}, not {total}"
        # One read of small documents, and per window two counts at most: what it cuts through, and
        # the automations whose earlier runs are not rolled up yet.
        names = [one.command_name for one in sent]
        assert names[0] == "find", f"I9: {names}"
        assert names[1:] in [["aggregate"] * number for number in range(5)], f"I9: {names}"
        assert len(sent[0].command["filter"]["_id"]["$in"]) == len(documents) * 11, "I9"
        for one in sent[1:]:
            match = one.command["pipeline"][0]["$match"]
            if all(
                name in bases and bases[name]["rollupsSince"] is None
                for name in match["automationId"]["$in"]
            ):
                since = match["createdAt"]
                length = since.get("$lt", at) - since["$gte"]
                assert length <= timedelta(minutes=1), f"I9: runs of {length} are counted"
