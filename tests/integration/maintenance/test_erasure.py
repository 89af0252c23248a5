"""A person is erased: the counts stay, the id is nowhere, and what waits is decided as before."""

import os
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta
from functools import partial
from typing import Any

import bson
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.integration.conftest import Db, MakeTracker, Recorder, flow
from tests.support.oracle import recount
from tests.support.tracker import Tracker
from tests.support.triggers import MILLISECOND, T0, WINDOW, make_run, make_trigger
from tracking.clock import truncate_to_milliseconds
from tracking.counting import batch
from tracking.counting.partitions import list_stuck
from tracking.ids import build_trigger_id, partition_of
from tracking.maintenance import erasure
from tracking.maintenance.backfill import Backfill
from tracking.maintenance.erasure import Eraser, PersonStore
from tracking.queries.stats import StatsStore
from tracking.runs import Outcome, Trigger, Waiting, plan_batch

ACCOUNT = "17841400000000001"
PERSON = "5550001112223334"
SECOND = timedelta(seconds=1)
# HYPOTHESIS_PROFILE=thorough looks for longer, as tests/integration/test_state_machine.py does.
HISTORIES = 400 if os.environ.get("HYPOTHESIS_PROFILE") == "thorough" else 25


@pytest.fixture
def eraser(db: Db) -> Eraser:
    return Eraser(db)


@pytest.fixture(autouse=True)
def _automations(db: Db) -> None:
    documents = [{"_id": name, "accountId": ACCOUNT, "workspaceId": "w1"} for name in ("a1", "a2")]
    db["automations"].insert_many([*documents, {"_id": "other", "accountId": "999"}])


def wrote(at: datetime, automation: str = "a1", **fields: Any) -> Trigger:
    return make_trigger(user_id=PERSON, arrived_at=at, automation_key=automation, **fields)


def list_holders(db: Db, person: str = PERSON) -> list[str]:
    """The documents that hold the person's id, wherever in them and in raw bytes too."""
    return [
        f"{name}: {document['_id']}"
        for name in db.list_collection_names()
        for document in db[name].find()
        if person.encode() in bson.encode(document)
    ]


def list_outcomes(db: Db) -> list[str]:
    found = db["automation_triggers"].find().sort([("createdAt", 1), ("_id", 1)])
    return [one.get("outcome", "waits") for one in found]


def read_counts(db: Db, at: datetime) -> Any:
    documents = list(db["automations"].find().sort("_id", 1))
    people = {one["_id"]: db["automation_contacts"].count_documents({"automationId": one["_id"]})
              for one in documents}  # fmt: skip
    return StatsStore(db).summarize(documents, at=at), people


def test_the_id_is_nowhere_and_every_count_stays(db: Db, tracker: Tracker, eraser: Eraser) -> None:
    times = [T0, T0 + WINDOW / 2, T0 + 2 * WINDOW]
    triggers = [wrote(at, one) for one in ("a1", "a2") for at in times]
    tracker.record(*triggers, make_trigger())
    at = T0 + 3 * WINDOW
    before = read_counts(db, at)
    assert recount(db, at=at) == []
    found = PersonStore(db).list_documents(ACCOUNT, PERSON)
    assert [len(documents) for documents in found.values()] == [4, 2, 6]

    assert eraser.erase(ACCOUNT, PERSON) == Counter(runs=4, contacts=2, triggers=6)
    assert list_holders(db) == []
    assert recount(db, at=at) == []
    assert read_counts(db, at) == before
    assert not eraser.erase(ACCOUNT, PERSON)
    # Nobody can tell that one person used both automations, and what was said is gone.
    of_erased = {"userId": {"$regex": "^erased:"}}
    runs = list(db["automation_runs"].find(of_erased))
    assert len({run["userId"] for run in runs}) == 2
    assert [run["metadata"] for run in runs] == [{"postId": "m1"}] * 4
    names = {run["userId"] for run in runs}
    assert {run["eventId"] for run in runs} == names
    assert {one["userId"] for one in db["automation_triggers"].find(of_erased)} == names
    assert not list(db["automation_triggers"].find({**of_erased, "metadata": {"$exists": True}}))
    assert db["automation_runs"].count_documents({"userId": "p1"}) == 1
    assert tracker.record(triggers[0]) == [Outcome.REDELIVERED]


