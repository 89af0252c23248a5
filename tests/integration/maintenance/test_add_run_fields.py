"""`add_run_fields` on a database as the old product left it, twice and while traffic flows."""

from __future__ import annotations

import random
import threading
from datetime import UTC, datetime, timedelta
from io import StringIO
from typing import Any

import pytest
from bson import ObjectId
from django.core.management import CommandError, call_command
from pymongo.database import Database

from tests.support.uncounted import count_everything
from tracking import service
from tracking.queries.stats import StatsStore
from tracking.rollups import rebuild, totals
from tracking.runs import Outcome, Trigger

Document = dict[str, Any]
WINDOW = timedelta(hours=1)


def run_command(*args: str, name: str = "add_run_fields") -> list[str]:
    out = StringIO()
    call_command(name, *args, stdout=out)
    return out.getvalue().splitlines()


def build_old_run(automation_id: Any, user_id: str, at: datetime) -> Document:
    return {
        "automationId": str(automation_id),
        "workspaceId": "w1",
        "triggerType": "comment_reply",
        "userId": user_id,
        "metadata": {"messageText": "LINK"},
        "createdAt": at.replace(microsecond=at.microsecond // 1000 * 1000),
    }


def build_trigger(automation_key: Any, user_id: str, event_id: str, at: datetime) -> Trigger:
    return Trigger(
        account_id="a1", kind="comment", event_id=event_id, automation_key=automation_key,
        automation_id=str(automation_key), workspace_id="w1", trigger_type="opening_dm",
        user_id=user_id, arrived_at=at.replace(microsecond=0), metadata={},
    )  # fmt: skip


@pytest.fixture
def old_database(bare_db: Database[Document]) -> Database[Document]:
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
    bare_db["automation_runs"].insert_many([
        build_old_run(
            chance.choice(ids), f"p{chance.randrange(80)}",
            now - timedelta(seconds=chance.uniform(1, 30 * 86400)),
        )
        for _ in range(1500)
    ])  # fmt: skip
    return bare_db


def read_automations(db: Database[Document]) -> dict[str, Document]:
    return {str(one["_id"]): one for one in db["automations"].find()}


def assert_windows_exact(db: Database[Document]) -> None:
    at = datetime.now(UTC)
    automations = list(db["automations"].find())
    summaries = StatsStore(db).summarize(automations, at=at).by_automation
    for automation_id, summary in summaries.items():
        for window, count in (
            (timedelta(hours=24), summary.last_24_hours),
            (timedelta(days=7), summary.last_7_days),
        ):
            query = {"automationId": automation_id, "createdAt": {"$gte": at - window}}
            assert count == db["automation_runs"].count_documents(query), automation_id


def test_adds_fields_and_bases_by_the_rule_of_the_base(old_database: Database[Document]) -> None:
    runs = old_database["automation_runs"]
    lines = run_command()
    assert lines[-1] == "automations updated: 4"
    for automation_id, automation in read_automations(old_database).items():
        existing = runs.count_documents({"automationId": automation_id})
        stored = {"text-id": 900, "no-runs": 12}.get(automation_id, 0)
        assert automation["totalRuns"] == max(stored, existing)
        base = old_database["automation_run_stats"].find_one({"_id": f"{automation_id}:b"})
        assert base is not None
        assert base["runs"] == automation["totalRuns"]
        assert base["base"] == automation["totalRuns"] - existing
        newest = runs.find_one({"automationId": automation_id}, sort=[("createdAt", -1)])
        if newest is not None:
            assert automation["lastRunAt"] == newest["createdAt"]
    assert read_automations(old_database)["migrated"]["lastRunAt"] is None


def test_windows_are_exact_before_and_after(old_database: Database[Document]) -> None:
    assert_windows_exact(old_database)
    run_command()
    assert_windows_exact(old_database)
    commands_after = old_database["automation_run_stats"].count_documents({"hour": {"$exists": 1}})
    assert commands_after > 100  # from rollups now, not from runs
    bases = old_database["automation_run_stats"].find({"base": {"$exists": True}})
    assert all(base["rollupsSince"] is None for base in bases)


def test_a_second_run_changes_nothing(old_database: Database[Document]) -> None:
    run_command()
    before = {
        name: sorted(old_database[name].find(), key=lambda d: str(d["_id"]))
        for name in ("automations", "automation_run_stats", "automation_contacts")
    }
    for args in ((), ("--recount",), ("--batch-size", "1")):
        assert run_command(*args)[-1] == "automations updated: 0"
        for name, documents in before.items():
            after = sorted(old_database[name].find(), key=lambda d: str(d["_id"]))
            assert after == documents, name


def test_contacts_hold_every_pair_with_its_newest_run(old_database: Database[Document]) -> None:
    run_command()
    pairs: dict[tuple[str, str], list[Document]] = {}
    for run in old_database["automation_runs"].find():
        pairs.setdefault((run["automationId"], run["userId"]), []).append(run)
    contacts = list(old_database["automation_contacts"].find())
    assert len(contacts) == len(pairs)
    for contact in contacts:
        runs = sorted(
            pairs[contact["automationId"], contact["userId"]], key=lambda run: run["createdAt"]
        )
        assert contact["lastRunAt"] == runs[-1]["createdAt"]
        assert contact["lastRunId"] == runs[-1]["_id"]
        assert contact["firstRunAt"] == runs[0]["createdAt"]
        assert contact["runs"] == len(runs)


def test_dry_run_changes_nothing_and_tells_what_it_would(
    old_database: Database[Document],
) -> None:
    names = old_database.list_collection_names()
    before = list(old_database["automations"].find())
    lines = run_command("--dry-run")
    assert "automations to update: 4" in lines
    assert "bases to create: 6" in lines
    assert lines[-1] == "automations updated: 0"
    assert list(old_database["automations"].find()) == before
    assert old_database.list_collection_names() == names


def test_recount_raises_a_total_and_never_lowers_it(old_database: Database[Document]) -> None:
    run_command()
    total = read_automations(old_database)["text-id"]["totalRuns"]
    old_database["automations"].update_one({"_id": "text-id"}, {"$set": {"totalRuns": total + 50}})
    old_database["automations"].update_one({"_id": "no-runs"}, {"$set": {"totalRuns": 1}})
    lines = run_command("--recount")
    assert "totals raised: 1" in lines
    assert lines[-1] == "automations updated: 1"
    automations = read_automations(old_database)
    assert automations["text-id"]["totalRuns"] == total + 50
    assert automations["no-runs"]["totalRuns"] == 12
    assert run_command("--recount")[-1] == "automations updated: 0"


def test_an_interrupt_is_finished_by_a_second_run(
    old_database: Database[Document], monkeypatch: pytest.MonkeyPatch
) -> None:
    rebuild_hours = rebuild.HourRebuilder.rebuild_hours
    calls = 0

    def interrupt(self: Any, *args: Any) -> None:
        nonlocal calls
        calls += 1
        if calls == 3:
            raise KeyboardInterrupt
        rebuild_hours(self, *args)

    monkeypatch.setattr(rebuild.HourRebuilder, "rebuild_hours", interrupt)
    with pytest.raises(CommandError, match="run the command again"):
        run_command()
    assert_windows_exact(old_database)
    monkeypatch.undo()
    run_command()
    assert_windows_exact(old_database)
    total = read_automations(old_database)["text-id"]["totalRuns"]
    assert total == 900


def test_traffic_may_flow_meanwhile(old_database: Database[Document]) -> None:
    keys = [ObjectId("65a000000000000000000001"), "text-id", "migrated"]
    run_command(name="add_run_indexes")
    stop = threading.Event()
    counted: list[str] = []

    def send() -> None:
        number = 0
        while not stop.is_set():
            number += 1
            key = keys[number % 3]
            trigger = build_trigger(key, f"new{number}", f"e{number}", datetime.now(UTC))
            if service.record_triggers([trigger]) == [Outcome.STORED]:
                counted.append(str(key))

    sender = threading.Thread(target=send)
    sender.start()
    try:
        for _ in range(3):
            run_command("--recount", "--batch-size", "2")
    finally:
        stop.set()
        sender.join()
    service.close()
    count_everything(old_database)
    assert len(counted) > 10
    assert_windows_exact(old_database)
    runs = old_database["automation_runs"]
    summaries = (
        StatsStore(old_database)
        .summarize(list(old_database["automations"].find()), at=datetime.now(UTC))
        .by_automation
    )
    for automation_id, automation in read_automations(old_database).items():
        existing = runs.count_documents({"automationId": automation_id})
        before = existing - counted.count(automation_id)
        stored = {"text-id": 900, "no-runs": 12}.get(automation_id, 0)
        expected = max(stored, before) + counted.count(automation_id)
        assert summaries[automation_id].total_runs == expected, automation_id
        assert automation["totalRuns"] == expected, automation_id


def test_old_runs_hold_the_window_before_and_after_the_command(
    old_database: Database[Document],
) -> None:
    """A person whom the old product counted half an hour ago is a duplicate (I1)."""
    now = datetime.now(UTC)
    old_database["automation_runs"].insert_many(
        [build_old_run("migrated", name, now - timedelta(minutes=30)) for name in ("early", "late")]
    )
    for step, user_id in enumerate(("early", "late")):
        trigger = build_trigger("migrated", user_id, f"e{step}", now)
        service.record_triggers([trigger])
        assert service.wait_for_outcomes([trigger]) == [Outcome.DUPLICATE]
        service.close()
        run_command("--recount")
    service.close()


def test_millions_of_runs_are_counted_outside_of_a_transaction(
    old_database: Database[Document], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A server may end a transaction after five seconds, and counting takes as long as it takes."""
    count_runs = totals.TotalStore.count_runs
    sessions = []

    def watch(self: Any, automation_ids: Any, session: Any = None) -> Any:
        sessions.append(session)
        assert not session.in_transaction
        return count_runs(self, automation_ids, session)

    monkeypatch.setattr(totals.TotalStore, "count_runs", watch)
    run_command()
    assert sessions


def test_refuses_a_batch_size_of_none(db: Database[Document]) -> None:
    with pytest.raises(CommandError, match="--batch-size"):
        run_command("--batch-size", "0")


def test_says_in_one_sentence_that_mongodb_is_away(settings: Any) -> None:
    with pytest.raises(CommandError, match="MONGODB_URI"):
        run_command()
