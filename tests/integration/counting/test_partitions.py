"""Who counts what: shares, leases, and counters that die, stand still and come back."""

import signal
import threading
import time
from collections import Counter as Tally
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import Any
from unittest import mock

import msgspec
import pytest

from tests.integration.conftest import Db
from tests.support.counting_process import start_counting_process
from tests.support.oracle import recount
from tests.support.triggers import WINDOW, make_people, make_trigger, now_in_milliseconds
from tests.support.waiting import wait_until
from tracking.counting.counter import Counter
from tracking.counting.partitions import Fenced, Stuck
from tracking.counting.storage import Storage
from tracking.ids import PARTITIONS

MakeCounter = Callable[..., Counter]
Pair = tuple[Counter, Counter]
LONG_AGO = now_in_milliseconds() - 9 * WINDOW


@pytest.fixture
def make_counter(db: Db) -> Iterator[MakeCounter]:
    counters: list[Counter] = []

    def make(**options: Any) -> Counter:
        counters.append(Counter(db, window=WINDOW, **options))
        return counters[-1]

    yield make
    for one in counters:
        one.leave()


@pytest.fixture
def pair(make_counter: MakeCounter) -> Pair:
    """Two counters of whom the first owns everything."""
    first, second = make_counter(is_dedicated=True), make_counter(is_dedicated=True)
    step(first)
    return first, second


def step(*counters: Counter) -> list[int]:
    """Let each look around until nothing changes; return how many partitions each owns."""
    for _ in range(4):
        for one in counters:
            one._look_at = 0
            one.step()
    return [len(one._partitions.owned) for one in counters]


def expire(db: Db, counter: Counter) -> None:
    """Let the lease run out, as if the counter had stood still."""
    query = {"_id": counter._partitions.counter_id}
    assert db["tracking_partitions"].update_one(query, {"$set": {"renewedAt": LONG_AGO}})
    counter._partitions._renewed_at = time.monotonic()


def count_waiting(db: Db) -> int:
    return db["automation_triggers"].count_documents({"outcome": {"$exists": False}})


class TestShares:
    def test_each_partition_has_one_owner(self, db: Db, make_counter: MakeCounter) -> None:
        first, second, third = (make_counter(is_dedicated=True) for _ in range(3))
        assert step(first) == [16]
        assert step(first, second) == [8, 8]
        assert sorted(step(first, second, third)) == [5, 5, 6]
        owned = [number for one in (first, second, third) for number in one._partitions.owned]
        assert Tally(owned) == Tally(range(PARTITIONS))
        second.leave()
        free = {"_id": {"$lt": PARTITIONS}, "owner": None}
        assert db["tracking_partitions"].count_documents(free) in {5, 6}
        assert step(first, third) == [8, 8]

    def test_others_count_without_a_dedicated_one(self, db: Db, make_counter: MakeCounter) -> None:
        web, other_web = make_counter(), make_counter()
        assert step(web, other_web) == [8, 8]
        dedicated = make_counter(is_dedicated=True)
        assert step(dedicated, web, other_web) == [16, 0, 0]
        assert db["tracking_partitions"].count_documents({"_id": {"$type": "string"}}) == 1
        dedicated.leave()
        assert step(web, other_web) == [8, 8]

    def test_partition_of_a_lost_counter_is_free(self, db: Db, make_counter: MakeCounter) -> None:
        counter = make_counter()
        step(counter)
        orphan = {"$set": {"owner": "counter:gone"}}
        db["tracking_partitions"].update_one({"_id": 3}, orphan)
        assert step(counter) == [16]


