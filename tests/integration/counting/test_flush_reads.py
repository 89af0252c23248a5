"""What a flush reads before it decides: in one command, and in three where there are shards."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from pymongo.database import Database

from tests.integration.conftest import MakeFlusher, Recorder, flush
from tests.support.recount import recount
from tests.support.triggers import T0, WINDOW, make_people, make_trigger
from tracking.counting.reads import FlushReads, Found
from tracking.counting.switch import Switch, SwitchState
from tracking.ids import build_contact_id, build_trigger_id
from tracking.mongo.transactions import SNAPSHOT
from tracking.runs import Claim, Outcome

Db = Database[dict[str, Any]]
KNOWN = make_trigger(user_id="p1", event_id="known")
NEW = make_trigger(user_id="p1", event_id="new")
TRIGGER_IDS = [build_trigger_id(t.account_id, t.kind, t.event_id) for t in (KNOWN, NEW)]
CONTACT_IDS = [build_contact_id(t.automation_id, t.user_id) for t in (KNOWN, NEW)]


def find(db: Db, *, is_sharded: bool) -> Found:
    reads = FlushReads(db)
    how = reads.find_one_by_one if is_sharded else reads.find_at_once
    with db.client.start_session() as session, session.start_transaction(read_concern=SNAPSHOT):
        return how(dict(zip(TRIGGER_IDS, CONTACT_IDS, strict=True)), session)


@pytest.mark.parametrize("is_sharded", [False, True])
@pytest.mark.parametrize("state", [SwitchState.ON, SwitchState.OFF, SwitchState.CATCHING_UP, None])
def test_finds_triggers_contacts_and_the_switch(
    db: Db, make_flusher: MakeFlusher, state: SwitchState | None, is_sharded: bool
) -> None:
    flush(make_flusher(db), KNOWN)
    if state is not None:
        db["tracking_switch"].insert_one({"_id": "tracking", "state": state.value})
    db["tracking_switch"].insert_one({"_id": "stripe:0", "state": "off"})
    [run] = db["automation_runs"].find()
    claim = Claim(last_run_at=T0, last_run_id=run["_id"], is_stored=True)
    assert find(db, is_sharded=is_sharded) == Found(
        {TRIGGER_IDS[0]}, {CONTACT_IDS[0]: claim}, Switch(state or SwitchState.ON)
    )


@pytest.mark.parametrize("is_sharded", [False, True])
def test_a_hold_of_the_switch_is_seen_until_it_ends(db: Db, is_sharded: bool) -> None:
    held = {"_id": "tracking", "state": "catching_up", "heldUntil": T0 + timedelta(days=36_500)}
    db["tracking_switch"].insert_one(held | {"erasedUntil": T0})
    assert find(db, is_sharded=is_sharded).switch == Switch(SwitchState.HELD, T0)
    db["tracking_switch"].update_one({}, {"$set": {"heldUntil": T0 - timedelta(days=36_500)}})
    assert find(db, is_sharded=is_sharded).switch.state is SwitchState.CATCHING_UP


@pytest.mark.parametrize("is_sharded", [False, True])
def test_a_database_without_collections_holds_nothing(bare_db: Db, is_sharded: bool) -> None:
    assert find(bare_db, is_sharded=is_sharded) == Found(set(), {}, Switch(SwitchState.ON))


def test_a_cluster_with_shards_counts_as_well(db: Db, make_flusher: MakeFlusher) -> None:
    flusher = make_flusher(db)
    flusher._transaction._reads._is_sharded = True
    people = make_people(300)
    assert flush(flusher, *people) == [Outcome.COUNTED] * 300
    assert flush(flusher, *people, seconds=10) == [Outcome.REDELIVERED] * 300
    again = make_trigger(user_id=people[0].user_id, arrived_at=T0 + WINDOW)
    assert flush(flusher, again) == [Outcome.DUPLICATE]
    assert recount(db) == []


def test_a_large_replay_reads_no_contacts(
    db: Db, recorded_db: Db, recorder: Recorder, make_flusher: MakeFlusher
) -> None:
    people = make_people(200)
    flusher = make_flusher(recorded_db)
    assert flush(flusher, *people, seconds=10) == [Outcome.COUNTED] * 200
    recorder.events.clear()
    assert flush(flusher, *people, seconds=10) == [Outcome.REDELIVERED] * 200
    reads = [event.command["find"] for event in recorder.events if event.command_name == "find"]
    assert reads == ["automation_triggers", "automation_run_stats"]
    assert recount(db) == []


def test_a_flush_is_so_many_commands(
    db: Db, recorded_db: Db, recorder: Recorder, make_flusher: MakeFlusher
) -> None:
    """Each is a wait for the server, and for the interpreter's lock: together most of a flush."""
    db["automations"].insert_one({"_id": "a1", "totalRuns": 0})
    flusher = make_flusher(recorded_db)
    flush(flusher, *make_people(3))
    recorder.events.clear()
    flush(flusher, *make_people(6))
    assert [event.command_name for event in recorder.events] == [
        "aggregate", "insert", "insert", "insert", "update", "commitTransaction", "find", "update",
    ]  # fmt: skip
