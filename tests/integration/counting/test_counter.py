import random
import threading
from datetime import datetime, timedelta
from typing import Any

import pytest
from bson import ObjectId
from prometheus_client import REGISTRY
from pymongo.errors import AutoReconnect, NetworkTimeout

from tests.integration.conftest import Db, MakeTracker, Recorder
from tests.support.laboratory import lose_commit_replies
from tests.support.oracle import recount
from tests.support.tracker import Tracker
from tests.support.triggers import MILLISECOND, T0, WINDOW, make_people, make_run, make_trigger
from tests.support.waiting import wait_until
from tracking.clock import read_now
from tracking.counting import counter as counter_module
from tracking.counting.partitions import list_stuck, retry_stuck
from tracking.ids import lane_of, partition_of
from tracking.mongo.transactions import CommitUnclear
from tracking.rollups.hours import hour_of
from tracking.rollups.totals import TotalStore
from tracking.runs import Outcome

COUNTED, DUPLICATE, CONTINUATION = Outcome.COUNTED, Outcome.DUPLICATE, Outcome.CONTINUATION


def get_counters(db: Db) -> list[dict[str, Any]]:
    return list(db["tracking_partitions"].find({"_id": {"$type": "string"}}))


class TestBatch:
    def test_all_that_a_run_leaves_behind(self, db: Db, tracker: Tracker) -> None:
        key = ObjectId()
        db["automations"].insert_one({"_id": key, "totalRuns": 3, "lastRunAt": None})
        fields = {"automation_key": key, "automation_id": str(key)}
        outcomes = tracker.record(
            make_trigger(event_id="e", occurred_at=T0 - WINDOW, source="sweep", **fields),
            make_trigger(arrived_at=T0 + WINDOW, **fields),
        )
        assert outcomes == [COUNTED, DUPLICATE]
        [run] = db["automation_runs"].find()
        assert run == {
            "_id": run["_id"], "automationId": str(key), "workspaceId": "w1", "userId": "p1",
            "triggerType": "comment_reply", "createdAt": T0, "occurredAt": T0 - WINDOW,
            "eventId": "e", "source": "sweep",
            "metadata": {"messageText": "LINK please", "postId": "m1"},
        }  # fmt: skip
        assert list(db["automation_contacts"].find()) == [{
            "_id": f"{key}:p1", "automationId": str(key), "workspaceId": "w1", "userId": "p1",
            "firstRunAt": T0, "lastRunAt": T0, "lastRunId": run["_id"], "runs": 1,
        }]  # fmt: skip
        [stats] = db["automation_run_stats"].find()
        assert (stats["_id"], stats["base"], stats["runs"]) == (f"{key}:b", 3, 4)
        assert stats["h"] == {
            str(hour_of(T0)): {"n": 1, "m": {"20": 1}, "p": {"1": 1}},
            str(hour_of(T0) + 1): {"d": {"1": 1}},
        }
        [automation] = db["automations"].find()
        assert (automation["totalRuns"], automation["lastRunAt"]) == (4, T0)
        for trigger in db["automation_triggers"].find():
            assert trigger["runId"] == run["_id"]
            assert trigger["expireAt"] > read_now() + timedelta(days=6)
            assert not {"partition", "metadata"} & trigger.keys()
        assert recount(db) == []

    def test_what_has_to_be_sent_is_kept_longer(self, db: Db, tracker: Tracker) -> None:
        tracker.record(make_trigger(send={"via": "instagram"}))
        [trigger] = db["automation_triggers"].find()
        assert (trigger["state"], trigger["outcome"]) == ("queued", "counted")
        assert trigger["expireAt"] > read_now() + timedelta(days=13)

    def test_few_commands_count_many_triggers(
        self, recorded_db: Db, recorder: Recorder, make_tracker: MakeTracker
    ) -> None:
        tracker = make_tracker(recorded_db)
        tracker.record(*make_people(20), *make_people(20, automation_id="a2"))
        again = T0 + 2 * WINDOW
        tracker.store(*make_people(40, arrived_at=again), *make_people(20, automation_id="a3"))
        tracker.counter.count_all()
        tracker.store(*make_people(60, arrived_at=again + 2 * WINDOW))
        recorder.events.clear()
        assert tracker.counter.step()
        names = [one.command_name for one in recorder.events]
        assert names == [
            "find", "find",  # is anything waiting, and is counting on
            "find", "find", "find", "update",  # triggers, totals, contacts; the decisions
            "insert", "update", "insert", "update", "update", "commitTransaction",
            "update",
        ]  # fmt: skip
        recorder.events.clear()
        assert not tracker.counter.step()
        assert len(recorder.events) == 1

    def test_what_an_older_product_counted_stays_and_its_runs_are_duplicated(
        self, db: Db, tracker: Tracker
    ) -> None:
        db["automations"].insert_one({"_id": "a1", "totalRuns": 5, "lastRunAt": T0 - 9 * WINDOW})
        db["automation_runs"].insert_many([make_run("a1", T0), make_run("a1", T0 - 9 * WINDOW)])
        late = [T0 - WINDOW, T0 - WINDOW - MILLISECOND, T0 - 8 * WINDOW]
        assert tracker.record(*(make_trigger(arrived_at=at) for at in late)) == [
            DUPLICATE, COUNTED, DUPLICATE,
        ]  # fmt: skip
        later = T0 + WINDOW
        assert tracker.record(make_trigger(arrived_at=later)) == [DUPLICATE]
        assert tracker.record(make_trigger(arrived_at=later + MILLISECOND)) == [COUNTED]
        automation = db["automations"].find_one() or {}
        assert (automation["totalRuns"], automation["lastRunAt"]) == (7, later + MILLISECOND)
        assert recount(db) == []

    def test_batches_of_any_size_count_the_same(self, db: Db, tracker: Tracker) -> None:
        chance = random.Random(1)
        triggers = [
            make_trigger(
                automation_id=chance.choice(["a1", "a2", "a3"]), user_id=chance.choice("pqrs"),
                arrived_at=T0 + chance.randrange(40) * WINDOW / 4,
            )
            for _ in range(120)
        ]  # fmt: skip
        tracker.counter._most = 1
        tracker.store(*triggers)
        tracker.count()
        assert recount(db) == []
        expected = set()
        newest: dict[Any, datetime] = {}
        for one in sorted(triggers, key=lambda one: one.arrived_at):
            pair = one.automation_id, one.user_id
            if pair not in newest or one.arrived_at > newest[pair] + WINDOW:
                newest[pair] = one.arrived_at
                expected.add((*pair, one.arrived_at))
        runs = db["automation_runs"].find()
        assert {(one["automationId"], one["userId"], one["createdAt"]) for one in runs} == expected

    def test_metrics_tell(self, tracker: Tracker) -> None:
        def read(name: str, **labels: str) -> float:
            return REGISTRY.get_sample_value(name, labels) or 0

        names = ["stored", "counted", "duplicate", "continuation"]
        before = [read("tracking_triggers_total", outcome=one) for one in names]
        batches = read("tracking_batch_events_count")
        tracker.record(make_trigger(), make_trigger(), make_trigger(continues="x"))
        after = [read("tracking_triggers_total", outcome=one) for one in names]
        assert [now - then for now, then in zip(after, before, strict=True)] == [3, 1, 1, 1]
        assert read("tracking_batch_events_count") == batches + 1

    def test_a_clock_that_is_ahead_holds_nothing_up(self, db: Db, tracker: Tracker) -> None:
        now = read_now()
        tracker.record(make_trigger(arrived_at=now + timedelta(hours=3)))
        assert tracker.counter._since < now
        tracker.record(make_trigger(arrived_at=now, automation_id="a2"))
        assert recount(db, at=now) == []