class TestFencing:
    def test_a_later_trigger_of_the_same_id_is_not_marked_by_an_old_batch(
        self, db: Db, storage: Storage, pair: Pair
    ) -> None:
        first, second = pair
        old = make_trigger()
        storage.store([old])
        first.step()
        # The trigger has expired, and Meta delivers its event once more.
        db["automation_triggers"].delete_many({})
        storage.store([msgspec.structs.replace(old, arrived_at=old.arrived_at + timedelta(days=8))])
        expire(db, first)
        second._look_at = 0
        with mock.patch.object(Counter, "_count_next", return_value=False):
            second.step()
        assert count_waiting(db) == 1
        second.count_all()
        assert db["automation_runs"].count_documents({}) == 2

    def test_a_transaction_under_way_is_ended_and_its_keys_are_free(
        self, db: Db, storage: Storage, pair: Pair, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        first, second = pair
        storage.store(make_people(3))
        write = first._batches._write

        def write_and_stand_still(*args: Any) -> None:
            write(*args)
            taken.append(step(second))

        taken: list[list[int]] = []
        # Its lease is renewed by the transaction only when that is committed.
        expire(db, first)
        monkeypatch.setattr(first._batches, "_write", write_and_stand_still)
        with pytest.raises(Exception) as raised:  # noqa: PT011 - what the server says to it
            first._count_next()
        first._handle_failure(raised.value)
        assert taken == [[16]]
        assert db["automation_runs"].count_documents({}) == 3
        with pytest.raises(Fenced):
            first._start_session()
        assert recount(db) == []

    def test_one_that_was_replaced_changes_nothing_any_more(self, db: Db, pair: Pair) -> None:
        first, second = pair
        expire(db, first)
        step(second)
        before = list(db["tracking_partitions"].find({"_id": {"$lt": 16}}))
        now = now_in_milliseconds()
        first._partitions._renewed_at = 0
        session_id = first._ready.session_id["id"].as_uuid()
        for write in (
            lambda: first._partitions.park(Stuck("a1", "x", now, 1, now)),
            first._partitions.renew,
            lambda: first._partitions.start_epoch(session_id),
        ):
            with pytest.raises(Fenced):
                write()
        first._partitions.leave()
        assert list(db["tracking_partitions"].find({"_id": {"$lt": 16}})) == before

    def test_several_replace_it_at_once(
        self, db: Db, storage: Storage, pair: Pair, make_counter: MakeCounter
    ) -> None:
        first, *others = *pair, *(make_counter(is_dedicated=True) for _ in range(3))
        storage.store(make_people(20))
        first._batches.mark = lambda _: None  # type: ignore[method-assign]
        first._count_next()
        expire(db, first)
        barrier = threading.Barrier(4)

        def replace(one: Counter) -> None:
            barrier.wait()
            step(one)

        with ThreadPoolExecutor(4) as pool:
            list(pool.map(replace, others))
        assert step(*others) == [4, 4, 4, 4]
        assert recount(db) == []

    def test_one_that_is_alive_is_let_be(self, db: Db, pair: Pair) -> None:
        first, second = pair
        expire(db, first)
        overview = second._partitions.look()
        [dead] = overview.list_dead()
        first._partitions._renewed_at = 0
        first._partitions.renew()
        assert second._partitions.fence(dead) is None
        assert step(first) == [16]


class TestProcesses:
    def test_a_kill_in_mid_batch_holds_nobody_up_for_more_than_three_seconds(
        self, db: Db, mongodb_server: str, storage: Storage, make_counter: MakeCounter
    ) -> None:
        storage.store(make_people(5))
        with start_counting_process(mongodb_server, db.name) as process:
            counter = make_counter()
            counter.start()
            process.send_signal(signal.SIGKILL)
            assert wait_until(lambda: not count_waiting(db)) < 3.5
            counter.close()
        assert recount(db) == []

    def test_a_process_that_stands_still_and_goes_on_writes_nothing(
        self, db: Db, mongodb_server: str, storage: Storage, make_counter: MakeCounter
    ) -> None:
        storage.store(make_people(5))
        counter = make_counter(is_dedicated=True)
        with start_counting_process(mongodb_server, db.name) as process:
            process.send_signal(signal.SIGSTOP)
            counter.start()
            wait_until(lambda: not count_waiting(db))
            storage.store(make_people(5, arrived_at=now_in_milliseconds()))
            wait_until(lambda: not count_waiting(db))
            process.send_signal(signal.SIGCONT)
            # It takes part again under another name, with its share.
            wait_until(lambda: len(counter._partitions.owned) == 8, seconds=15)
            storage.store(make_people(5, automation_id="a2", arrived_at=now_in_milliseconds()))
            wait_until(lambda: not count_waiting(db))
            counter.close()
        assert db["automation_runs"].count_documents({}) == 15
        assert recount(db) == []
