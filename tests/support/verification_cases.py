"""A database where all is well, the ways to break it, and what `verify_run_tracking` says."""

import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from io import StringIO
from typing import Any

from bson import Int64, ObjectId
from django.core.management import call_command
from pymongo.database import Database

from tests.support.triggers import make_run, make_trigger, now_in_milliseconds
from tests.support.uncounted import count_everything
from tracking import service
from tracking.counting.partitions import Stuck, build_stuck
from tracking.counting.storage import Storage
from tracking.counting.switch import SwitchState, write_switch
from tracking.ids import partition_of
from tracking.rollups.folding import Folder
from tracking.rollups.hours import hour_of

Document = dict[str, Any]
Fault = Callable[[Database[Document]], None]
DAY = timedelta(days=1)
HOUR = timedelta(hours=1)
KEY = ObjectId("65f0c0ffee65f0c0ffee65f0")
NAME = str(KEY)
COUNTS = "totals against hours"
COPIES = "copies in automations against totals"


def verify(*options: str) -> tuple[int, dict[str, Document]]:
    """Return the exit code and the findings by what was looked at."""
    out = StringIO()
    code = 0
    try:
        call_command("verify_run_tracking", "--json", *options, stdout=out)
    except SystemExit as error:
        code = int(error.code or 0)
    document = json.loads(out.getvalue())
    assert document["ok"] is (code == 0)
    return code, {one["what"]: one for one in document["findings"]}


def list_wrong(*options: str) -> list[str]:
    """Return what is wrong; the code says the same."""
    code, findings = verify(*options)
    wrong = [what for what, one in findings.items() if one["state"] == "wrong"]
    assert code == bool(wrong)
    assert all(findings[what]["fix"] for what in wrong)
    return wrong


def fill(db: Database[Document]) -> None:
    """Make a database of an older product that was brought up to date, and counts since."""
    now = now_in_milliseconds()
    shared = {
        "accountId": "acc",
        "workspaceId": "w1",
        "isActive": True,
        "type": "comment_to_dm",
        "trigger": {"match": "any"},
    }
    db["automations"].insert_many([
        {**shared, "_id": KEY},
        {**shared, "_id": "a2", "totalRuns": 40, "lastRunAt": None},
        {**shared, "_id": "new", "isActive": False, "totalRuns": 0, "lastRunAt": None},
    ])  # fmt: skip
    db["automation_runs"].insert_many(
        [make_run(NAME, now - number * 6 * HOUR, userId=f"old{number % 9}") for number in range(40)]
    )
    call_command("add_run_fields", stdout=StringIO())
    triggers = [
        make_trigger(automation_key=key, automation_id=str(key), user_id=f"p{number % 20}",
                     arrived_at=now - (60 - number) * HOUR / 10)
        for number in range(60)
        for key in (KEY, "a2")
    ]  # fmt: skip
    service.record_triggers(triggers)
    service.close()
    count_everything(db)
    Folder(db).fold_all(now=now)


def drop_field(db: Database[Document]) -> None:
    db["automations"].update_one({"_id": "new"}, {"$unset": {"lastRunAt": ""}})


def store_text_as_total(db: Database[Document]) -> None:
    db["automations"].update_one({"_id": "new"}, {"$set": {"totalRuns": "0"}})


def insert_an_older_automation(db: Database[Document]) -> None:
    db["automations"].insert_one({"_id": "a3", "totalRuns": 7, "lastRunAt": datetime.now(UTC)})


def change_a_copy(db: Database[Document]) -> None:
    db["automations"].update_one({"_id": KEY}, {"$inc": {"totalRuns": 5}})


def change_a_base(db: Database[Document]) -> None:
    db["automation_run_stats"].update_one({"_id": f"{NAME}:b"}, {"$inc": {"runs": Int64(5)}})
    db["automations"].update_one({"_id": KEY}, {"$inc": {"totalRuns": 5}})


def change_an_open_hour(db: Database[Document]) -> None:
    base = db["automation_run_stats"].find_one({"_id": f"{NAME}:b"})
    assert base is not None
    hour = hour_of(datetime.now(UTC) - HOUR / 2)
    db["automation_run_stats"].update_one(
        {"_id": base["_id"]}, {"$inc": {f"h.{hour}.n": 1, f"h.{hour}.m.59": 1}}
    )


def drop_an_hour(db: Database[Document]) -> None:
    of_hours = {"automationId": NAME, "hour": {"$exists": True}}
    newest = db["automation_run_stats"].find_one(of_hours, sort=[("hour", -1)])
    assert newest is not None
    db["automation_run_stats"].delete_one({"_id": newest["_id"]})


