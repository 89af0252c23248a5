"""One flush on a real server: what is stored, what is answered, and what it must not do twice."""

from __future__ import annotations

import random
from datetime import timedelta
from typing import Any
from unittest import mock

import msgspec
import pytest
from bson import ObjectId
from pymongo.database import Database

from tests.integration.conftest import MakeFlusher, flush
from tests.support.recount import recount
from tests.support.triggers import MILLISECOND, T0, WINDOW, make_people, make_run, make_trigger
from tracking.counting.flush import Flusher
from tracking.ids import build_trigger_id
from tracking.mongo import client as mongo
from tracking.runs import Outcome

Db = Database[dict[str, Any]]
COUNTED, DUPLICATE, REDELIVERED = Outcome.COUNTED, Outcome.DUPLICATE, Outcome.REDELIVERED


def test_a_run_leaves_all_its_documents(db: Db, flusher: Flusher) -> None:
    db["automations"].insert_one({"_id": "a1", "name": "n", "totalRuns": 0, "lastRunAt": None})
    trigger = make_trigger(
        event_id="178_1",
        occurred_at=T0 - timedelta(seconds=2),
        send={"steps": [{"name": "comment_reply", "content": {"text": "Hi"}}]},
    )
    assert flush(flusher, trigger) == [COUNTED]

    [run] = db["automation_runs"].find()
    assert run == {
        "_id": run["_id"],
        "automationId": "a1",
        "workspaceId": "w1",
        "triggerType": "comment_reply",
        "userId": "p1",
        "metadata": {"messageText": "LINK please", "postId": "m1"},
        "createdAt": T0,
        "eventId": "178_1",
        "occurredAt": T0 - timedelta(seconds=2),
    }
    [stored] = db["automation_triggers"].find()
    # What sending needs besides is the outbox's business; it may keep a trigger for longer.
    assert stored.pop("expireAt") >= T0 + timedelta(days=7)
    stored.pop("nextAt", None)
    assert stored == {
        "_id": build_trigger_id(trigger.account_id, "comment", "178_1"),
        "accountId": trigger.account_id,
        "automationId": "a1",
        "workspaceId": "w1",
        "triggerType": "comment_reply",
        "userId": "p1",
        "createdAt": T0,
        "outcome": "counted",
        "runId": run["_id"],
        "occurredAt": T0 - timedelta(seconds=2),
        "send": trigger.send,
        "state": "queued",
    }
    [contact] = db["automation_contacts"].find()
    assert contact == {
        "_id": "a1:p1",
        "automationId": "a1",
        "workspaceId": "w1",
        "userId": "p1",
        "firstRunAt": T0,
        "lastRunAt": T0,
        "lastRunId": run["_id"],
        "runs": 1,
    }
    automation = db["automations"].find_one({"_id": "a1"})
    assert automation is not None
    assert (automation["totalRuns"], automation["lastRunAt"]) == (1, T0)
    assert automation["name"] == "n"
    assert recount(db, at=T0) == []


@pytest.mark.parametrize("outcome", ["counted", "duplicate"])
def test_a_trigger_without_anything_to_send_is_kept_for_seven_days(
    db: Db, flusher: Flusher, outcome: str
) -> None:
    flush(flusher, make_trigger(), make_trigger())
    stored = db["automation_triggers"].find_one({"outcome": outcome})
    assert stored is not None
    assert stored["expireAt"] == T0 + timedelta(days=7)
    assert "state" not in stored


def test_a_duplicate_is_stored_to_be_answered_and_not_counted(db: Db, flusher: Flusher) -> None:
    assert flush(flusher, make_trigger()) == [COUNTED]
    later = make_trigger(event_id="later", arrived_at=T0 + WINDOW, send={"steps": []})
    assert flush(flusher, later) == [DUPLICATE]
    stored = db["automation_triggers"].find_one({"outcome": "duplicate"})
    [run] = db["automation_runs"].find()
    assert stored is not None
    assert (stored["runId"], stored["state"]) == (run["_id"], "queued")
    assert recount(db) == []


