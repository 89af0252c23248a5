"""`add_run_fields` on a database as the old product left it, twice and while traffic flows."""

import random
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from bson import ObjectId
from django.core.management import CommandError

from tests.integration.conftest import Db, Document, flow
from tests.support.commands import run_command
from tests.support.oracle import recount
from tests.support.triggers import make_run, make_trigger, now_in_milliseconds
from tests.support.uncounted import count_everything
from tracking import service
from tracking.queries.stats import StatsStore
from tracking.rollups import rebuild, totals
from tracking.runs import Outcome

STORED = {"text-id": 900, "no-runs": 12}


def add_run_fields(*arguments: str) -> list[str]:
    return run_command("add_run_fields", *arguments)


@pytest.fixture
def old(bare_db: Db) -> Db:
    """ObjectId and string ids, runs without rollups, totals without runs, garbage in between."""
    now = datetime.now(UTC)
    chance = random.Random(7)
    bare_db["automations"].insert_many([
        {"_id": ObjectId("65a000000000000000000001"), "workspaceId": "w1"},
        {"_id": "text-id", "workspaceId": "w1", "totalRuns": 900, "lastRunAt": None},
        {"_id": "no-runs", "workspaceId": "w1", "totalRuns": 12, "lastRunAt": now},
        {"_id": "null-total", "workspaceId": "w1", "totalRuns": None},
        {"_id": "odd-total", "workspaceId": "w1", "totalRuns": "many", "lastRunAt": "yesterday"},
        {"_id": "migrated", "workspaceId": "w1", "totalRuns": 0, "lastRunAt": None},
    ])  # fmt: skip
    ids = ["65a000000000000000000001", "text-id", "null-total", "odd-total"]
    for _ in range(1500):
        at = now - timedelta(seconds=chance.uniform(1, 30 * 86400))
        run = make_run(chance.choice(ids), at, userId=f"p{chance.randrange(80)}")
        bare_db["automation_runs"].insert_one(run)
    return bare_db


def read_automations(db: Db) -> dict[str, Document]:
    return {str(one["_id"]): one for one in db["automations"].find()}


def read_all(db: Db) -> dict[str, list[Document]]:
    names = ("automations", "automation_run_stats", "automation_contacts")
    return {name: sorted(db[name].find(), key=lambda d: str(d["_id"])) for name in names}


def summarize(db: Db, at: datetime) -> dict[str, Any]:
    return dict(StatsStore(db).summarize(list(db["automations"].find()), at=at).by_automation)


def test_adds_fields_and_bases_by_the_rule_of_the_base(old: Db) -> None:
    runs = old["automation_runs"]
    assert add_run_fields()[-1] == "automations updated: 4"
    for automation_id, automation in read_automations(old).items():
        existing = runs.count_documents({"automationId": automation_id})
        total = max(STORED.get(automation_id, 0), existing)
        assert automation["totalRuns"] == {"odd-total": "many"}.get(automation_id, total)
        base = old["automation_run_stats"].find_one({"_id": f"{automation_id}:b"}) or {}
        assert base["runs"] == total
        assert base["base"] == total - existing
        newest = runs.find_one({"automationId": automation_id}, sort=[("createdAt", -1)])
        if newest is not None:
            assert automation["lastRunAt"] == newest["createdAt"]
    assert read_automations(old)["migrated"]["lastRunAt"] is None


def test_windows_and_contacts_are_exact(old: Db) -> None:
    assert recount(old) == []
    add_run_fields()
    assert recount(old) == []
    stats = old["automation_run_stats"]
    assert stats.count_documents({"hour": {"$exists": 1}}) > 100  # from rollups now, not from runs
    assert all(base["rollupsSince"] is None for base in stats.find({"base": {"$exists": True}}))
    # Contacts hold every pair with its newest run.
    pairs: dict[tuple[str, str], list[Document]] = {}
    for run in old["automation_runs"].find().sort("createdAt", 1):
        pairs.setdefault((run["automationId"], run["userId"]), []).append(run)
    contacts = list(old["automation_contacts"].find())
    assert len(contacts) == len(pairs)
    for contact in contacts:
        runs = pairs[contact["automationId"], contact["userId"]]
        assert contact["lastRunAt"] == runs[-1]["createdAt"]
        assert contact["lastRunId"] == runs[-1]["_id"]
        assert contact["firstRunAt"] == runs[0]["createdAt"]
        assert contact["runs"] == len(runs)


