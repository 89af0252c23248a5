from typing import Any

import pytest
from bson import ObjectId

from tests.integration.conftest import Db
from tests.support.oracle import recount
from tests.support.triggers import MILLISECOND, T0, WINDOW, make_run, make_trigger
from tests.support.uncounted import count_everything
from tracking import service
from tracking.rollups.hours import hour_of

RUNS, CONTACTS, TRIGGERS = "automation_runs", "automation_contacts", "automation_triggers"
STATS, AUTOMATIONS = "automation_run_stats", "automations"
# The automation, the person and the arrival of each event.
EVENTS = [("a1", "p1", T0), ("a1", "p1", T0), ("a1", "p2", T0 + WINDOW), ("a2", "p2", T0)]
DUPLICATE, COUNTED = {"outcome": "duplicate"}, {"outcome": "counted", "userId": "p1"}


def build_acknowledged(*people: tuple[str, str]) -> dict[str, tuple[str, str]]:
    """Return what must be stored when events of these automations and people were acknowledged."""
    return {f"17841400000000001:comment:e{number}": one for number, one in enumerate(people)}


ACKNOWLEDGED = [(automation, person) for automation, person, _ in EVENTS]


@pytest.fixture(autouse=True)
def _counted(db: Db) -> None:
    """Runs of two automations, of which one had some before us, and a duplicate."""
    db["automations"].insert_one({"_id": "a1", "totalRuns": 5, "lastRunAt": T0 - 9 * WINDOW})
    db[RUNS].insert_one(make_run("a1", T0 - 9 * WINDOW))
    service.record_triggers([
        make_trigger(automation_id=automation, user_id=person, arrived_at=at, event_id=f"e{number}")
        for number, (automation, person, at) in enumerate(EVENTS)
    ])  # fmt: skip
    count_everything(db)
    assert recount(db) == recount(db, acknowledged=build_acknowledged(*ACKNOWLEDGED)) == []


@pytest.mark.parametrize(
    ("acknowledged", "promise"),
    [
        ([*ACKNOWLEDGED, ("a1", "p1")], "I5"),
        ([*ACKNOWLEDGED, ("a1", "p4")], "I5"),
        ([*ACKNOWLEDGED[:3], ("a2", "p3")], "I5"),
        (ACKNOWLEDGED[:3], "I3"),
    ],
    ids=["lost", "lost, of somebody new", "of another person", "of no event"],
)
def test_acknowledged_is_stored(db: Db, acknowledged: list[tuple[str, str]], promise: str) -> None:
    found = recount(db, acknowledged=build_acknowledged(*acknowledged))
    assert {line[:2] for line in found} == {promise}


TAMPERED: list[tuple[str, Any, Any, str]] = [
    (AUTOMATIONS, {}, {"$inc": {"totalRuns": 1}}, "I4: copy of a1"),
    (AUTOMATIONS, {}, {"$inc": {"totalRuns": -1}}, "I4: copy of a1"),
    (AUTOMATIONS, {}, {"$set": {"lastRunAt": T0}}, "I4: copy of a1"),
    (STATS, {"_id": "a1:b"}, {"$inc": {"runs": 1}}, "I4: total of a1"),
    (STATS, {"_id": "a2:b"}, {"$inc": {"base": 1}}, "I4: total of a2"),
    (STATS, {"_id": "a1:b"}, {"$set": {"lastRunAt": T0}}, "I4: newest run of a1"),
    (STATS, {"_id": "a2:b"}, {"$set": {f"h.{hour_of(T0)}.m.20": 2}}, "I8: minute ('a2'"),
    (STATS, {"_id": "a1:b"}, None, "I4: a1 has counted runs and no base"),
    (CONTACTS, {"_id": "a1:p2"}, {"$set": {"lastRunAt": T0}}, "I1: contact of ('a1', 'p2')"),
    (CONTACTS, {"_id": "a1:p2"}, {"$inc": {"runs": 1}}, "I1: contact of"),
    (CONTACTS, {"_id": "a1:p1"}, None, "I1: no contact of ('a1', 'p1')"),
    (RUNS, {"userId": "p2", "automationId": "a1"}, None, "I3: a counted trigger"),
    (RUNS, {"automationId": "a2"}, None, "I1: contact of ('a2', 'p2') without"),
    (RUNS, {"eventId": "e0"}, {"$set": {"createdAt": T0 - 2 * WINDOW}}, "I2: duplicate"),
    (TRIGGERS, DUPLICATE, {"$set": {"createdAt": T0 + WINDOW + MILLISECOND}}, "I2: duplicate"),
    (TRIGGERS, DUPLICATE, {"$set": {"outcome": "counted"}}, "I3: a counted trigger"),
    (TRIGGERS, DUPLICATE, {"$unset": {"outcome": ""}}, "I5: "),
    (TRIGGERS, COUNTED, {"$set": {"outcome": "duplicate"}}, "I3: run"),
    (TRIGGERS, COUNTED, None, "I3: run"),
    (TRIGGERS, {"userId": "p2"}, {"$unset": {"outcome": ""}}, "I5: "),
    (TRIGGERS, {"userId": "p2"}, {"$set": {"partition": 1}}, "I5: "),
]


@pytest.mark.parametrize(("collection", "selection", "change", "promise"), TAMPERED)
def test_a_document_that_is_changed_or_missing_is_seen(
    db: Db, collection: str, selection: Any, change: Any, promise: str
) -> None:
    if change is None:
        assert db[collection].delete_one(selection).deleted_count == 1
    else:
        assert db[collection].update_one(selection, change).modified_count == 1
    found = recount(db)
    assert any(line.startswith(promise) for line in found), found
    # What is wrong in one place alone breaks no other promise.
    is_alone = collection == AUTOMATIONS or (selection is DUPLICATE and promise == "I5: ")
    assert not is_alone or {line[:2] for line in found} == {promise[:2]}


def test_a_counted_event_without_its_run_breaks_every_promise_about_it(db: Db) -> None:
    db[RUNS].delete_one({"automationId": "a2"})
    assert {"I1", "I3", "I4", "I8"} <= {line[:2] for line in recount(db)}


def test_a_run_inserted_twice_is_seen(db: Db) -> None:
    run = db[RUNS].find_one({"userId": "p2", "automationId": "a1"}) or {}
    db[RUNS].insert_one(run | {"_id": ObjectId()})
    found = recount(db)
    assert {"I1: two runs", "I1: contact", "I4: total"} <= {one.split(" of ")[0] for one in found}
    assert any(line.startswith("I3: run") for line in found)
    # The edge itself: at exactly an hour it is still a duplicate.
    for after, is_near in ((WINDOW, True), (WINDOW + MILLISECOND, False), (2 * WINDOW, False)):
        moved = {"$set": {"createdAt": run["createdAt"] + after}}
        db[RUNS].update_one({"_id": {"$ne": run["_id"]}, "eventId": run["eventId"]}, moved)
        found = recount(db)
        assert any(line.startswith("I1: two runs") for line in found) is is_near
        assert any(line.startswith("I3: run") for line in found)