def test_who_writes_again_is_a_new_person(db: Db, tracker: Tracker, eraser: Eraser) -> None:
    tracker.record(wrote(T0))
    eraser.erase(ACCOUNT, PERSON)
    times = [T0 + SECOND, T0 + WINDOW]
    assert tracker.record(*map(wrote, times)) == [Outcome.COUNTED, Outcome.DUPLICATE]
    assert recount(db, at=T0 + 2 * WINDOW) == []
    base = db["automation_run_stats"].find_one({"_id": "a1:b"}) or {}
    people = sum(sum(hour.get("p", {}).values()) for hour in base["h"].values())
    assert people == db["automation_contacts"].count_documents({}) == 2
    assert eraser.erase(ACCOUNT, PERSON) == Counter(runs=1, contacts=1, triggers=2)
    assert len(db["automation_runs"].distinct("userId")) == 2
    assert recount(db, at=T0 + 2 * WINDOW) == []


def test_earlier_runs_without_a_contact(db: Db, tracker: Tracker, eraser: Eraser) -> None:
    now = truncate_to_milliseconds(datetime.now(T0.tzinfo))
    metadata = {"messageText": "hi", "postId": "m1", "username": "mia"}
    earlier = make_run("a1", now - WINDOW / 2, userId=PERSON, username="mia", metadata=metadata)
    db["automation_runs"].insert_one(earlier)
    tracker.store(wrote(now))
    assert eraser.erase(ACCOUNT, PERSON) == Counter(runs=1, triggers=1)
    tracker.count()
    assert list_outcomes(db) == ["duplicate"]
    [run] = db["automation_runs"].find()
    assert run["metadata"] == {"postId": "m1"}
    assert not {"username", "eventId"} & run.keys()
    Backfill(db, now=now, retention=None).run_batch([{"_id": "a1", "totalRuns": 0}], recount=False)
    assert recount(db, at=now + SECOND) == []


def test_the_id_at_another_account_is_another(db: Db, tracker: Tracker, eraser: Eraser) -> None:
    tracker.record(wrote(T0), wrote(T0, "other", account_id="999"))
    eraser.erase(ACCOUNT, PERSON)
    assert db["automation_runs"].count_documents({"userId": PERSON}) == 1
    assert tracker.record(wrote(T0, "other", account_id="999")) == [Outcome.DUPLICATE]
    assert eraser.erase(None, PERSON) == Counter(runs=1, contacts=1, triggers=2)
    assert list_holders(db) == []


def test_other_engines_calls_and_lost_automations(db: Db, tracker: Tracker, eraser: Eraser) -> None:
    tracker.record(wrote(T0, account_id="w1", kind="call"), wrote(T0, "gone"))
    eraser.erase(ACCOUNT, PERSON)
    assert list_holders(db) == []
    assert recount(db, at=T0 + SECOND) == []


