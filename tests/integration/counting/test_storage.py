"""Storing: one shared insert, and what a 200 may rest on."""

import os
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from bson import ObjectId
from pymongo import MongoClient
from pymongo.database import Database
from pymongo.errors import AutoReconnect, NotPrimaryError

from tests.chaos.replica_set import ReplicaSet
from tests.integration.conftest import FailPoint, Recorder
from tests.support.triggers import make_people, make_trigger
from tracking.counting import storage as storage_module
from tracking.counting.storage import Storage
from tracking.exceptions import TrackingUnavailable
from tracking.ids import partition_of
from tracking.runs import Outcome

Db = Database[dict[str, Any]]
STORED, REDELIVERED, REJECTED = Outcome.STORED, Outcome.REDELIVERED, Outcome.REJECTED


def test_an_event_is_stored_once_whatever_is_delivered_again(db: Db, storage: Storage) -> None:
    first, second = make_trigger(event_id="e"), make_trigger(event_id="e", automation_id="a2")
    assert storage.store([first, second, make_trigger()]) == [STORED, REDELIVERED, STORED]
    assert storage.store([second]) == [REDELIVERED]
    assert db["automation_triggers"].count_documents({"automationId": "a1"}) == 2


def test_a_trigger_waits_with_the_id_its_run_will_have(db: Db, storage: Storage) -> None:
    storage.store([make_trigger(), make_trigger(continues="x", run_id="r")])
    run_id, tapped = [one["runId"] for one in db["automation_triggers"].find().sort("continues")]
    assert (type(run_id), tapped) == (ObjectId, "r")
    waiting = {"expireAt": {"$exists": False}, "partition": partition_of("a1")}
    assert db["automation_triggers"].count_documents(waiting) == 2


def deep(levels: int) -> dict[str, Any]:
    metadata: dict[str, Any] = {}
    for _ in range(levels):
        metadata = {"a": metadata}
    return metadata


@pytest.mark.parametrize(
    "bad",
    [{"user_id": "\ud800"}, {"metadata": {"n": 2**64}}, {"metadata": {"o": object()}},
     {"metadata": {"text": "x" * 2**24}}, {"metadata": deep(190)}, {"metadata": deep(300)}],
    ids=["half character", "past 64 bits", "object", "16 MB", "190 levels", "300 levels"],
)  # fmt: skip
def test_what_breaks_one_trigger_refuses_that_one_alone(storage: Storage, bad: Any) -> None:
    triggers = [make_trigger(), make_trigger(**bad), make_trigger(), make_trigger()]
    assert storage.store(triggers) == [STORED, REJECTED, STORED, STORED]


def test_requests_that_come_during_an_insert_share_the_next(
    recorded_db: Db, recorder: Recorder, monkeypatch: pytest.MonkeyPatch
) -> None:
    storage = Storage(recorded_db)
    entered, opened = threading.Event(), threading.Event()
    insert_once = storage._insert_once

    def insert(*args: Any, **options: Any) -> list[Outcome]:
        entered.set()
        assert opened.wait(10)
        return insert_once(*args, **options)

    monkeypatch.setattr(storage, "_insert_once", insert)
    with ThreadPoolExecutor(16) as pool:
        answers = [pool.submit(storage.store, [make_trigger()])]
        entered.wait()
        answers += [pool.submit(storage.store, make_people(3)) for _ in range(8)]
        while storage._queued_events < 24:
            time.sleep(0.001)
        opened.set()
        assert [one.result() for one in answers] == [[STORED]] + [[STORED] * 3] * 8
    storage.close()
    assert [one.command_name for one in recorder.events] == ["insert", "insert"]
    assert [len(one.command["documents"]) for one in recorder.events] == [1, 24]


def test_what_a_lost_reply_has_stored_is_stored_and_not_redelivered(
    fragile_db: Db, victim_db: Db, monkeypatch: pytest.MonkeyPatch
) -> None:
    storage = Storage(victim_db)
    known = make_trigger()
    storage.store([known])
    command = Database.command
    lost = iter([True])

    def lose(self: Db, *args: Any, **options: Any) -> Any:
        reply = command(self, *args, **options)
        if "insert" in args[0] and next(lost, False):
            raise AutoReconnect("connection closed")
        return reply

    monkeypatch.setattr(Database, "command", lose)
    assert storage.store([make_trigger(), known, make_trigger()]) == [STORED, REDELIVERED, STORED]
    storage.close()
    assert fragile_db["automation_triggers"].count_documents({}) == 3


def test_an_election_is_outlasted(victim_db: Db, fail_point: FailPoint) -> None:
    storage = Storage(victim_db)
    with fail_point("insert", times=2, errorCode=10107):
        assert storage.store(make_people(2)) == [STORED] * 2
    storage.close()


def test_an_unavailable_database_is_an_answer_in_time(victim_db: Db, fail_point: FailPoint) -> None:
    storage = Storage(victim_db)
    started = time.monotonic()
    with fail_point("insert", errorCode=10107), pytest.raises(TrackingUnavailable):
        storage.store([make_trigger()], seconds=0.5)
    assert time.monotonic() - started < 1.0
    # A majority that does not confirm is none, whatever the primary has.
    concern = {"code": 64, "errmsg": "waiting for replication timed out"}
    with fail_point("insert", writeConcernError=concern), pytest.raises(TrackingUnavailable):
        storage.store([make_trigger()], seconds=0.5)
    storage.close()


def test_too_many_waiting_are_refused(storage: Storage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(storage_module, "QUEUE_EVENTS", 4)
    monkeypatch.setattr(storage, "_start_thread", lambda: None)
    with ThreadPoolExecutor(2) as pool:
        late = pool.submit(storage.store, make_people(4), seconds=0.5)
        while not storage._queued_events:
            time.sleep(0.001)
        with pytest.raises(TrackingUnavailable, match="too many"):
            storage.store([make_trigger()])
        with pytest.raises(TrackingUnavailable, match="in time"):
            late.result()


def test_closing_stores_the_queue_and_a_fork_leaves_it(db: Db, storage: Storage) -> None:
    storage.store([make_trigger()])
    child = os.fork()
    if not child:
        storage.close()
        os._exit(int(storage._is_closing))
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    storage.close()
    with pytest.raises(TrackingUnavailable, match="shutting down"):
        storage.store([make_trigger()])


def test_a_redelivery_waits_for_the_majority_as_well(tmp_path: Any) -> None:
    """What is known on a primary alone is undone by a failover: it may not be a 200's reason."""
    with ReplicaSet(tmp_path) as members, MongoClient[Any](members.uri, tz_aware=True) as client:
        trigger = make_trigger()
        storage = Storage(client.get_default_database())
        assert storage.store([make_trigger()], seconds=10) == [STORED]
        others = [one for one in members.members if one is not members.get_primary()]
        for one in others:
            one.stop_in_its_tracks()
        for _ in range(2):  # stored by the primary alone, and then known to it
            with pytest.raises((TrackingUnavailable, NotPrimaryError)):
                storage.store([trigger], seconds=0.8)
        for one in others:
            one.go_on()
        members.wait_until_whole()
        assert storage.store([trigger], seconds=10)[0] in {STORED, REDELIVERED}
        storage.close()