class TestFailure:
    def test_a_commit_whose_reply_is_lost_counts_once(self, db: Db, tracker: Tracker) -> None:
        tracker.record(make_trigger(user_id="first"))
        tracker.store(*make_people(3), make_trigger(user_id="p1"))
        with lose_commit_replies(db.client, 1), pytest.raises(CommitUnclear) as raised:
            tracker.count()
        tracker.counter._handle_failure(raised.value)
        assert db["automation_triggers"].count_documents({"partition": {"$exists": True}}) == 4
        tracker.count()
        assert db["automation_runs"].count_documents({}) == 4
        assert get_counters(db)[0]["epoch"] == 2
        assert recount(db) == []

    def test_a_trigger_whose_run_exists_is_only_marked(self, db: Db, tracker: Tracker) -> None:
        tracker.record(*make_people(2))
        before = list(db["automations"].find())
        # As a backup does that was taken in between; its contact is gone, too.
        change = {"$set": {"partition": partition_of("a1")}, "$unset": {"outcome": ""}}
        db["automation_triggers"].update_one({"userId": "p1"}, change)
        contact = db["automation_contacts"].find_one_and_delete({"userId": "p1"})
        tracker.count()
        db["automation_contacts"].insert_one(contact)
        assert list(db["automations"].find()) == before
        assert recount(db) == []

    def test_slow_servers_get_fewer(self, tracker: Tracker, monkeypatch: Any) -> None:
        tracker.store(*make_people(40))
        write_all = tracker.counter._batches._write

        def write(session: Any, documents: Any, *args: Any) -> None:
            if len(documents) > 10:
                raise AutoReconnect("timed out")
            write_all(session, documents, *args)

        monkeypatch.setattr(tracker.counter._batches, "_write", write)
        failures = 0
        while True:
            try:
                tracker.count()
                break
            except AutoReconnect as error:
                tracker.counter._handle_failure(error)
                failures += 1
        assert failures in range(7, 12)
        assert tracker.counter._most > 10