def move_runs_to_another_minute(db: Database[Document]) -> None:
    hour = db["automation_run_stats"].find_one({"automationId": "a2", "hour": {"$exists": True}})
    assert hour is not None
    minutes = {"59": hour["n"]} if "59" not in hour["m"] else {"0": hour["n"]}
    db["automation_run_stats"].update_one({"_id": hour["_id"]}, {"$set": {"m": minutes}})


def change_what_a_base_keeps(db: Database[Document]) -> None:
    base = db["automation_run_stats"].find_one({"_id": "a2:b"})
    assert base is not None
    day, hours = next(iter(base["hours"].items()))
    path = f"hours.{day}.{next(iter(hours))}"
    db["automation_run_stats"].update_one({"_id": "a2:b"}, {"$inc": {path: 1}})


def insert_a_run_twice(db: Database[Document]) -> None:
    run = db["automation_runs"].find_one({"eventId": {"$exists": True}}, sort=[("createdAt", -1)])
    assert run is not None
    db["automation_runs"].insert_one(run | {"_id": ObjectId()})


def delete_a_contact(db: Database[Document]) -> None:
    db["automation_contacts"].delete_one({"automationId": NAME})


def move_a_contact(db: Database[Document]) -> None:
    db["automation_contacts"].update_one(
        {"automationId": NAME, "userId": "p1"}, {"$set": {"lastRunAt": datetime.now(UTC)}}
    )


def leave_tracking_off(db: Database[Document]) -> None:
    write_switch(db, "tracking", SwitchState.OFF, now=datetime.now(UTC))


def leave_stats_off(db: Database[Document]) -> None:
    write_switch(db, "stats", SwitchState.OFF, now=datetime.now(UTC))


def leave_a_trigger_waiting(db: Database[Document]) -> None:
    arrived_at = now_in_milliseconds() - timedelta(minutes=2)
    storage = Storage(db)
    storage.store([make_trigger(automation_key="a2", user_id="late", arrived_at=arrived_at)])
    storage.close()


def leave_an_automation_stuck(db: Database[Document]) -> None:
    now = datetime.now(UTC)
    stuck = Stuck("a2", "a validator refuses its runs", now - DAY, 7, now + HOUR)
    db["tracking_partitions"].update_one(
        {"_id": partition_of("a2")}, {"$set": {"stuck": [build_stuck(stuck)]}}, upsert=True
    )


def keep_a_dead_letter(db: Database[Document]) -> None:
    db["webhook_dead_letters"].insert_one({
        "_id": "x", "raw": b"{", "error": "not JSON", "arrivedAt": datetime.now(UTC),
        "state": "waiting", "received": 1,
    })  # fmt: skip


def leave_an_account_silent(db: Database[Document]) -> None:
    db["accounts"].insert_one(
        {"_id": "acc", "workspaceId": "w1", "lastWebhookAt": datetime.now(UTC) - 4 * DAY}
    )


def keep_an_expired_trigger(db: Database[Document]) -> None:
    db["automation_triggers"].insert_one(
        {"_id": "x", "outcome": "duplicate", "expireAt": datetime.now(UTC) - DAY}
    )


FAULTS: list[tuple[Fault, list[str]]] = [
    (drop_field, ["run fields of automations"]),
    (store_text_as_total, ["run fields of automations", COPIES]),
    (insert_an_older_automation, ["bases of totals"]),
    (keep_an_expired_trigger, ["documents past their TTL"]),
    (change_a_copy, [COPIES]),
    (change_a_base, [COUNTS]),
    (change_an_open_hour, ["hours against runs", COUNTS]),
    (drop_an_hour, ["hours against runs", COUNTS]),
    (move_runs_to_another_minute, ["hours against runs"]),
    (change_what_a_base_keeps, ["hours against runs"]),
    (insert_a_run_twice,
     ["hours against runs", "contacts against runs", "runs of a pair within the window"]),
    (delete_a_contact, ["contacts against runs"]),
    (move_a_contact, ["contacts against runs"]),
    (leave_tracking_off, ["switch of tracking"]),
    (leave_stats_off, ["switch of stats"]),
    (leave_a_trigger_waiting,
     ["triggers waiting to be counted", "partitions without a counter"]),
    (leave_an_automation_stuck, ["automations that cannot be counted"]),
    (keep_a_dead_letter, ["dead letters waiting"]),
    (leave_an_account_silent, ["accounts gone silent"]),
]  # fmt: skip
