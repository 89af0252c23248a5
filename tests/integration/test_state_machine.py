"""Counting against a reference model: any order, any batches, any clock, any crash (I1-I6, I8, I9).

Hypothesis makes up histories: deliveries and redeliveries by several processes on a real server,
clock steps to the millisecond, folding and `add_run_fields` in between, processes that die, stall
or are overtaken at any command. After every step all documents are compared with the model.

`HYPOTHESIS_PROFILE=thorough` looks for longer, and elsewhere each time.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any
from unittest import mock

import msgspec
import pytest
from bson import Binary, ObjectId
from bson.binary import UUID_SUBTYPE
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)
from pymongo.client_session import ClientSession
from pymongo.database import Database
from pymongo.errors import AutoReconnect, OperationFailure

from tests.comparison import RETENTION, Comparison
from tests.reference_model import ReferenceModel, Run
from tests.triggers import MILLISECOND, T0, WINDOW, make_run, make_trigger
from tests.wire import Crash, Process
from tracking import stripes
from tracking.backfill import Backfill
from tracking.committer import Ticket
from tracking.runs import Outcome, Trigger, parse_trigger_id
from tracking.stats import StatsStore

Document = dict[str, Any]

PROFILES = {
    "default": {"max_examples": 60, "stateful_step_count": 14, "derandomize": True},
    "thorough": {"max_examples": 1500, "stateful_step_count": 30, "print_blob": True},
}
PROFILE = settings(
    **PROFILES[os.environ.get("HYPOTHESIS_PROFILE", "default")],
    deadline=None,
    suppress_health_check=list(HealthCheck),
)

# An id that is text, one that is an ObjectId, and one whose automation was deleted.
AUTOMATIONS = ("a1", ObjectId("65f0c0ffee65f0c0ffee65f0"), "gone")
PEOPLE = ("p1", "p2", "p3")
DAY = timedelta(days=1)
# Nothing arrives later: after seven days an event may be forgotten (I3).
LATEST = timedelta(days=6)
# Statistics are read at the present; hours are kept for a day longer than the window.
OLDEST_READ = timedelta(hours=22)
LONG_AGO = datetime(1970, 1, 1, tzinfo=UTC)
COLLECTIONS = (
    "automations", "automation_runs", "automation_contacts", "automation_triggers",
    "automation_run_stats", "tracking_writers",
)  # fmt: skip

EDGES = [step * WINDOW + ms * MILLISECOND for step in (1, 0, -1) for ms in (0, 1, -1)]
STEPS = [MILLISECOND, timedelta(minutes=30), *EDGES[:3], 5 * WINDOW, DAY, 7 * DAY]


@dataclass(frozen=True)
class Item:
    """An event of a delivery: a new one, or one of those sent before (`again`: how long ago)."""

    automation: int
    person: int
    again: int | None


@dataclass(frozen=True)
class Delivery:
    """Events that arrive together: so long ago, or so far from an earlier run of anybody."""

    items: list[Item]
    ago: timedelta
    near: int | None
    distance: timedelta


@dataclass(frozen=True)
class Fault:
    """What happens at one command of an operation, before it is sent or after its reply."""

    kind: str
    number: int
    is_after_reply: bool
    deliveries: list[Delivery] = field(default_factory=list)


indices = st.integers(0, 2)
items = st.builds(Item, automation=indices, person=indices, again=st.none() | st.integers(0, 7))
deliveries = st.builds(
    Delivery,
    items=st.lists(items, min_size=1, max_size=4),
    ago=st.sampled_from([timedelta(0)] * 3 + [*STEPS[:5], 2 * DAY]),
    near=st.none() | st.integers(0, 5),
    distance=st.sampled_from(EDGES),
)
flushes = st.lists(deliveries, min_size=1, max_size=3)
faults = st.none() | st.builds(
    Fault,
    kind=st.sampled_from(
        ["crash", "crash", "flush", "flush", "fold", "recount", "bury", "merge", "reply"]
    ),
    number=st.integers(0, 26),
    is_after_reply=st.booleans(),
    deliveries=flushes,
)
earlier = st.lists(
    st.tuples(indices, indices, st.integers(0, 9 * 24 * 4), st.sampled_from([0, 1])), max_size=6
)


class Laboratory:
    """The server, the clients and the clock that all examples share, one after the other."""

    def __init__(self, db: Database[Document], uri: str) -> None:
        self.db = db
        self.now = T0
        self.reader = Process(uri)
        self._uri = uri
        self._processes: list[Process] = []
        self._started = 0

    def clear(self) -> None:
        for process in self._processes:
            self.kill_sessions(process.wire.open)
        for name in COLLECTIONS:
            self.db[name].delete_many({})
        self.now = T0
        self._started = 0
        self.reader.start(self.db.name, window=WINDOW)

    def start_process(self) -> Process:
        if self._started == len(self._processes):
            self._processes.append(Process(self._uri))
        process = self._processes[self._started]
        self._started += 1
        process.start(self.db.name, window=WINDOW)
        return process

    def kill_sessions(self, sessions: Iterable[bytes]) -> None:
        ids = [{"id": Binary(session, UUID_SUBTYPE)} for session in sessions]
        if ids:
            self.db.client.admin.command("killSessions", ids)

    def close(self) -> None:
        self.clear()
        for process in (*self._processes, self.reader):
            process.wire.reset()
            process.client.close()


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
        self.stale: set[str] = set()
        self.expired_at: datetime | None = None

    def _start(self) -> Process:
        process = self.lab.start_process()
        process.wire.on_commit = lambda ids: self._note_commit(
            process, {parse_trigger_id(one)[2] for one in ids}
        )
        return process

    @initialize(
        runs=earlier, totals=st.lists(st.sampled_from([None, 0, 2, 7]), min_size=3, max_size=3)
    )
    def an_older_product_was_here(self, runs: Any, totals: Any) -> None:
        for key, total in zip(AUTOMATIONS[:2], totals, strict=False):
            self.db["automations"].insert_one(
                {"_id": key} | ({} if total is None else {"totalRuns": total, "lastRunAt": None})
            )
            self.model.stored_totals[str(key)] = total or 0
        for automation, person, quarters, ms in runs:
            run = Run(
                str(AUTOMATIONS[automation]), PEOPLE[person],
                T0 - quarters * WINDOW / 4 - ms * MILLISECOND,
            )  # fmt: skip
            self.model.runs.append(run)
            self.db["automation_runs"].insert_one(
                make_run(run.automation, run.at, userId=run.person)
            )

    # -- rules

    @rule(process=indices, batch=flushes, fault=faults)
    def flush(self, process: int, batch: list[Delivery], fault: Fault | None) -> None:
        tickets = [self._build(delivery) for delivery in batch]
        self._flush(self.processes[process], tickets, fault)

    @rule(step=st.sampled_from(STEPS))
    def tick(self, step: timedelta) -> None:
        self.lab.now += step

    @rule(process=indices, fault=faults)
    def fold(self, process: int, fault: Fault | None) -> None:
        self._free_locks()
        one = self.processes[process]
        with self._struck(one, fault):
            one.folder.fold_all(now=self.lab.now)

    @rule(process=indices, is_recount=st.booleans(), fault=faults)
    def add_run_fields(self, process: int, is_recount: bool, fault: Fault | None) -> None:
        self._free_locks()
        one = self.processes[process]
        with self._struck(one, fault):
            self._backfill(one, is_recount=is_recount)

    @rule()
    def leases_run_out(self) -> None:
        """The dead can be buried from now on, by whoever meets what they locked."""
        self._expire_leases(self.dead)
        self.dead = []

    @rule(process=indices)
    def pause(self, process: int) -> None:
        """A process stands still for longer than its lease, and is taken for dead."""
        self._expire_leases([self.processes[process]])
        self.processes[process - 1].flusher.lease.bury_dead()

    @rule(process=indices)
    def heartbeat(self, process: int) -> None:
        self.processes[process].flusher.lease.renew()

    @precondition(lambda self: self.unacknowledged)
    @rule(process=indices)
    def send_again(self, process: int) -> None:
        """As Meta does with what was not acknowledged; the arrival is another."""
        self._send_again(process)

    @precondition(lambda self: self.sent)
    @rule(back=st.integers(0, 5), days=st.sampled_from([1, 7]), ms=st.sampled_from([-1, 0, 0.5, 1]))
    def read_at_an_edge(self, back: int, days: int, ms: float) -> None:
        """A window that starts exactly at a run, or half a millisecond beside it (I8)."""
        if self.model.runs:
            run = self.model.runs[-1 - back % len(self.model.runs)]
            self._read(run.at + days * DAY + ms * MILLISECOND)

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
    def documents_are_the_models(self) -> None:
        comparison = Comparison(self.db, self.model, self.stale, self.expired_at)
        assert comparison.list_differences() == []

    @invariant()
    def windows_are_exact(self) -> None:
        self._read(self.lab.now)

    def teardown(self) -> None:
        if sys.exc_info()[0] is not None:
            return  # a step has failed: its own error is the one to show
        self._settle()
        self.documents_are_the_models()
        one = self.processes[0]
        self._backfill(one, is_recount=True)
        self.documents_are_the_models()
        one.folder.fold_all(now=self.lab.now)
        self.documents_are_the_models()
        self.windows_are_exact()

    # -- deliveries

    def _build(self, delivery: Delivery) -> list[Trigger]:
        """Return the triggers of a delivery, as they are at its arrival."""
        lab, runs = self.lab, self.model.runs
        arrived_at = lab.now - delivery.ago
        if delivery.near is not None and runs:
            arrived_at = runs[-1 - delivery.near % len(runs)].at + delivery.distance
        arrived_at = max(arrived_at, lab.now - LATEST)
        lab.now = max(lab.now, arrived_at)
        triggers = []
        for item in delivery.items:
            key = AUTOMATIONS[item.automation]
            self.events += 1
            fields = {"event_id": f"e{self.events}", "user_id": PEOPLE[item.person]}
            if item.again is not None and self.sent:
                before = self.sent[-1 - item.again % len(self.sent)]
                fields = {"event_id": before.event_id, "user_id": before.user_id}
            trigger = make_trigger(
                automation_key=key, automation_id=str(key), arrived_at=arrived_at, **fields
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
        tickets = [Ticket(one, time.monotonic() + 10) for one in batch]
        with self._struck(process, fault):
            process.committer._flush(tickets)
            is_merged = fault is None or fault.kind != "merge"
            self._check_answers(
                process, tickets, is_locked=is_locked or bool(self.dead), is_merged=is_merged
            )
        process.in_flight = []
        process.committer._parked.clear()

    def _note_commit(self, process: Process, events: set[str]) -> None:
        """The server committed: from here on it has happened, whoever hears of it."""
        for trigger in process.in_flight:
            event = trigger.event_id
            if event in events and event not in process.committed:
                self.stale.add(trigger.automation_id)
                process.committed[event] = self.model.record(
                    event, trigger.automation_id, trigger.user_id, trigger.arrived_at
                )

    def _check_answers(
        self, process: Process, tickets: list[Ticket], *, is_locked: bool, is_merged: bool
    ) -> None:
        first = set()
        for ticket in tickets:
            for trigger, answer in zip(ticket.triggers, ticket.answers, strict=True):
                event = trigger.event_id
                expected = "redelivered" if event in self.model.events else None
                if event in process.committed and event not in first:
                    first.add(event)
                    expected = process.committed[event]
                assert answer == expected, (event, answer, expected)
            is_acknowledged = all(isinstance(answer, Outcome) for answer in ticket.answers)
            assert is_acknowledged or is_locked, "I6: nobody holds these keys"
            if is_acknowledged:
                self.unacknowledged.remove(ticket.triggers)
                if is_merged:
                    self.stale -= {trigger.automation_id for trigger in ticket.triggers}

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
        """Let every lease of a dead process run out and send again what was not acknowledged."""
        self.leases_run_out()
        if self.unacknowledged:
            self._send_again(0)
        assert not self.unacknowledged

    # -- what goes wrong

    @contextmanager
    def _struck(self, process: Process, fault: Fault | None) -> Iterator[None]:
        """Run an operation of `process` with something happening in the middle of it."""
        if fault is None:
            yield
            return
        if fault.kind == "merge":
            error = OperationFailure("made up", 8)
            with mock.patch.object(process.flusher._totals, "merge_totals", side_effect=error):
                yield
            return
        if fault.kind == "reply":
            with lose_commit_replies(process, 1 + fault.number % 2):
                yield
            return
        process.wire.arm(
            lambda: self._strike(process, fault),
            number=fault.number,
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
        elif fault.kind == "flush":
            batch = [self._build(delivery) for delivery in fault.deliveries]
            self._flush(other, batch, None, is_locked=is_writing)
        elif fault.kind == "bury":
            self._expire_leases([process])
            other.flusher.lease.bury_dead()
        elif not is_writing and not self.dead:
            # These wait for whoever holds a lock, and here nobody could let go of it.
            other.flusher.lease.bury_dead()
            if fault.kind == "fold":
                other.folder.fold_all(now=self.lab.now)
            else:
                self._backfill(other, is_recount=fault.is_after_reply)

    def _mourn(self, process: Process) -> None:
        """Put another process in the place of one that died; its lease is still running."""
        named = {bytes(one["session"]) for one in self.db["tracking_writers"].find()}
        # Chores have sessions of their own: their transactions end by the server's time limit.
        self.lab.kill_sessions(process.wire.open.keys() - named)
        self.dead.append(process)
        self.processes[self.processes.index(process)] = self._start()

    def _expire_leases(self, processes: list[Process]) -> None:
        owners = [process.owner for process in processes]
        self.db["tracking_writers"].update_many(
            {"owner": {"$in": owners}}, {"$set": {"leaseUntil": LONG_AGO}}
        )

    def _free_locks(self) -> None:
        self.leases_run_out()
        self.processes[0].flusher.lease.bury_dead()

    def _backfill(self, process: Process, *, is_recount: bool) -> None:
        self.stale |= {str(key) for key in AUTOMATIONS}
        backfill = Backfill(process.database, now=self.lab.now, retention=RETENTION)
        for batch in backfill.list_batches(200):
            backfill.run_batch(batch, recount=is_recount)
        self.stale.clear()

    # -- reads

    def _read(self, at: datetime) -> None:
        """Compare the statistics with a count of the runs at the same instant (I8, I9)."""
        if at < self.lab.now - OLDEST_READ:
            return
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
            for days, shown in (
                (1, summaries[name].last_24_hours), (7, summaries[name].last_7_days)
            ):  # fmt: skip
                start = at - days * DAY
                found = runs.count_documents({"automationId": name, "createdAt": {"$gte": start}})
                model = self.model.count_since(
                    name, start.replace(microsecond=start.microsecond // 1000 * 1000)
                )
                assert shown == found == model, f"I8: {name}, {days} days before {at}"
            total = self.model.count_total(name) if name in bases else document.get("totalRuns")
            assert summaries[name].total_runs == (total or 0)
        # One read of small documents, and per window two counts at most: what it cuts through, and
        # the automations whose earlier runs are not rolled up yet.
        assert [one.command_name for one in sent] == ["find"] + ["aggregate"] * (len(sent) - 1)
        assert len(sent) <= 5
        assert len(sent[0].command["filter"]["_id"]["$in"]) == len(documents) * 11
        for one in sent[1:]:
            match = one.command["pipeline"][0]["$match"]
            is_rolled_up = all(
                name in bases and bases[name]["rollupsSince"] is None
                for name in match["automationId"]["$in"]
            )
            if is_rolled_up:
                since = match["createdAt"]
                assert since["$lt"] - since["$gte"] <= timedelta(minutes=1), "I9"


@contextmanager
def lose_commit_replies(process: Process, times: int) -> Iterator[None]:
    """Let the process's commits happen and it not hear of them, as when a connection breaks."""
    commit = ClientSession.commit_transaction
    left = times

    def commit_and_lose(session: ClientSession) -> None:
        nonlocal left
        commit(session)
        if session.client is process.client and left:
            left -= 1
            raise AutoReconnect("connection closed")

    with mock.patch.object(ClientSession, "commit_transaction", commit_and_lose):
        yield


class Clock:
    """Stands in for `datetime` where a flush takes the time."""

    def __init__(self, lab: Laboratory) -> None:
        self._lab = lab

    def now(self, _: Any) -> datetime:
        return self._lab.now


@pytest.fixture
def lab(
    db: Database[Document], settings: Any, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Laboratory]:
    laboratory = Laboratory(db, settings.MONGODB_URI)
    monkeypatch.setattr("tracking.flush.datetime", Clock(laboratory))
    # The time that examples take must not decide who is dead.
    monkeypatch.setattr(stripes, "LEASE_SECONDS", 86_400)
    yield laboratory
    laboratory.close()


def test_any_history_is_counted_as_the_model_counts_it(lab: Laboratory) -> None:
    run_state_machine_as_test(lambda: Counting(lab), settings=PROFILE)
