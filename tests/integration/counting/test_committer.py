"""Group commit: many threads at once, one flush at a time, and nobody waits for somebody else."""

from __future__ import annotations

import atexit
import os
import socket
import threading
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from pymongo import MongoClient
from pymongo.database import Database

from tests.integration.conftest import MakeFlusher, flush
from tests.support.recount import recount
from tests.support.triggers import WINDOW, make_people, make_trigger, now_in_milliseconds, tally
from tracking import service
from tracking.counting import committer as committer_module
from tracking.counting.committer import Committer, Ticket
from tracking.counting.flush import Answer, Flusher
from tracking.exceptions import TrackingUnavailable
from tracking.ids import build_contact_id
from tracking.mongo import client as mongo
from tracking.runs import Outcome, Trigger

Db = Database[dict[str, Any]]
MakeCommitter = Callable[..., Committer]


class Gate:
    """Holds a writer's flushes until it is opened, and notes what each of them held."""

    def __init__(self, flusher: Flusher) -> None:
        self.flushes: list[Sequence[Trigger]] = []
        self.entered = threading.Semaphore(0)
        self.opened = threading.Event()
        self._flush = flusher.flush
        flusher.flush = self._wait_and_flush  # type: ignore[method-assign]

    def _wait_and_flush(self, triggers: Sequence[Trigger], *, deadline: float) -> list[Answer]:
        self.flushes.append(triggers)
        self.entered.release()
        assert self.opened.wait(10)
        return self._flush(triggers, deadline=deadline)


@pytest.fixture
def make_committer() -> Iterator[MakeCommitter]:
    """Committers that are closed after the test."""
    committers: list[Committer] = []

    def make(flusher: Flusher, **options: Any) -> Committer:
        committers.append(Committer(flusher, **options))
        return committers[-1]

    yield make
    for committer in committers:
        committer.close()


@pytest.fixture
def pool() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(24) as executor:
        yield executor


def wait_until(condition: Callable[[], Any], seconds: float = 5.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.005)


def submit_all(
    pool: ThreadPoolExecutor, committer: Committer, deliveries: Sequence[Sequence[Trigger]]
) -> list[list[Outcome]]:
    """Submit every delivery from a thread of its own, all at the same moment."""
    barrier = threading.Barrier(len(deliveries))

    def submit(delivery: Sequence[Trigger]) -> list[Outcome]:
        barrier.wait()
        return committer.submit(delivery)

    return list(pool.map(submit, deliveries))


def test_sixteen_threads_with_the_same_person_count_one_run(
    db: Db, make_flusher: MakeFlusher, make_committer: MakeCommitter, pool: ThreadPoolExecutor
) -> None:
    """Through two writers, as in two processes."""
    committers = [make_committer(make_flusher(db)) for _ in range(2)]
    barrier = threading.Barrier(16)

    def submit(number: int) -> list[Outcome]:
        trigger = make_trigger(arrived_at=now_in_milliseconds())
        barrier.wait()
        return committers[number % 2].submit([trigger])

    outcomes = [outcome for answer in pool.map(submit, range(16)) for outcome in answer]
    assert tally(outcomes) == {"counted": 1, "duplicate": 15}
    assert db["automation_runs"].count_documents({}) == 1
    assert recount(db) == []


def test_the_same_event_from_ten_threads_is_one_trigger(
    db: Db, make_flusher: MakeFlusher, make_committer: MakeCommitter, pool: ThreadPoolExecutor
) -> None:
    """In other batches, for other automations and people."""
    committers = [make_committer(make_flusher(db)) for _ in range(2)]
    barrier = threading.Barrier(10)

    def submit(number: int) -> Outcome:
        same = make_trigger(event_id="same", automation_id=f"a{number}", user_id=f"p{number}")
        others = make_people(number, automation_id=f"b{number}")
        barrier.wait()
        return committers[number % 2].submit([*others, same])[-1]

    assert tally(list(pool.map(submit, range(10)))) == {"counted": 1, "redelivered": 9}
    assert db["automation_triggers"].count_documents({"_id": {"$regex": ":same$"}}) == 1
    assert recount(db) == []


def test_deliveries_that_wait_form_one_flush(
    db: Db, flusher: Flusher, make_committer: MakeCommitter, pool: ThreadPoolExecutor
) -> None:
    gate = Gate(flusher)
    committer = make_committer(flusher)
    first = pool.submit(committer.submit, [make_trigger(user_id="first")])
    assert gate.entered.acquire(timeout=5)
    others = [pool.submit(committer.submit, make_people(3)) for _ in range(20)]
    wait_until(lambda: len(committer._queue) == 20)
    gate.opened.set()
    outcomes = [outcome for one in others for outcome in one.result(5)]
    assert first.result(5) == [Outcome.COUNTED]
    assert [len(triggers) for triggers in gate.flushes] == [1, 60]
    # Each answer belongs to its own delivery: only one of them counted each person.
    assert tally(outcomes) == {"counted": 3, "duplicate": 57}
    assert recount(db) == []


