"""What older products left in other types: counted, erased, or kept and named."""

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from bson import Decimal128, Int64, ObjectId
from django.core.management import CommandError
from pymongo.database import Database
from pymongo.errors import ConnectionFailure

from tests.support.commands import run_command
from tests.support.odd_documents import MISSING, PERSON, UNDATED
from tests.support.oracle import recount
from tests.support.tracker import Tracker
from tests.support.triggers import T0, make_run, make_trigger, now_in_milliseconds
from tests.support.verification_cases import list_wrong, verify
from tracking import reports
from tracking.counting.switch import SwitchState, read_switch, write_switch
from tracking.ids import name_id
from tracking.maintenance.erasure import Eraser
from tracking.mongo import client as mongo
from tracking.queries.stats import StatsStore
from tracking.queries.time_grid import Unit
from tracking.rollups.folding import Folder
from tracking.runs import Outcome

Db = Database[dict[str, Any]]
HOUR, DAY = timedelta(hours=1), timedelta(days=1)
KEY = ObjectId("65f0c0ffee65f0c0ffee65f0")


def add_run_fields(*options: str) -> dict[str, int]:
    answer: dict[str, int] = json.loads(
        "\n".join(run_command("add_run_fields", "--json", *options))
    )
    return answer


def summarize(db: Db, at: datetime) -> dict[str, tuple[int, int]]:
    found = StatsStore(db).summarize(list(db["automations"].find()), at=at).by_automation
    return {name: (one.total_runs, one.last_7_days) for name, one in found.items()}


@pytest.mark.parametrize("key", [KEY, 42, Int64(43), 44.0], ids=repr)
def test_runs_that_name_their_automation_in_another_type_are_counted(db: Db, key: Any) -> None:
    """Before and after `add_run_fields`; no TTL deletes one before a total holds it."""
    db["automation_runs"].drop_index("createdAt_ttl")
    at = now_in_milliseconds()
    db["automations"].insert_one({"_id": key})
    ages = (HOUR, 2 * DAY, 100 * DAY)
    db["automation_runs"].insert_many([make_run(key, at - age) for age in ages])
    db["automation_runs"].insert_one(make_run([name_id(key), "other"], at - 3 * HOUR))  # type: ignore[arg-type]
    db["automation_runs"].insert_one(make_run({"of": key}, at - 3 * HOUR))  # type: ignore[arg-type]
    assert summarize(db, at)[name_id(key)][1] == 3
    with pytest.raises(CommandError, match="would delete runs that no total holds yet"):
        run_command("add_run_indexes")
    add_run_fields()
    run_command("add_run_indexes")
    assert summarize(db, at) == {name_id(key): (4, 3)}
    assert recount(db) == []


@pytest.mark.parametrize("person", [PERSON, Int64(PERSON), float(PERSON), KEY], ids=repr)
def test_a_person_in_another_type_is_the_same_person(db: Db, tracker: Tracker, person: Any) -> None:
    at = now_in_milliseconds()
    db["automations"].insert_one({"_id": "a1", "accountId": 9, "totalRuns": 0, "lastRunAt": None})
    runs = [make_run(one, at - HOUR / 2, userId=person) for one in ("a1", ["a1"], None, {"of": 1})]  # type: ignore[arg-type]
    text = name_id(person)
    db["automation_runs"].insert_many([*runs, {"userId": [text]}])
    again = make_trigger(account_id="9", user_id=text, arrived_at=at)
    assert tracker.record(again) == [Outcome.DUPLICATE]
    add_run_fields()
    later = make_trigger(account_id="9", user_id=text, arrived_at=at + HOUR / 4)
    assert tracker.record(later) == [Outcome.DUPLICATE]
    assert recount(db) == []
    eraser = Eraser(db)
    assert len(eraser.list_documents("9", text)["automation_runs"]) == 5
    assert eraser.erase("9", text)["runs"] == 5
    left = [one for one in db["automation_runs"].find() if not one["userId"].startswith("erased:")]
    assert left == []
    assert db["automation_runs"].count_documents({"metadata.messageText": {"$exists": True}}) == 0