@pytest.mark.parametrize("is_one_flush", [True, False])
def test_the_edge_of_the_window(db: Db, flusher: Flusher, is_one_flush: bool) -> None:
    triggers = [
        make_trigger(arrived_at=T0 + after)
        for after in (timedelta(0), WINDOW - MILLISECOND, WINDOW, WINDOW + MILLISECOND)
    ]
    if is_one_flush:
        answers = flush(flusher, *triggers)
    else:
        answers = [flush(flusher, trigger)[0] for trigger in triggers]
    assert answers == [COUNTED, DUPLICATE, DUPLICATE, COUNTED]
    contact = db["automation_contacts"].find_one()
    assert contact is not None
    assert (contact["runs"], contact["firstRunAt"]) == (2, T0)
    assert recount(db) == []


def test_the_window_is_a_setting(db: Db, make_flusher: MakeFlusher) -> None:
    flusher = make_flusher(db, window=timedelta(minutes=5))
    late = make_trigger(arrived_at=T0 + timedelta(minutes=5) + MILLISECOND)
    assert flush(flusher, make_trigger(), late) == [COUNTED, COUNTED]


def test_what_is_older_than_the_newest_run_is_a_duplicate(db: Db, flusher: Flusher) -> None:
    assert flush(flusher, make_trigger()) == [COUNTED]
    assert flush(flusher, make_trigger(arrived_at=T0 - WINDOW)) == [DUPLICATE]
    assert db["automation_contacts"].find_one({}, {"_id": 0, "lastRunAt": 1}) == {"lastRunAt": T0}
    assert recount(db) == []


def test_the_same_event_twice_in_one_flush_is_one_trigger(db: Db, flusher: Flusher) -> None:
    one = make_trigger(event_id="e")
    two = make_trigger(event_id="e", automation_id="a2", user_id="p2")
    assert flush(flusher, one, two, one) == [COUNTED, REDELIVERED, REDELIVERED]
    assert db["automation_triggers"].count_documents({}) == 1
    assert recount(db) == []


def test_ten_redeliveries_re_batched_re_ordered_under_other_rules(
    db: Db, make_flusher: MakeFlusher
) -> None:
    """I3: whatever a redelivery looks like and whoever takes it, an event is one trigger."""
    chance = random.Random(7)
    triggers = make_people(30)
    flushers = [make_flusher(db), make_flusher(db)]
    assert set(flush(flushers[0], *triggers)) == {COUNTED}
    for delivery in range(10):
        redelivered = [
            msgspec.structs.replace(
                trigger,
                automation_id=f"other-{delivery}",
                automation_key=f"other-{delivery}",
                arrived_at=T0 + delivery * timedelta(hours=10),
            )
            for trigger in chance.sample(triggers, len(triggers))
        ]
        cut = chance.randrange(1, 30)
        for part in (redelivered[:cut], redelivered[cut:]):
            assert set(flush(chance.choice(flushers), *part)) == {REDELIVERED}
    assert db["automation_triggers"].count_documents({}) == 30
    assert db["automation_runs"].count_documents({}) == 30
    assert recount(db) == []


def test_new_events_among_redeliveries_are_counted(db: Db, flusher: Flusher) -> None:
    old = make_trigger(user_id="old")
    flush(flusher, old)
    new = make_trigger(user_id="new")
    assert flush(flusher, old, new, old) == [REDELIVERED, COUNTED, REDELIVERED]
    assert recount(db) == []


def test_a_big_flush_over_many_automations(db: Db, flusher: Flusher) -> None:
    # More than the 101 documents of a cursor's first batch, in every collection.
    triggers = [
        make_trigger(automation_id=f"a{number % 150}", user_id=f"p{number % 400}")
        for number in range(900)
    ]
    answers = flush(flusher, *triggers)
    pairs = {(t.automation_id, t.user_id) for t in triggers}
    assert answers.count(COUNTED) == len(pairs)
    assert answers.count(DUPLICATE) == 900 - len(pairs)
    with mock.patch.object(flusher._transaction, "run", wraps=flusher._transaction.run) as attempt:
        assert set(flush(flusher, *triggers)) == {REDELIVERED}
    assert attempt.call_count == 1
    again = [msgspec.structs.replace(t, event_id=f"again-{t.event_id}") for t in triggers]
    assert set(flush(flusher, *again)) == {DUPLICATE}
    assert recount(db) == []


