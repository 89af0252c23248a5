"""`verify_run_tracking`: green on a system that works, red with the right line for each fault."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from io import StringIO
from typing import Any

import pytest
from bson import Int64, ObjectId
from django.core.management import call_command
from pymongo.database import Database

from tests.triggers import make_run, make_trigger, now_in_milliseconds
from tracking import service
from tracking.folding import Folder
from tracking.indexes import apply_finding, compare_indexes, list_indexes
from tracking.runs import Outcome
from tracking.switch import SwitchState, write_switch
from tracking.verification import growth, speed

Document = dict[str, Any]
DAY = timedelta(days=1)
HOUR = timedelta(hours=1)
KEY = ObjectId("65f0c0ffee65f0c0ffee65f0")
NAME = str(KEY)


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


@pytest.fixture
def live(db: Database[Document]) -> Database[Document]:
    """A database of an older product that was brought up to date, and counts since; then folded."""
    now = now_in_milliseconds()
    db["automations"].insert_many([
        {"_id": KEY, "accountId": "acc", "workspaceId": "w1", "isActive": True},
        {"_id": "a2", "accountId": "acc", "workspaceId": "w1", "isActive": True,
         "totalRuns": 40, "lastRunAt": None},
        {"_id": "new", "accountId": "acc", "workspaceId": "w1", "isActive": False,
         "totalRuns": 0, "lastRunAt": None},
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
    for start in range(0, len(triggers), 7):
        service.record_triggers(triggers[start : start + 7])
    Folder(db).fold_all(now=now)
    service.close()
    return db


@pytest.mark.parametrize("options", [(), ("--full",)])
def test_green_where_all_is_well(live: Database[Document], options: tuple[str, ...]) -> None:
    assert list_wrong(*options) == []


def test_green_on_an_empty_database(db: Database[Document]) -> None:
    assert list_wrong() == []


def test_red_on_a_database_that_was_never_prepared(bare_db: Database[Document]) -> None:
    bare_db["automations"].insert_one({"_id": "a1", "totalRuns": 3})
    assert {"run fields of automations", "bases of totals", "collections", "indexes"} <= set(
        list_wrong()
    )


def _mend_indexes(db: Database[Document]) -> None:
    for finding in compare_indexes(db, list_indexes(timedelta(days=90))):
        apply_finding(db, finding)


class TestIndexes:
    @pytest.fixture(autouse=True)
    def _mended(self, live: Database[Document]) -> Any:
        yield
        _mend_indexes(live)

    def test_a_dropped_index(self, live: Database[Document]) -> None:
        live["automation_runs"].drop_index("workspaceId_createdAt")
        assert list_wrong() == ["indexes", "index automation_runs.workspaceId_createdAt"]

    def test_a_read_that_scans_its_collection(self, live: Database[Document]) -> None:
        live["automations"].drop_index("accountId_isActive")
        live["automation_triggers"].drop_index("outbox_mids")
        assert list_wrong("--only", "plans", "outbox_plans") == [
            "query plans", "plan of automations of an account (automations)",
            "query plans of sending", "plan of message by its id (automation_triggers)",
        ]  # fmt: skip
        _, findings = verify("--only", "plans")
        line = findings["plan of automations of an account (automations)"]
        assert line["figure"] == "scans the collection, 3 examined for 2"

    def test_a_ttl_changed_by_hand(self, live: Database[Document]) -> None:
        change = {"name": "createdAt_ttl", "expireAfterSeconds": 30 * 86_400}
        live.command("collMod", "automation_runs", index=change)
        assert list_wrong() == ["indexes", "index automation_runs.createdAt_ttl"]
        _, findings = verify()
        assert findings["index automation_runs.createdAt_ttl"] == {
            "what": "index automation_runs.createdAt_ttl", "state": "wrong",
            "figure": "TTL 2592000 s", "limit": "TTL 7776000 s",
            "fix": "run 'python manage.py add_run_indexes'",
        }  # fmt: skip

    def test_no_ttl_is_right_where_runs_are_kept_for_ever(self, live: Database[Document]) -> None:
        live["automation_runs"].drop_index("createdAt_ttl")
        live["automation_contacts"].drop_index("lastRunAt_ttl")
        assert list_wrong("--keep-forever", "--full") == []
        assert "index automation_runs.createdAt_ttl" in list_wrong()


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


def change_a_live_document(db: Database[Document]) -> None:
    db["automation_run_stats"].update_one({"stripe": {"$exists": True}}, {"$inc": {"runs": -1}})


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


def leave_a_trigger_untracked(db: Database[Document]) -> None:
    assert service.record_triggers([make_trigger(is_late=True)]) == [Outcome.UNTRACKED]


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


COUNTS = "totals against hours"
COPIES = "copies in automations against totals"
Fault = Callable[[Database[Document]], None]
FAULTS: list[tuple[Fault, list[str]]] = [
    (drop_field, ["run fields of automations"]),
    (store_text_as_total, ["run fields of automations", COPIES]),
    (insert_an_older_automation, ["bases of totals"]),
    (keep_an_expired_trigger, ["documents past their TTL"]),
    (change_a_copy, [COPIES]),
    (change_a_base, [COUNTS]),
    (change_a_live_document, [COUNTS, COPIES]),
    (drop_an_hour, ["hours against runs", COUNTS]),
    (move_runs_to_another_minute, ["hours against runs"]),
    (change_what_a_base_keeps, ["hours against runs"]),
    (insert_a_run_twice,
     ["hours against runs", "contacts against runs", "runs of a pair within the window"]),
    (delete_a_contact, ["contacts against runs"]),
    (move_a_contact, ["contacts against runs"]),
    (leave_tracking_off, ["switch of tracking"]),
    (leave_stats_off, ["switch of stats"]),
    (leave_a_trigger_untracked, ["untracked triggers waiting"]),
    (keep_a_dead_letter, ["dead letters waiting"]),
    (leave_an_account_silent, ["accounts gone silent"]),
]  # fmt: skip


@pytest.fixture
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tracking.verification.counts._COPY_SECONDS", 0.1)


@pytest.mark.usefixtures("_impatient")
@pytest.mark.parametrize(("break_it", "lines"), FAULTS, ids=[one.__name__ for one, _ in FAULTS])
def test_red_with_the_right_line(
    live: Database[Document], break_it: Fault, lines: list[str]
) -> None:
    break_it(live)
    assert list_wrong() == lines


@pytest.mark.usefixtures("_impatient")
def test_a_full_verification_sees_the_same(live: Database[Document]) -> None:
    for break_it in (drop_an_hour, insert_a_run_twice, delete_a_contact, change_a_copy):
        break_it(live)
    assert list_wrong("--full") == [
        "hours against runs", COUNTS, COPIES, "contacts against runs",
        "runs of a pair within the window",
    ]  # fmt: skip


def test_what_is_old_is_seen_by_a_full_verification_alone(live: Database[Document]) -> None:
    hour = live["automation_run_stats"].find_one(
        {"automationId": NAME, "hour": {"$lt": datetime.now(UTC) - 8.5 * DAY}},
        sort=[("hour", -1)],
    )  # fmt: skip
    if hour is None:
        pytest.fail("there is no hour that old")
    minutes = {"59": hour["n"]} if "59" not in hour["m"] else {"0": hour["n"]}
    live["automation_run_stats"].update_one({"_id": hour["_id"]}, {"$set": {"m": minutes}})
    assert list_wrong() == []
    assert list_wrong("--full") == ["hours against runs"]


def test_a_variable_of_the_environment_is_named(live: Database[Document], settings: Any) -> None:
    settings.TRACKING_ENABLED = False
    _, findings = verify("--only", "switches")
    assert findings["switch of tracking"]["figure"] == "off by TRACKING_ENABLED"


def test_slow_statistics(live: Database[Document], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(speed, "MOST_MILLISECONDS", 0.0)
    assert list_wrong("--only", "speed") == ["statistics of 3 automations"]


def test_a_disk_that_fills(live: Database[Document], monkeypatch: pytest.MonkeyPatch) -> None:
    _, findings = verify("--only", "growth")
    assert findings["size of automation_runs"]["figure"].startswith("160 documents, ")
    assert findings["days until the disk is full"]["state"] == "ok"
    monkeypatch.setattr(growth, "FEWEST_DAYS", 10**12)
    assert list_wrong("--only", "growth") == ["days until the disk is full"]


def test_a_disk_that_cannot_be_seen_is_not_wrong() -> None:
    class Blind:
        def command(self, _: str) -> Document:
            return {"ok": 1.0}

    assert growth._check_disk(Blind(), 1.0).state == "skipped"


def test_what_mongodb_refuses_is_a_line(
    live: Database[Document], monkeypatch: pytest.MonkeyPatch
) -> None:
    from pymongo.errors import OperationFailure

    from tracking.verification import table

    def refuse(_: Any) -> Any:
        raise OperationFailure("not authorized", 13)

    monkeypatch.setitem(table.CHECKS, "growth", refuse)
    assert list_wrong("--only", "growth") == ["growth"]


def test_lines_for_people_say_what_to_do(live: Database[Document]) -> None:
    leave_tracking_off(live)
    out = StringIO()
    with pytest.raises(SystemExit, match="1"):
        call_command("verify_run_tracking", "--only", "switches", stdout=out)
    first, fix, second, verdict = out.getvalue().splitlines()
    assert first.startswith("wrong   switch of tracking: off since ")
    assert fix == "        do: run 'python manage.py tracking on'"
    assert second == "ok      switch of stats: on (limit: on)"
    assert verdict == "verify_run_tracking: 1 of 2 lines are wrong"


def test_a_terminal_gets_a_table(
    live: Database[Document], capsys: pytest.CaptureFixture[str]
) -> None:
    class Terminal(StringIO):
        def isatty(self) -> bool:
            return True

    out = Terminal()
    call_command("verify_run_tracking", "--only", "switches", stdout=out, no_color=True)
    assert "what to do" in out.getvalue() + capsys.readouterr().out
    assert out.getvalue().splitlines()[-1] == "verify_run_tracking: all is well"