class TestStuck:
    @pytest.fixture(autouse=True)
    def _clean(self, db: Db) -> Any:
        yield
        for name in ("automation_runs", "automation_contacts"):
            db.command("collMod", name, validator={})
        if "odd" in db["automation_runs"].index_information():
            db["automation_runs"].drop_index("odd")

    def deliver(self, tracker: Tracker, number: int) -> None:
        """Store a trigger of each of six automations, `bad` among them."""
        at = T0 + number * 2 * WINDOW
        names = ["a1", "a2", "bad", "a3", "a4", "a5"]
        tracker.store(*(make_trigger(automation_id=one, arrived_at=at) for one in names))

    def get_stuck(self, db: Db, reason: str) -> None:
        [stuck] = list_stuck(db)
        assert (stuck.automation_id, stuck.reason) == ("bad", reason)

    @pytest.mark.parametrize("kind", ["index", "validator", "poison", "lock"])
    def test_one_automation_waits_and_all_others_are_counted(
        self, db: Db, tracker: Tracker, kind: str, caplog: pytest.LogCaptureFixture
    ) -> None:
        self.deliver(tracker, 0)
        tracker.count()
        reason = {
            "index": "a unique index on (odd) refuses its runs: drop that index",
            "validator": "a validator of the collection refuses our documents",
            "poison": "unexpected error: KeyError",
            "lock": "another program holds its documents",
        }[kind]
        session = db.client.start_session()
        if kind == "index":
            db["automation_runs"].update_many({"automationId": "bad"}, {"$set": {"odd": None}})
            partial = {"automationId": "bad"}
            db["automation_runs"].create_index(
                [("odd", 1)], name="odd", unique=True, partialFilterExpression=partial
            )
        elif kind == "validator":
            rule = {"automationId": {"$ne": "bad"}}
            db.command("collMod", "automation_runs", validator=rule)
        self.deliver(tracker, 1)
        if kind == "poison":
            db["automation_triggers"].update_one(
                {"automationId": "bad", "partition": {"$exists": True}},
                {"$rename": {"userId": "hidden"}},
            )
        elif kind == "lock":
            session.start_transaction()
            db["automation_run_stats"].update_one(
                {"_id": "bad:b"}, {"$inc": {"held": 1}}, session=session
            )
        tracker.count()
        self.get_stuck(db, reason)
        assert db["automation_runs"].count_documents({}) == 6 + 5
        assert f"❌ [TRACKING] Automation bad cannot be counted: {reason}" in caplog.messages

        self.deliver(tracker, 2)
        tracker.count()
        assert db["automation_runs"].count_documents({}) == 6 + 5 + 5
        number = partition_of("bad")
        lanes = sorted(one["partition"] for one in db["automation_triggers"].find(
            {"partition": {"$exists": True}}))  # fmt: skip
        assert lanes == [lane_of(number)] * 2

        if kind == "index":
            db["automation_runs"].drop_index("odd")
        elif kind == "validator":
            db.command("collMod", "automation_runs", validator={})
        elif kind == "poison":
            db["automation_triggers"].update_many({}, {"$rename": {"hidden": "userId"}})
        else:
            session.abort_transaction()
        session.end_session()
        self.deliver(tracker, 3)
        assert retry_stuck(db, now=read_now()) == 1
        tracker.counter._look_at = 0
        tracker.count()
        assert list_stuck(db) == []
        assert db["automation_runs"].count_documents({}) == 6 * 4
        assert recount(db) == []

    def test_it_is_tried_again_with_growing_pauses(
        self, db: Db, tracker: Tracker, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        now = read_now()
        monkeypatch.setattr(counter_module, "read_now", lambda: now)
        db.command("collMod", "automation_contacts", validator={"automationId": {"$ne": "bad"}})
        self.deliver(tracker, 0)
        pauses = []
        for _ in range(12):
            tracker.count()
            [stuck] = list_stuck(db)
            pauses.append((stuck.retry_at - now).total_seconds())
            now = stuck.retry_at
        assert pauses == [1, 2, 4, 8, 16, 32, 64, 128, 256, 300, 300, 300]

    def test_two_of_them_stand_beside_each_other(self, db: Db, tracker: Tracker) -> None:
        rule = {"automationId": {"$nin": ["a2", "bad"]}}
        db.command("collMod", "automation_contacts", validator=rule)
        self.deliver(tracker, 0)
        tracker.count()
        assert {one.automation_id for one in list_stuck(db)} == {"a2", "bad"}
        assert db["automation_runs"].count_documents({}) == 4

    def test_earlier_runs_that_take_long_to_count_hold_up_their_automation_alone(
        self, db: Db, tracker: Tracker, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        build = TotalStore.build_bases

        def time_out(self: TotalStore, keys: Any, *args: Any) -> Any:
            if threading.current_thread() is threading.main_thread() and "bad" in keys:
                raise NetworkTimeout("timed out")
            return build(self, keys, *args)

        monkeypatch.setattr(TotalStore, "build_bases", time_out)
        monkeypatch.setattr(counter_module, "_BASE_SECONDS", 0.05)
        tracker.store(make_trigger(automation_id="bad"))
        tracker.count()
        self.get_stuck(db, "its earlier runs are being counted")
        tracker.record(*make_people(3))
        assert tracker.counter._base_thread is not None
        tracker.counter._base_thread.join(5)
        retry_stuck(db, now=read_now())
        tracker.counter._look_at = 0
        tracker.count()
        assert list_stuck(db) == []
        assert recount(db) == []


def test_what_cannot_fold_holds_nothing_up(db: Db, tracker: Tracker, caplog: Any) -> None:
    tracker.record(make_trigger(), make_trigger(automation_id="a2"))
    db["automation_run_stats"].update_one({"_id": "a1:b"}, {"$set": {"h.odd": 1}})
    tracker.counter._fold_at = 0
    tracker.counter.step()
    tracker.record(make_trigger(automation_id="a3"))
    assert "not folded: unexpected error: ValueError" in caplog.text
    base = db["automation_run_stats"].find_one({"_id": "a2:b"}) or {}
    assert base["h"] == {}


def test_a_thread_counts_at_once_when_it_is_woken(db: Db, make_tracker: MakeTracker) -> None:
    tracker = make_tracker(db)
    tracker.counter.start()
    wait_until(lambda: tracker.counter._partitions.owned, seconds=5)
    waiting = {"outcome": {"$exists": False}}
    for number in range(10):
        tracker.store(make_trigger(user_id=f"p{number}"))
        tracker.counter.wake()
        wait_until(lambda: not db["automation_triggers"].count_documents(waiting), seconds=1)
    tracker.counter.close()
    assert get_counters(db) == []
    assert recount(db) == []