def test_a_second_run_changes_nothing(old: Db) -> None:
    add_run_fields()
    before = read_all(old)
    for args in ((), ("--recount",), ("--batch-size", "1")):
        assert add_run_fields(*args)[-1] == "automations updated: 0"
        assert read_all(old) == before


def test_dry_run_changes_nothing_and_tells_what_it_would(old: Db) -> None:
    names, before = old.list_collection_names(), read_all(old)
    lines = add_run_fields("--dry-run")
    assert {"automations to update: 4", "bases to create: 6"} <= set(lines)
    assert lines[-1] == "automations updated: 0"
    assert read_all(old) == before
    assert old.list_collection_names() == names


def test_recount_raises_a_total_and_never_lowers_it(old: Db) -> None:
    add_run_fields()
    total = read_automations(old)["text-id"]["totalRuns"]
    old["automations"].update_one({"_id": "text-id"}, {"$set": {"totalRuns": total + 50}})
    old["automations"].update_one({"_id": "no-runs"}, {"$set": {"totalRuns": 1}})
    lines = add_run_fields("--recount")
    assert "totals raised: 1" in lines
    assert lines[-1] == "automations updated: 1"
    automations = read_automations(old)
    assert automations["text-id"]["totalRuns"] == total + 50
    assert automations["no-runs"]["totalRuns"] == 12
    assert add_run_fields("--recount")[-1] == "automations updated: 0"


def test_an_interrupt_is_finished_by_a_second_run(old: Db, monkeypatch: pytest.MonkeyPatch) -> None:
    rebuild_hours = rebuild.HourRebuilder.rebuild_hours
    calls = 0

    def interrupt(self: Any, *args: Any) -> int:
        nonlocal calls
        calls += 1
        if calls == 3:
            raise KeyboardInterrupt
        return rebuild_hours(self, *args)

    monkeypatch.setattr(rebuild.HourRebuilder, "rebuild_hours", interrupt)
    with pytest.raises(CommandError, match="run the command again"):
        add_run_fields()
    assert recount(old) == []
    monkeypatch.undo()
    add_run_fields()
    assert recount(old) == []
    assert read_automations(old)["text-id"]["totalRuns"] == 900


def test_traffic_may_flow_meanwhile(old: Db) -> None:
    keys = [ObjectId("65a000000000000000000001"), "text-id", "migrated"]
    run_command("add_run_indexes")
    counted: list[str] = []

    def send(number: int) -> None:
        key = keys[number % 3]
        fields = {"automation_key": key, "automation_id": str(key), "user_id": f"new{number}"}
        trigger = make_trigger(arrived_at=now_in_milliseconds(), **fields)
        if service.record_triggers([trigger]) == [Outcome.STORED]:
            counted.append(str(key))

    with flow(send):
        for _ in range(3):
            add_run_fields("--recount", "--batch-size", "2")
    service.close()
    count_everything(old)
    assert len(counted) > 10
    assert recount(old) == []
    summaries = summarize(old, datetime.now(UTC))
    for automation_id, automation in read_automations(old).items():
        new = counted.count(automation_id)
        existing = old["automation_runs"].count_documents({"automationId": automation_id})
        expected = max(STORED.get(automation_id, 0), existing - new) + new
        assert summaries[automation_id].total_runs == expected, automation_id
        shown = {"odd-total": "many"}.get(automation_id, expected)
        assert automation["totalRuns"] == shown, automation_id


def test_runs_are_counted_outside_of_a_transaction(old: Db, monkeypatch: Any) -> None:
    """A server may end a transaction after five seconds, and counting takes as long as it takes."""
    count_runs = totals.TotalStore.count_runs
    sessions = []

    def watch(self: Any, automation_ids: Any, session: Any = None) -> Any:
        sessions.append(session)
        assert not session.in_transaction
        return count_runs(self, automation_ids, session)

    monkeypatch.setattr(totals.TotalStore, "count_runs", watch)
    add_run_fields()
    assert sessions


def test_refuses_a_batch_size_of_none(db: Db) -> None:
    with pytest.raises(CommandError, match="--batch-size"):
        add_run_fields("--batch-size", "0")


def test_says_in_one_sentence_that_mongodb_is_away(settings: Any) -> None:
    with pytest.raises(CommandError, match="MONGODB_URI"):
        add_run_fields()