@pytest.mark.parametrize(
    ("stored", "read", "left"),
    [
        (7, 7, 7), (Int64(7), 7, 7), (7.0, 7, 7), (Decimal128("7"), 7, 7), ("7", 7, 7),
        (1, 2, 2), ("1", 2, 2), (None, 2, 2), (-3, 2, 2), (float("nan"), 2, 2),
        ("many", 2, "many"), ("", 2, ""), (True, 2, True), ([7], 2, [7]), ({"n": 7}, 2, {"n": 7}),
        (float("inf"), 2, float("inf")), (2**60, 2, 2**60),
        (Decimal128("1E+40"), 2, Decimal128("1E+40")),
    ],
    ids=repr,
)  # fmt: skip
def test_a_stored_count_is_read_or_kept_and_named(
    db: Db, tracker: Tracker, stored: Any, read: int, left: Any
) -> None:
    """A dry run says what the run reports, and counting changes none that was kept."""
    at = now_in_milliseconds()
    db["automations"].insert_one({"_id": "a1", "totalRuns": stored})
    db["automation_runs"].insert_many([make_run("a1", at - number * DAY) for number in (1, 2)])
    planned, done = add_run_fields("--dry-run"), add_run_fields()
    for name in ("basesCreated", "totalsRaised", "automationsUpdated"):
        assert planned[name] == done[name], name
    assert summarize(db, at)["a1"][0] == read
    is_kept = left != read
    for _ in range(2):
        [automation] = db["automations"].find()
        assert automation["totalRuns"] == (left if is_kept else summarize(db, at)["a1"][0])
        assert isinstance(automation["totalRuns"], int) or is_kept
        _, findings = verify("--full", "--only", "fields", "counts")
        wrong = [what for what, one in findings.items() if one["state"] == "wrong"]
        assert wrong == ["totals that are no numbers"] * is_kept
        assert tracker.record(make_trigger(arrived_at=at)) == [Outcome.COUNTED]
        run_command("reconcile_runs")
        at += 2 * HOUR
    assert summarize(db, at)["a1"][0] == read + 2
    assert add_run_fields("--recount")["automationsUpdated"] == 0


def drop_base(db: Db) -> None:
    db["automation_run_stats"].delete_one({"_id": "a1:b"})


def unset_base(db: Db) -> None:
    db["automation_run_stats"].update_one({"_id": "a1:b"}, {"$unset": {"base": ""}})


@pytest.mark.parametrize("lose", [drop_base, unset_base])
@pytest.mark.parametrize("expired", [0, 3, 7])
@pytest.mark.parametrize("first", ["add_run_fields", "reconcile_runs", "a trigger"])
def test_a_base_that_is_gone_is_taken_again_without_doubling(
    db: Db, tracker: Tracker, lose: Any, expired: int, first: str
) -> None:
    """Also where the TTL took runs that hours still hold: those are no part of a new base."""
    at = now_in_milliseconds()
    db["automations"].insert_one({"_id": "a1", "totalRuns": 5, "lastRunAt": None})
    runs = [make_trigger(user_id=f"p{n}", arrived_at=at - (9 - n) * DAY / 2) for n in range(7)]
    assert tracker.record(*runs) == [Outcome.COUNTED] * 7
    Folder(db).fold("a1", now=at - 3 * DAY)
    gone = [f"p{number}" for number in range(expired)]
    db["automation_runs"].delete_many({"userId": {"$in": gone}})
    lose(db)
    total = 12
    _, findings = verify("--full", "--only", "fields")
    assert findings["bases of totals"]["state"] == "wrong"
    if first == "a trigger":
        assert tracker.record(make_trigger(user_id="new", arrived_at=at)) == [Outcome.COUNTED]
        total += 1
        assert summarize(db, at)["a1"][0] == total
    else:
        run_command(first)
    for command in ("add_run_fields", "reconcile_runs", "reconcile_runs"):
        lines = run_command(command)
        assert summarize(db, at)["a1"][0] == total, (command, lines)
        assert db["automations"].distinct("totalRuns") == [total]
    assert lines[0] == "nothing differs"
    assert list_wrong("--full", "--only", "fields", "counts", "contacts") == []
    if not expired:
        assert recount(db, at=at) == []