@pytest.mark.parametrize("options", [{"is_enabled": False}, {}], ids=["environment", "switch"])
@pytest.mark.parametrize("state", ["off", "catching_up", "nonsense", None])
def test_while_tracking_is_off_triggers_are_kept_untracked(
    db: Db, make_flusher: MakeFlusher, options: dict[str, Any], state: str | None
) -> None:
    if not options:
        db["tracking_switch"].insert_one({"_id": "tracking", "state": state})
    trigger = make_trigger(send={"steps": []})
    flusher = make_flusher(db, **options)
    assert flush(flusher, trigger, trigger) == [Outcome.UNTRACKED, REDELIVERED]
    assert flush(flusher, trigger) == [REDELIVERED]
    [stored] = db["automation_triggers"].find()
    assert "expireAt" not in stored
    assert stored["outcome"] == "untracked"
    assert stored["metadata"] == trigger.metadata
    assert (stored["state"], stored["send"]) == ("queued", {"steps": []})
    assert stored["runId"] is None
    assert db["automation_runs"].count_documents({}) == 0
    assert db["automation_contacts"].count_documents({}) == 0
    assert recount(db) == []


def test_the_switch_is_read_in_every_flush(db: Db, flusher: Flusher) -> None:
    switch = db["tracking_switch"]
    assert flush(flusher, make_trigger(user_id="1")) == [COUNTED]
    switch.insert_one({"_id": "tracking", "state": "off"})
    assert flush(flusher, make_trigger(user_id="2")) == [Outcome.UNTRACKED]
    switch.update_one({"_id": "tracking"}, {"$set": {"state": "on"}})
    assert flush(flusher, make_trigger(user_id="3")) == [COUNTED]
    assert recount(db) == []