def test_a_flush_is_bounded_and_deliveries_stay_whole_and_in_order(
    db: Db,
    flusher: Flusher,
    make_committer: MakeCommitter,
    pool: ThreadPoolExecutor,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(committer_module, "FLUSH_EVENTS", 10)
    gate = Gate(flusher)
    committer = make_committer(flusher)
    sizes = [1, 4, 4, 4, 25, 9, 1, 1]
    futures = []
    for number, size in enumerate(sizes):
        delivery = make_people(size, automation_id=f"a{number}")
        futures.append(pool.submit(committer.submit, delivery))
        if number == 0:
            assert gate.entered.acquire(timeout=5)
        else:
            wait_until(lambda number=number: len(committer._queue) == number)  # type: ignore[misc]
    gate.opened.set()
    assert [len(one.result(5)) for one in futures] == sizes
    assert [len(triggers) for triggers in gate.flushes] == [1, 8, 4, 25, 10, 1]
    assert recount(db) == []


def test_a_small_delivery_waits_for_one_flush_at_most_behind_a_flood(
    db: Db,
    flusher: Flusher,
    make_committer: MakeCommitter,
    pool: ThreadPoolExecutor,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Fairness: first come, first served, however much one account sends."""
    monkeypatch.setattr(committer_module, "FLUSH_EVENTS", 50)
    gate = Gate(flusher)
    committer = make_committer(flusher)
    flood = [pool.submit(committer.submit, make_people(50)) for _ in range(2)]
    assert gate.entered.acquire(timeout=5)
    wait_until(lambda: len(committer._queue) == 1)
    small = pool.submit(committer.submit, [make_trigger(automation_id="small")])
    wait_until(lambda: len(committer._queue) == 2)
    flood += [pool.submit(committer.submit, make_people(50)) for _ in range(5)]
    wait_until(lambda: len(committer._queue) == 7)
    gate.opened.set()
    assert small.result(5) == [Outcome.COUNTED]
    for one in flood:
        one.result(5)
    position = [t.automation_id for triggers in gate.flushes for t in triggers].index("small")
    assert position == 100


def test_a_full_queue_refuses_at_once(
    db: Db,
    flusher: Flusher,
    make_committer: MakeCommitter,
    pool: ThreadPoolExecutor,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(committer_module, "QUEUE_EVENTS", 10)
    gate = Gate(flusher)
    committer = make_committer(flusher)
    waiting = [pool.submit(committer.submit, [make_trigger()])]
    assert gate.entered.acquire(timeout=5)
    # Bigger than the whole queue, but alone: it is taken.
    waiting.append(pool.submit(committer.submit, make_people(11)))
    wait_until(lambda: committer._queued_events == 11)
    started = time.monotonic()
    with pytest.raises(TrackingUnavailable, match="too many"):
        committer.submit([make_trigger()])
    assert time.monotonic() - started < 0.5
    gate.opened.set()
    for one in waiting:
        one.result(5)
    assert committer._queued_events == 0
    committer.submit([make_trigger()])


def test_an_unreachable_database_is_told_within_the_deadline(
    make_committer: MakeCommitter, pool: ThreadPoolExecutor
) -> None:
    with socket.socket() as reserved:
        reserved.bind(("127.0.0.1", 0))  # bound and not listening: nobody answers there
        port = reserved.getsockname()[1]
        with MongoClient[dict[str, Any]]("127.0.0.1", port) as client:
            committer = make_committer(Flusher(client["nowhere"], window=WINDOW))
            started = time.monotonic()
            waiting = [pool.submit(committer.submit, make_people(2)) for _ in range(4)]
            for one in waiting:
                with pytest.raises(TrackingUnavailable):
                    one.result(5)
            assert 2.0 < time.monotonic() - started < 3.6
            # Those who come while the writer still tries wait for their own time, not for its.
            started = time.monotonic()
            with pytest.raises(TrackingUnavailable):
                committer.submit([make_trigger()], seconds=0.2)
            assert time.monotonic() - started < 1.0
            committer.close(seconds=1)


def test_a_locked_pair_delays_nobody_else(
    db: Db, flusher: Flusher, make_committer: MakeCommitter, pool: ThreadPoolExecutor
) -> None:
    """Somebody holds a contact in an open transaction: that delivery waits, the others do not."""
    gate = Gate(flusher)
    gate.opened.set()
    committer = make_committer(flusher)
    committer.submit([make_trigger(user_id="warm")])
    locked = build_contact_id("a1", "locked")
    with db.client.start_session() as session:
        session.start_transaction()
        db["automation_contacts"].insert_one({"_id": locked}, session=session)
        waiting = [
            pool.submit(committer.submit, [make_trigger(user_id="locked")]) for _ in range(3)
        ]
        mixed = pool.submit(committer.submit, [make_trigger(user_id="x"), *make_people(1)])
        assert mixed.result(5) == [Outcome.COUNTED, Outcome.COUNTED]
        longest = 0.0
        for number in range(30):
            started = time.monotonic()
            assert committer.submit([make_trigger(user_id=f"free{number}")]) == [Outcome.COUNTED]
            longest = max(longest, time.monotonic() - started)
        assert not any(one.done() for one in waiting)
        session.abort_transaction()
    assert longest < 1.5
    # In a flush with others once at most: there it costs all of them a split.
    shared = [
        trigger.event_id
        for triggers in gate.flushes
        if len({t.user_id for t in triggers}) > 1
        for trigger in triggers
    ]
    assert len(shared) == len(set(shared))
    assert tally([one.result(5)[0] for one in waiting]) == {"counted": 1, "duplicate": 2}
    assert recount(db) == []


def test_parked_deliveries_and_the_queue_take_turns(flusher: Flusher) -> None:
    committer = Committer(flusher)  # nothing is submitted: its threads do not run
    later = time.monotonic() + 60
    parked = [Ticket([make_trigger()], later) for _ in range(3)]
    waiting = [Ticket([make_trigger()], later) for _ in range(2)]
    committer._parked.extend(parked)
    committer._queue.append(waiting[0])
    committer._queued_events = 1
    assert committer._take() == [parked[0]]
    assert committer._take() == [waiting[0]]
    committer._queue.append(waiting[1])
    committer._queued_events = 1
    assert committer._take() == [parked[1]]
    assert committer._take() == [waiting[1]]
    assert committer._take() == [parked[2]]
    assert committer._queued_events == 0


def test_closing_waits_for_what_is_parked(
    db: Db, flusher: Flusher, make_committer: MakeCommitter, pool: ThreadPoolExecutor
) -> None:
    committer = make_committer(flusher)
    with db.client.start_session() as session:
        session.start_transaction()
        contact = {"_id": build_contact_id("a1", "locked")}
        db["automation_contacts"].insert_one(contact, session=session)
        waiting = pool.submit(committer.submit, [make_trigger(user_id="locked")])
        wait_until(lambda: committer._parked)
        closing = pool.submit(committer.close)
        wait_until(committer._closing.is_set)
        session.abort_transaction()
    assert waiting.result(5) == [Outcome.COUNTED]
    closing.result(5)
    assert recount(db) == []


def test_a_pair_that_stays_locked_is_a_503_in_time(
    db: Db, flusher: Flusher, make_committer: MakeCommitter
) -> None:
    late: list[Any] = []
    committer = make_committer(flusher, on_late=lambda *pair: late.append(pair))
    with db.client.start_session() as session:
        session.start_transaction()
        contact = {"_id": build_contact_id("a1", "locked")}
        db["automation_contacts"].insert_one(contact, session=session)
        free, held = make_trigger(user_id="free"), make_trigger(user_id="locked")
        started = time.monotonic()
        with pytest.raises(TrackingUnavailable, match="keys"):
            committer.submit([free, held], seconds=0.6)
        assert time.monotonic() - started < 2.0
        session.abort_transaction()
    # The one that was counted is told to whoever writes the log, though the answer is 503.
    assert late == [([free], [Outcome.COUNTED])]
    assert committer.submit([free, held]) == [Outcome.REDELIVERED, Outcome.COUNTED]
    assert recount(db) == []


def test_what_is_committed_after_its_time_is_still_told(
    db: Db, flusher: Flusher, make_committer: MakeCommitter
) -> None:
    late: list[Any] = []
    told = threading.Event()

    def tell(triggers: Sequence[Trigger], outcomes: Sequence[Outcome]) -> None:
        late.append((triggers, outcomes))
        told.set()

    gate = Gate(flusher)
    committer = make_committer(flusher, on_late=tell)
    trigger = make_trigger()
    with pytest.raises(TrackingUnavailable, match="in time"):
        committer.submit([trigger], seconds=0.2)
    gate._flush = lambda triggers, deadline: Flusher.flush(  # the server is back, a little late
        flusher, triggers, deadline=time.monotonic() + 3
    )
    gate.opened.set()
    assert told.wait(5)
    assert late == [([trigger], [Outcome.COUNTED])]
    assert recount(db) == []


def test_a_bug_in_a_flush_does_not_end_the_writer(
    db: Db, flusher: Flusher, make_committer: MakeCommitter, monkeypatch: pytest.MonkeyPatch
) -> None:
    committer = make_committer(flusher)
    with monkeypatch.context() as patch:
        patch.setattr(flusher, "flush", lambda *_, **__: 1 / 0)
        with pytest.raises(TrackingUnavailable, match="ZeroDivisionError"):
            committer.submit([make_trigger()])
    assert committer.submit([make_trigger()]) == [Outcome.COUNTED]


def test_a_bug_in_a_chore_does_not_end_the_lease(
    db: Db, flusher: Flusher, make_committer: MakeCommitter, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(committer_module, "HEARTBEAT_SECONDS", 0.01)
    calls = []

    def fail() -> int:
        calls.append(1)
        raise ZeroDivisionError

    monkeypatch.setattr(flusher.lease, "reap_expired", fail)
    committer = make_committer(flusher)
    committer.submit([make_trigger()])
    wait_until(lambda: len(calls) > 2)


def test_closing_flushes_what_waits_and_gives_the_stripe_back(
    db: Db, flusher: Flusher, make_committer: MakeCommitter, pool: ThreadPoolExecutor
) -> None:
    gate = Gate(flusher)
    committer = make_committer(flusher)
    first = pool.submit(committer.submit, [make_trigger(user_id="first")])
    assert gate.entered.acquire(timeout=5)
    second = pool.submit(committer.submit, [make_trigger(user_id="second")])
    wait_until(lambda: len(committer._queue) == 1)
    closing = pool.submit(committer.close)
    wait_until(committer._closing.is_set)
    with pytest.raises(TrackingUnavailable, match="shutting down"):
        committer.submit([make_trigger(user_id="third")])
    gate.opened.set()
    closing.result(5)
    assert first.result(5) + second.result(5) == [Outcome.COUNTED] * 2
    assert db["tracking_writers"].count_documents({}) == 0
    assert not any(thread.is_alive() for thread in committer._threads)
    assert recount(db) == []


def test_a_writer_that_never_wrote_can_be_closed(flusher: Flusher) -> None:
    Committer(flusher).close()


def test_a_forked_child_has_a_writer_of_its_own_and_leaves_the_parent_s_alone(
    db: Db, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As with a server that counts before it forks its workers."""
    # So that the parent does not mend what the child might break.
    monkeypatch.setattr(committer_module, "HEARTBEAT_SECONDS", 60)
    service.record_triggers([make_trigger(user_id="parent")])
    [lease] = db["tracking_writers"].find()
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:  # pragma: no cover - in the child
        code = 1
        try:
            outcomes = service.record_triggers([make_trigger(user_id="child", event_id="c")])
            slots = sorted(one["_id"] for one in mongo.get_database()["tracking_writers"].find())
            os.write(writing, f"{tally(outcomes)} {slots}".encode())
            service.close()
            # What runs at the end of a child that exits in the ordinary way.
            warnings.simplefilter("ignore")  # the driver warns of clients of the parent

            atexit._run_exitfuncs()
            code = 0
        finally:
            os._exit(code)
    os.close(writing)
    with os.fdopen(reading) as stream:
        said = stream.read()
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert said == "{'counted': 1} [0, 1]"
    # The parent's lease is there, and its writer goes on.
    [after] = db["tracking_writers"].find({"owner": lease["owner"]})
    assert after["_id"] == lease["_id"]
    assert service.record_triggers([make_trigger(user_id="after")]) == [Outcome.COUNTED]
    assert recount(db) == []


def test_threads_over_many_people_and_two_writers_stay_exact(
    db: Db, make_flusher: MakeFlusher, make_committer: MakeCommitter, pool: ThreadPoolExecutor
) -> None:
    db["automations"].insert_many([{"_id": f"a{number}", "totalRuns": number} for number in (1, 2)])
    committers = [make_committer(make_flusher(db)) for _ in range(2)]
    now = now_in_milliseconds()

    def deliver(number: int) -> list[Outcome]:
        delivery = [
            make_trigger(
                event_id=str((number * 7 + index) % 150),
                automation_id=f"a{1 + index % 2}",
                user_id=f"p{(number + index) % 40}",
                arrived_at=now,
            )
            for index in range(10)
        ]
        return committers[number % 2].submit(delivery)

    outcomes = [outcome for answer in pool.map(deliver, range(60)) for outcome in answer]
    assert tally(outcomes)["redelivered"] == 600 - 150
    assert db["automation_triggers"].count_documents({}) == 150
    assert recount(db) == []
    flush(make_flusher(db), make_trigger(user_id="end", automation_id="a1"))
    assert recount(db) == []