def test_runs_without_a_time_are_counted_and_named_and_nothing_claims_them(db: Db) -> None:
    at = now_in_milliseconds()
    db["automations"].insert_one({"_id": "a1", "accountId": "9"})
    runs = [make_run("a1", at - HOUR, userId="p9")]
    for value in UNDATED:
        runs.append(make_run("a1", value))
        if value is MISSING:
            del runs[-1]["createdAt"]
    runs += [make_run("a1", at - DAY) | {"userId": one} for one in (None, True, {"id": 1})]
    db["automation_runs"].insert_many(runs)
    for _ in range(2):
        series = reports.read_series(
            ["a1"], unit=Unit.HOUR, zone=UTC, from_=at - HOUR, to=at, at=at
        )
        assert not series.is_exact
        _, findings = verify("--full", "--only", "runs")
        counts = {what: one["figure"].split(":")[0] for what, one in findings.items()}
        assert counts["runs that no window holds"] == str(len(UNDATED))
        assert counts["runs without a person"] == "3"
        _, quick = verify("--only", "runs")
        assert quick["runs that no window holds"]["state"] == "wrong"
        add_run_fields()
        run_command("reconcile_runs")
        assert summarize(db, at)["a1"] == (len(runs), 4)
        assert recount(db) == []
    assert Eraser(mongo.get_database()).erase("9", "p1")["runs"] == len(UNDATED)


def test_what_a_clock_wrote_that_was_a_day_ahead_is_moved_to_now(db: Db, tracker: Tracker) -> None:
    """The person is answered again, and what was counted stays counted, a window apart."""
    at = now_in_milliseconds()
    db["automations"].insert_one({"_id": "a1", "totalRuns": 0, "lastRunAt": None})
    for moment in (at - HOUR / 2, at + DAY, at + DAY + 2 * HOUR):
        tracker.record(make_trigger(arrived_at=moment), make_trigger(user_id="p2", arrived_at=at))
    stray = {"_id": "a1:gone", "automationId": "a1", "userId": "gone", "runs": 0, "earlier": 0}
    moments = {"firstRunAt": at - DAY, "lastRunAt": at + DAY}
    db["automation_contacts"].insert_one(stray | moments)
    assert {"runs in the future", "contacts in the future"} <= set(list_wrong("--only", "runs"))
    assert any("runs and contacts in the future" in one for one in run_command("reconcile_runs"))
    assert db["automation_runs"].count_documents({"createdAt": {"$gt": at + HOUR}}) == 0
    assert list_wrong("--full", "--only", "runs", "counts", "contacts", "pairs") == []
    db["automation_contacts"].delete_one({"_id": "a1:gone"})
    assert recount(db) == []
    assert run_command("reconcile_runs")[0] == "nothing differs"
    assert tracker.record(make_trigger(arrived_at=at + 2 * HOUR)) == [Outcome.COUNTED]


@pytest.mark.parametrize("action", ["on", "off"])
def test_a_command_that_fails_leaves_the_switch_as_it_was(
    db: Db, monkeypatch: pytest.MonkeyPatch, action: str
) -> None:
    write_switch(db, "tracking", SwitchState.OFF if action == "on" else SwitchState.ON, now=T0)
    before = read_switch(db)

    def fail(*args: Any, **options: Any) -> Any:
        raise ConnectionFailure

    monkeypatch.setattr("tracking.management.commands.tracking.read_status", fail)
    with pytest.raises(CommandError):
        run_command("tracking", action)
    assert read_switch(db) is before


def test_automations_that_cannot_be_told_apart_are_named(db: Db) -> None:
    keys: list[Any] = [KEY, str(KEY), 42, "42", "a1", {"of": 1}, name_id({"of": 1})]
    db["automations"].insert_many([{"_id": key} for key in keys])
    _, findings = verify("--only", "ids")
    assert findings["automations of the same id"]["figure"].startswith("6 automations: 2 are 42, ")