class TestWaiting:
    """What waits to be counted is decided as if nobody had been erased."""

    TIMES = (WINDOW / 2, WINDOW, WINDOW + MILLISECOND, 2 * WINDOW, 3 * WINDOW)
    OUTCOMES = ("counted", "duplicate", "duplicate", "counted", "duplicate", "counted")

    @pytest.fixture
    def waiting(self, tracker: Tracker) -> Tracker:
        tracker.record(wrote(T0))
        tracker.store(*(wrote(T0 + after) for after in self.TIMES))
        return tracker

    def check(self, db: Db) -> None:
        assert tuple(list_outcomes(db)) == self.OUTCOMES
        assert list_holders(db) == []
        assert recount(db, at=T0 + 4 * WINDOW) == []

    def test_beside_the_moved_contact(self, db: Db, waiting: Tracker, eraser: Eraser) -> None:
        assert eraser.erase(ACCOUNT, PERSON) == Counter(runs=1, contacts=1, triggers=6)
        assert list_holders(db) == []
        waiting.count()
        self.check(db)
        assert len(db["automation_triggers"].distinct("userId")) == 1
        for run in db["automation_runs"].find():
            assert run["metadata"] == {"postId": "m1"}
            assert run["eventId"] == run["userId"]

    def test_between_the_transaction_and_the_batches(
        self, db: Db, waiting: Tracker, eraser: Eraser, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Counted when the name is set on the triggers, and `userId` not yet rewritten."""
        rewrite = Eraser._rewrite_triggers

        def count_first(self: Any, *args: Any) -> int:
            waiting.count()
            return rewrite(self, *args)

        monkeypatch.setattr(Eraser, "_rewrite_triggers", count_first)
        eraser.erase(ACCOUNT, PERSON)
        self.check(db)
        assert {str(run["metadata"]) for run in db["automation_runs"].find()} == {
            "{'postId': 'm1'}"
        }

    def test_a_batch_that_has_read_the_id_is_counted_again(
        self, db: Db, waiting: Tracker, eraser: Eraser, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        plans = 0

        def erase_first(*args: Any, **options: Any) -> Any:
            nonlocal plans
            plans += 1
            if plans == 1:
                with ThreadPoolExecutor(1) as pool:
                    pool.submit(eraser.erase, ACCOUNT, PERSON).result()
            return plan_batch(*args, **options)

        monkeypatch.setattr(batch, "plan_batch", erase_first)
        waiting.count()
        assert plans >= 2
        self.check(db)

    def test_counting_waits_for_an_erasure_that_takes_long(
        self, db: Db, waiting: Tracker, eraser: Eraser, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """It is nobody's fault: no automation is parked for it."""
        has_begun = threading.Event()
        rename = Eraser._rename_runs

        def rename_slowly(*args: Any) -> Any:
            has_begun.set()
            time.sleep(0.4)
            return rename(*args)

        monkeypatch.setattr(Eraser, "_rename_runs", rename_slowly)
        with ThreadPoolExecutor(1) as pool:
            erasing = pool.submit(eraser.erase, ACCOUNT, PERSON)
            assert has_begun.wait(10)
            waiting.count()
            erasing.result()
        assert list_stuck(db) == []
        waiting.count()
        self.check(db)

    def test_before_any_counter(self, db: Db, make_tracker: MakeTracker, eraser: Eraser) -> None:
        db["tracking_partitions"].delete_many({})
        tracker = make_tracker(db)
        tracker.store(wrote(T0))
        eraser.erase(ACCOUNT, PERSON)
        [partition] = db["tracking_partitions"].find()
        assert (partition["_id"], partition["owner"]) == (partition_of("a1"), None)
        tracker.count()
        assert list_outcomes(db) == ["counted"]


steps = st.lists(
    st.one_of(
        st.tuples(st.just("write"), st.sampled_from([0, 1, 29, 30, 31, 59, 60, 61, 119])),
        st.tuples(st.just("erase"), st.sampled_from([0, 1, 30])),
        st.tuples(st.just("count"), st.just(0)),
    ),
    min_size=2, max_size=14,
)  # fmt: skip


@settings(max_examples=HISTORIES, deadline=None, suppress_health_check=list(HealthCheck))
@given(steps=steps)
def test_erasing_changes_no_outcome(
    db: Db, eraser: Eraser, tracker: Tracker, steps: list[tuple[str, int]]
) -> None:
    """Whatever waits meanwhile: who was erased and writes again is another person, that is all."""
    for name in db.list_collection_names():
        if name not in ("automations", "tracking_partitions"):
            db[name].delete_many({})
    now = T0
    erasures = 0
    arrivals: list[Waiting] = []
    for number, (what, minutes) in enumerate(steps):
        now += timedelta(minutes=minutes, milliseconds=number % 2)
        if what == "write":
            event = f"{len(arrivals):04}"
            tracker.store(wrote(now, event_id=event))
            arrivals.append(Waiting(
                trigger_id=build_trigger_id(ACCOUNT, "comment", event), automation_id="a1",
                user_id=str(erasures), arrived_at=now, run_id=event,
            ))  # fmt: skip
        elif what == "erase":
            eraser.erase(ACCOUNT, PERSON)
            assert list_holders(db) == []
            erasures += 1
        else:
            tracker.count()
    tracker.count()

    planned = plan_batch(arrivals, claims={}, continued={}, window=WINDOW)
    found = db["automation_triggers"].find().sort("_id", 1)
    assert [one["outcome"] for one in found] == [one.outcome for one in planned]
    assert recount(db, at=now + SECOND) == []
    contacts = db["automation_contacts"].count_documents({})
    bases = db["automation_run_stats"].find({"base": {"$exists": True}})
    people = [sum(hour.get("p", {}).values()) for one in bases for hour in one["h"].values()]
    assert sum(people) == contacts


def test_under_traffic_every_name_has_one_run_a_window(
    db: Db, eraser: Eraser, make_tracker: MakeTracker
) -> None:
    """Two writers who count too, and a person who is erased again and again."""
    trackers = [make_tracker(db) for _ in range(2)]

    def write(number: int, tracker: Tracker) -> None:
        at = T0 + min(number, 150) * 2 * SECOND
        tracker.store(wrote(at), make_trigger(user_id=f"q{number % 25}", arrived_at=at))
        tracker.count()

    deadline = time.monotonic() + 30
    erasures: Counter[str] = Counter()
    first, second = (partial(write, tracker=one) for one in trackers)
    with flow(first), flow(second):
        while erasures["triggers"] < 50 and time.monotonic() < deadline:
            erasures += eraser.erase(ACCOUNT, PERSON)
    eraser.erase(ACCOUNT, PERSON)
    make_tracker(db).record(make_trigger(), seconds=20)
    assert erasures["triggers"] >= 50
    assert list_holders(db) == []
    assert recount(db, at=T0 + 3 * WINDOW) == []


def test_many_triggers_and_runs_take_several_transactions(
    db: Db, recorded_db: Db, recorder: Recorder, tracker: Tracker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(erasure, "_BATCH", 7)
    monkeypatch.setattr(erasure, "_IDS_PER_UPDATE", 5)
    tracker.record(*(wrote(T0 + number * WINDOW / 2) for number in range(40)))
    # Runs of one instant, as an older product may have stored them.
    db["automation_runs"].insert_many(
        make_run("a1", T0 - 5 * WINDOW, userId=PERSON) for _ in range(5)
    )
    tracker.store(*(wrote(T0 + number * WINDOW / 2) for number in range(40, 60)))
    runs = db["automation_runs"].count_documents({})
    report = Eraser(recorded_db).erase(ACCOUNT, PERSON)
    assert report == Counter(runs=runs, contacts=1, triggers=60)
    writes: Counter[int] = Counter()
    for command in (event.command for event in recorder.events if "txnNumber" in event.command):
        for update in command.get("updates", ()):
            ids = update["q"]["_id"]
            writes[command["txnNumber"]] += len(ids["$in"]) if isinstance(ids, dict) else 1
    # The 20 that wait, the newest runs and the owner of the partition; then one batch each.
    assert sorted(writes.values())[-2:] == [7, 20 + 7 + 1]
    tracker.count()
    assert list_holders(db) == []
    for name in ("automation_runs", "automation_contacts", "automation_triggers"):
        assert len(db[name].distinct("userId")) == 1, name
    never_erased = [
        Waiting(trigger_id=str(number), automation_id="a1", user_id="p", run_id=number,
                arrived_at=T0 + number * WINDOW / 2)
        for number in range(60)
    ]  # fmt: skip
    planned = plan_batch(never_erased, claims={}, continued={}, window=WINDOW)
    assert list_outcomes(db) == [one.outcome.value for one in planned]