class TestEarlierRuns:
    """Runs of an older product, without contacts, are kept apart from ours by the window (I1)."""

    def test_a_run_inside_the_window_is_respected(self, db: Db, flusher: Flusher) -> None:
        runs = [make_run("a1", T0 - 2 * WINDOW), make_run("a1", T0 - WINDOW)]
        db["automation_runs"].insert_many(runs)
        assert flush(flusher, make_trigger()) == [DUPLICATE]
        stored = db["automation_triggers"].find_one()
        assert stored is not None
        assert stored["runId"] == runs[1]["_id"]
        assert flush(flusher, make_trigger(arrived_at=T0 + MILLISECOND)) == [COUNTED]
        assert flush(flusher, make_trigger(arrived_at=T0 + WINDOW)) == [DUPLICATE]
        assert recount(db) == []

    def test_each_person_and_automation_has_its_own(self, db: Db, flusher: Flusher) -> None:
        db["automation_runs"].insert_many(
            [
                make_run("a1", T0 - WINDOW),
                make_run("a2", T0 - WINDOW, userId="p2"),
                make_run("a2", T0 + WINDOW / 2, userId="p3"),
            ]
        )
        triggers = [
            make_trigger(automation_id=automation_id, user_id=user_id)
            for automation_id in ("a1", "a2")
            for user_id in ("p1", "p2", "p3")
        ]
        assert flush(flusher, *triggers) == [
            *(DUPLICATE, COUNTED, COUNTED),
            *(COUNTED, DUPLICATE, DUPLICATE),
        ]
        assert recount(db) == []

    def test_long_after_they_are_not_looked_for_any_more(self, db: Db, flusher: Flusher) -> None:
        db["automation_runs"].insert_one(make_run("a1", T0 - WINDOW))
        flush(flusher, make_trigger(user_id="other", arrived_at=T0 + WINDOW))
        # Past the newest earlier run by more than the window, no run can be missed: this one
        # appears only to show that nobody looks.
        db["automation_runs"].insert_one(make_run("a1", T0 + 2 * WINDOW))
        assert flush(flusher, make_trigger(arrived_at=T0 + 2 * WINDOW)) == [COUNTED]

    def test_they_are_respected_while_the_base_cannot_be_taken(
        self, db: Db, flusher: Flusher, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(flusher._bases, "ensure", lambda triggers: None)
        db["automation_runs"].insert_one(make_run("a1", T0 - WINDOW))
        assert flush(flusher, make_trigger()) == [DUPLICATE]
        assert flush(flusher, make_trigger(user_id="p2")) == [COUNTED]


def check_base(
    db: Db, flusher: Flusher, key: Any, stored: Any, runs: int, base: int, total: int
) -> None:
    automation = {"_id": key, "totalRuns": stored, "lastRunAt": None}
    db["automations"].insert_one(automation)
    old = T0 - timedelta(days=3)
    if runs:
        db["automation_runs"].insert_many([make_run(str(key), old) for _ in range(runs)])
    trigger = make_trigger(automation_id=str(key), automation_key=key)
    assert flush(flusher, trigger) == [COUNTED]
    document = db["automation_run_stats"].find_one({"_id": f"{key}:b"})
    assert document is not None
    assert document["base"] == base
    merged = db["automations"].find_one({"_id": key})
    assert merged is not None
    assert (merged["totalRuns"], merged["lastRunAt"]) == (total, T0)
    assert isinstance(merged["totalRuns"], int)
    assert not isinstance(merged["totalRuns"], bool)
    assert recount(db) == []


class TestBase:
    """What an automation had before us is taken once, and never lost or counted again (I4)."""

    @pytest.mark.parametrize("key", ["a1", "65f0c0ffee65f0c0ffee65f0", ObjectId(), 7])
    @pytest.mark.parametrize(
        ("stored", "runs", "base", "total"),
        [(0, 0, 0, 1), (5, 0, 5, 6), (5, 2, 3, 6), (2, 5, 0, 6)],
    )
    def test_base_and_total(
        self, db: Db, flusher: Flusher, key: Any, stored: Any, runs: int, base: int, total: int
    ) -> None:
        check_base(db, flusher, key, stored, runs, base, total)

    @pytest.mark.parametrize(
        ("stored", "runs", "base", "total"),
        [
            (None, 2, 0, 3),
            ("12", 2, 0, 3),
            (True, 0, 0, 1),
            (4.0, 1, 3, 5),
            (-3, 1, 0, 2),
            (float("nan"), 1, 0, 2),
            (float("inf"), 1, 0, 2),
            (float("-inf"), 1, 0, 2),
            (1e300, 1, 0, 2),
            (2**63 - 1, 1, 0, 2),
            ({"n": 1}, 1, 0, 2),
        ],
    )
    def test_nonsense_is_no_total(
        self, db: Db, flusher: Flusher, stored: Any, runs: int, base: int, total: int
    ) -> None:
        check_base(db, flusher, ObjectId(), stored, runs, base, total)

    @pytest.mark.parametrize(
        ("last_run_at", "newest"),
        [(T0 + WINDOW, T0 + WINDOW), (T0 - WINDOW, T0), ("yesterday", T0), (None, T0)],
    )
    def test_the_newest_run_never_moves_back(
        self, db: Db, flusher: Flusher, last_run_at: Any, newest: Any
    ) -> None:
        automation = {"_id": "a1", "totalRuns": 3, "lastRunAt": last_run_at}
        db["automations"].insert_one(automation)
        flush(flusher, make_trigger())
        merged = db["automations"].find_one()
        assert merged is not None
        assert (merged["totalRuns"], merged["lastRunAt"]) == (4, newest)

    def test_an_automation_without_fields_gets_them(self, db: Db, flusher: Flusher) -> None:
        key = ObjectId()
        db["automations"].insert_one({"_id": key, "name": "old"})
        flush(flusher, make_trigger(automation_id=str(key), automation_key=key))
        merged = db["automations"].find_one()
        assert merged is not None
        assert (merged["totalRuns"], merged["lastRunAt"], merged["name"]) == (1, T0, "old")

    def test_it_is_taken_once(self, db: Db, make_flusher: MakeFlusher) -> None:
        db["automations"].insert_one({"_id": "a1", "totalRuns": 10})
        for number in range(3):
            flush(make_flusher(db), make_trigger(user_id=f"p{number}"))
        # An older product that still runs writes what it believes.
        db["automations"].update_one({"_id": "a1"}, {"$set": {"totalRuns": 4}})
        flush(make_flusher(db), make_trigger(user_id="last"))
        merged = db["automations"].find_one()
        assert merged is not None
        assert merged["totalRuns"] == 14
        assert recount(db) == []

    def test_runs_counted_before_it_could_be_taken_are_not_in_it(
        self, db: Db, make_flusher: MakeFlusher, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        db["automations"].insert_one({"_id": "a1", "totalRuns": 2})
        db["automation_runs"].insert_many([make_run("a1", T0 - 2 * WINDOW)] * 1)
        early = make_flusher(db)
        monkeypatch.setattr(early._bases, "ensure", lambda triggers: None)
        assert flush(early, *make_people(4)) == [COUNTED] * 4
        unmerged = db["automations"].find_one()
        assert unmerged is not None
        assert unmerged["totalRuns"] == 2  # nothing is merged without a base
        flush(make_flusher(db), make_trigger(user_id="late"))
        merged = db["automations"].find_one()
        assert merged is not None
        assert merged["totalRuns"] == 7
        assert recount(db) == []

    def test_an_automation_that_was_deleted_stays_deleted(self, db: Db, flusher: Flusher) -> None:
        db["automations"].insert_one({"_id": "a1"})
        flush(flusher, make_trigger())
        db["automations"].delete_one({"_id": "a1"})
        assert flush(flusher, make_trigger(user_id="p2")) == [COUNTED]
        assert db["automations"].count_documents({}) == 0


class TestMerge:
    """`totalRuns` and `lastRunAt` of `automations` are copies that only grow (I4, I5)."""

    def test_a_redelivery_mends_what_a_merge_missed(
        self, db: Db, flusher: Flusher, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        db["automations"].insert_one({"_id": "a1"})
        trigger = make_trigger()
        with monkeypatch.context() as patch:
            patch.setattr(flusher, "_merge", lambda *_: None)
            assert flush(flusher, trigger) == [COUNTED]
        assert recount(db) != []
        assert flush(flusher, trigger) == [REDELIVERED]
        assert recount(db) == []

    def test_an_older_merge_does_not_win(self, db: Db, flusher: Flusher) -> None:
        db["automations"].insert_one({"_id": "a1", "totalRuns": 0})
        flush(flusher, make_trigger())
        ahead = {"totalRuns": 50, "lastRunAt": T0 + WINDOW}
        db["automations"].update_one({"_id": "a1"}, {"$set": ahead})
        flush(flusher, make_trigger(user_id="p2"))
        merged = db["automations"].find_one()
        assert merged is not None
        assert {name: merged[name] for name in ahead} == ahead

    def test_totals_are_sixty_four_bit(self, db: Db, flusher: Flusher) -> None:
        db["automations"].insert_one({"_id": "a1", "totalRuns": 2**31 - 1})
        flush(flusher, *make_people(3))
        found = db["automations"].find_one({"totalRuns": {"$type": "long"}})
        assert found is not None
        assert found["totalRuns"] == 2**31 + 2


def test_two_writers_count_on_two_stripes(db: Db, make_flusher: MakeFlusher) -> None:
    one, two = make_flusher(db), make_flusher(db)
    flush(one, make_trigger(user_id="p1"))
    flush(two, make_trigger(user_id="p2"))
    live = db["automation_run_stats"].find({"stripe": {"$exists": True}})
    assert {document["stripe"]: document["runs"] for document in live} == {0: 1, 1: 1}
    assert recount(db) == []


def test_a_uri_that_prefers_secondaries_still_writes_and_reads_at_the_primary(
    db: Db, make_flusher: MakeFlusher, settings: Any
) -> None:
    settings.MONGODB_URI += "&readPreference=secondary&serverSelectionTimeoutMS=300"
    flusher = make_flusher(mongo.get_database())
    assert flush(flusher, make_trigger()) == [COUNTED]
    assert recount(mongo.get_database()) == []
    flusher.close()
