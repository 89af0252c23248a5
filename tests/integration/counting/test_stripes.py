"""Writers side by side: each has a stripe, and the keys of a dead one are free within seconds."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any
from uuid import uuid4

import pytest
from pymongo import MongoClient
from pymongo.database import Database

from tests.integration.conftest import MakeFlusher, flush
from tests.support.recount import recount
from tests.support.triggers import T0, make_people, make_trigger
from tracking.counting.committer import Committer
from tracking.counting.flush import Flusher
from tracking.counting.stripes import LEASE_SECONDS, StripeLease
from tracking.mongo.transactions import session_id_of
from tracking.rollups.folding import Folder
from tracking.rollups.hours import STRIPES
from tracking.runs import Outcome

Db = Database[dict[str, Any]]
Process = subprocess.Popen[str]
StartWriter = Callable[[str], Process]


def hold(db: Db) -> StripeLease:
    """Take a lease as a writer does."""
    lease = StripeLease(db)
    lease.hold(uuid4())
    return lease


def expire(db: Db, slot: int) -> None:
    """Let a lease run out, as if its writer had not renewed it."""
    db["tracking_writers"].update_one(
        {"_id": slot}, {"$set": {"leaseUntil": T0.replace(year=2000)}}
    )


def list_slots(db: Db) -> list[int]:
    return sorted(writer["_id"] for writer in db["tracking_writers"].find())


class TestLeases:
    def test_a_writer_takes_the_lowest_free_slot(self, db: Db) -> None:
        leases = [hold(db) for _ in range(4)]
        assert [lease.stripe for lease in leases] == [0, 1, 2, 3]
        leases[1].release()
        leases[0].release()
        assert [hold(db).stripe for _ in range(3)] == [0, 1, 4]

    def test_past_eight_writers_share_stripes(self, db: Db) -> None:
        leases = [hold(db) for _ in range(STRIPES + 3)]
        assert list_slots(db) == list(range(STRIPES + 3))
        assert [lease.stripe for lease in leases] == [*range(STRIPES), 0, 1, 2]

    def test_many_at_once_have_a_slot_each(self, db: Db) -> None:
        barrier = threading.Barrier(12)
        leases: list[StripeLease] = []

        def take() -> None:
            barrier.wait()
            leases.append(hold(db))

        threads = [threading.Thread(target=take) for _ in range(12)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert list_slots(db) == list(range(12))
        assert len({lease._slot for lease in leases}) == 12

    def test_a_lease_lasts_three_seconds_on_the_server_s_clock(self, db: Db) -> None:
        lease = hold(db)
        [writer] = db["tracking_writers"].aggregate(
            [{"$set": {"left": {"$subtract": ["$leaseUntil", "$$NOW"]}}}]
        )
        assert 0 < writer["left"] <= LEASE_SECONDS * 1000
        expire(db, 0)
        lease.renew()
        assert lease.reap_expired() == 0

    def test_who_is_late_but_not_replaced_keeps_the_slot(self, db: Db) -> None:
        first, second = hold(db), hold(db)
        expire(db, 0)
        first.renew()
        assert (first.stripe, second.reap_expired(), list_slots(db)) == (0, 0, [0, 1])

    def test_a_slot_whose_lease_ran_out_goes_to_the_next(self, db: Db) -> None:
        first, second = hold(db), hold(db)
        expire(db, 0)
        third = hold(db)
        assert third.stripe == 0
        # The one that was taken for dead comes back, and takes another.
        first.renew()
        assert (first.stripe, second.stripe, list_slots(db)) == (2, 1, [0, 1, 2])
        first.release()
        assert list_slots(db) == [0, 1]

    def test_nobody_releases_a_slot_that_is_not_his(self, db: Db) -> None:
        first = hold(db)
        expire(db, 0)
        second = hold(db)
        first.release()
        assert list_slots(db) == [second.stripe] == [0]

    def test_a_lease_without_a_session_is_not_written(self, db: Db) -> None:
        lease = StripeLease(db)
        lease.renew()
        lease.release()
        assert list_slots(db) == []

    def test_the_lowest_writer_does_the_chores(self, db: Db) -> None:
        first, second = hold(db), hold(db)
        assert (first.is_lowest(), second.is_lowest()) == (True, False)
        first.release()
        assert second.is_lowest()

    def test_a_slot_taken_by_a_write_whose_reply_was_lost_is_used(self, db: Db) -> None:
        lease = StripeLease(db)
        later = T0.replace(year=2100)
        db["tracking_writers"].insert_one({"_id": 0, "owner": lease._owner, "leaseUntil": later})
        lease.hold(uuid4())
        assert list_slots(db) == [lease.stripe] == [0]


class TestTheDead:
    def test_the_keys_of_a_dead_writer_are_freed_by_whoever_needs_them(
        self, db: Db, flusher: Flusher
    ) -> None:
        flush(flusher, make_trigger(user_id="other"))
        with db.client.start_session() as session:
            StripeLease(db).hold(session_id_of(session))
            session.start_transaction()
            db["automation_contacts"].insert_one({"_id": "a1:p1"}, session=session)
            assert flush(flusher, make_trigger(user_id="p1")) == [None]
            expire(db, 1)
            assert flush(flusher, make_trigger(user_id="p1")) == [Outcome.COUNTED]
        assert recount(db) == []

    def test_a_uri_that_asks_for_uuids_frees_them_too(
        self, db: Db, mongodb_server: str, make_flusher: MakeFlusher
    ) -> None:
        with (
            MongoClient[dict[str, Any]](
                mongodb_server, tz_aware=True, uuidRepresentation="standard"
            ) as client,
            db.client.start_session() as session,
        ):
            StripeLease(db).hold(session_id_of(session))
            session.start_transaction()
            db["automation_contacts"].insert_one({"_id": "a1:p1"}, session=session)
            expire(db, 0)
            flusher = make_flusher(client[db.name])
            assert flush(flusher, make_trigger()) == [Outcome.COUNTED]
            flusher.close()

    def test_one_who_dies_while_folding_locks_nobody_out(
        self, db: Db, make_flusher: MakeFlusher, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """I6: folding writes the live documents of all stripes."""
        old = T0.replace(year=2025)
        living = make_flusher(db)
        flush(living, make_trigger(arrived_at=old))
        dead = StripeLease(db)
        folder = Folder(db, on_session=dead.name_session)
        fold = Folder._fold

        def fold_and_die(*args: Any) -> int:
            fold(*args)
            expire(db, 1)
            assert flush(living, make_trigger(user_id="p2", arrived_at=old)) == [Outcome.COUNTED]
            raise KeyboardInterrupt

        with monkeypatch.context() as patch:
            patch.setattr(Folder, "_fold", fold_and_die)
            with pytest.raises(KeyboardInterrupt):
                folder.fold("a1", now=T0)
        Folder(db).fold_all(now=T0)
        assert recount(db, at=T0) == []


@pytest.fixture
def start_writer(db: Db, mongodb_server: str) -> Iterator[StartWriter]:
    """Start writing processes; none of them outlives the test."""
    processes: list[Process] = []

    def start(mode: str) -> Process:
        processes.append(
            subprocess.Popen(
                [sys.executable, "-m", "tests.support.writer_process",
                 mongodb_server, db.name, mode],
                stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
            )
        )  # fmt: skip
        return processes[-1]

    yield start
    for process in processes:
        process.kill()
        process.communicate()


def read_line(process: Process) -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()


def test_two_processes_count_the_same_people_exactly(db: Db, start_writer: StartWriter) -> None:
    automations = [{"_id": "a0", "totalRuns": 5}, {"_id": "a1"}]
    db["automations"].insert_many(automations)
    processes = [start_writer("write") for _ in range(2)]
    for process in processes:
        assert read_line(process) == "ready"
    deadline = time.monotonic() + 20
    while db["automation_triggers"].estimated_document_count() < 1500:
        assert time.monotonic() < deadline
        time.sleep(0.05)
    written = 0
    for process in processes:
        assert process.stdin is not None
        process.stdin.write("stop\n")
        process.stdin.flush()
    for process in processes:
        written += int(read_line(process))
        assert process.wait(10) == 0
    assert db["automation_triggers"].count_documents({}) == written
    assert db["automation_runs"].count_documents({}) > 80  # people ran more than once
    stripes = db["automation_run_stats"].distinct("stripe")
    assert sorted(stripes) == [0, 1]
    assert list_slots(db) == []
    # Arrivals were put hours apart at random, so a duplicate may be far from its pair's runs.
    assert [line for line in recount(db) if not line.startswith("I2")] == []


@pytest.fixture
def _patient_server(db: Db) -> Iterator[None]:
    """A server that lets transactions stay open as long as it does by default."""
    admin = db.client.admin
    before = admin.command("setParameter", 1, transactionLifetimeLimitSeconds=60)["was"]
    yield
    admin.command("setParameter", 1, transactionLifetimeLimitSeconds=before)


@pytest.mark.usefixtures("_patient_server")
def test_after_a_kill_in_mid_transaction_the_same_people_are_counted_within_seconds(
    db: Db, start_writer: StartWriter, flusher: Flusher
) -> None:
    """I6, as with `kill -9`: its keys stay locked on the server until somebody buries it."""
    committer = Committer(flusher)
    committer.submit([make_trigger(user_id="other", automation_id="a2")])
    dying = start_writer("die")
    assert read_line(dying) == "written"
    dying.send_signal(signal.SIGKILL)
    dying.wait()
    killed = time.monotonic()
    people = make_people(5)
    outcomes = committer.submit(people, seconds=6.0)
    assert time.monotonic() - killed < 6.0
    assert outcomes == [Outcome.COUNTED] * 5
    committer.close()
    assert db["automation_runs"].count_documents({}) == 6
    assert recount(db) == []
