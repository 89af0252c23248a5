"""Back to the old product and here again, on the same database: nothing lost, nothing twice."""

import random
from collections import Counter
from datetime import datetime, timedelta
from typing import Any

import pytest
from bson import ObjectId
from pymongo.database import Database

from tests.support.commands import run_command
from tests.support.oracle import recount
from tests.support.triggers import MILLISECOND, make_trigger, now_in_milliseconds
from tests.support.uncounted import count_everything
from tests.support.verification_cases import list_wrong
from tracking import service
from tracking.queries.stats import StatsStore
from tracking.runs import Outcome

Document = dict[str, Any]
HOUR = timedelta(hours=1)
KEY = ObjectId("65f0c0ffee65f0c0ffee65f0")
NAME = str(KEY)
KEYS: dict[str, Any] = {NAME: KEY, "a2": "a2"}


class OldProduct:
    """The route that ran before: find, insert, update, each on its own, without its races.

    It names automations by the text of their `_id`, so that its increment meets no ObjectId.
    """

    def __init__(self, database: Database[Document]) -> None:
        self._runs = database["automation_runs"]
        self._automations = database["automations"]

    def track(self, automation_id: str, user_id: str, *, at: datetime, dies: bool = False) -> bool:
        """Count a run unless it finds one of the last hour; return whether it did.

        One that `dies` comes as far as the insert.
        """
        pair = {"automationId": automation_id, "userId": user_id}
        if self._runs.find_one({**pair, "createdAt": {"$gte": at - HOUR}}):
            return False
        self._runs.insert_one({
            **pair,
            "workspaceId": "w1",
            "triggerType": "comment_reply",
            "metadata": {"messageText": "LINK"},
            "createdAt": at,
        })  # fmt: skip
        if not dies:
            self._automations.update_one(
                {"_id": automation_id},
                {"$inc": {"totalRuns": 1}, "$set": {"lastRunAt": at, "updatedAt": at}},
            )
        return True

    def list_stats(self, *, at: datetime) -> dict[str, tuple[int, int, int]]:
        return {
            str(one["_id"]): (
                one.get("totalRuns") or 0,
                self._count(str(one["_id"]), at - timedelta(hours=24)),
                self._count(str(one["_id"]), at - timedelta(days=7)),
            )
            for one in self._automations.find()
        }

    def _count(self, automation_id: str, since: datetime) -> int:
        query = {"automationId": automation_id, "createdAt": {"$gte": since}}
        return self._runs.count_documents(query)


def record(automation_id: str, user_id: str, at: datetime, *, seconds: float = 3) -> Outcome | None:
    """Record a trigger and return its outcome, None if it is not counted in that time."""
    trigger = make_trigger(
        automation_key=KEYS[automation_id], automation_id=automation_id, user_id=user_id,
        arrived_at=at,
    )  # fmt: skip
    assert service.record_triggers([trigger]) == [Outcome.STORED]
    [outcome] = service.wait_for_outcomes([trigger], seconds=seconds)
    return outcome


def read_total(db: Database[Document], automation_id: str) -> int:
    document = db["automations"].find_one({"_id": KEYS[automation_id]}) or {}
    total: int = document["totalRuns"]
    found = StatsStore(db).summarize([document], at=now_in_milliseconds())
    [summary] = found.by_automation.values()
    assert summary.total_runs == total
    assert summary.last_run_at == document["lastRunAt"]
    return total


@pytest.fixture
def migrated(db: Database[Document]) -> Database[Document]:
    db["automations"].insert_many([
        {"_id": KEY, "workspaceId": "w1"},
        {"_id": "a2", "workspaceId": "w1", "totalRuns": 30, "lastRunAt": None},
    ])  # fmt: skip
    run_command("add_run_fields")
    return db


@pytest.fixture
def now() -> datetime:
    return now_in_milliseconds()


def test_the_old_product_reads_and_counts_on_without_any_change_of_data(
    migrated: Database[Document], now: datetime
) -> None:
    for minutes, user_id in ((50, "p1"), (40, "p2"), (30, "p1")):
        record("a2", user_id, now - timedelta(minutes=minutes))
    service.close()
    old = OldProduct(migrated)
    assert old.list_stats(at=now) == {NAME: (0, 0, 0), "a2": (32, 2, 2)}
    assert not old.track("a2", "p1", at=now - 20 * MILLISECOND), "it sees our run of 50 minutes ago"
    assert old.track("a2", "p3", at=now)
    assert old.list_stats(at=now)["a2"] == (33, 3, 3)
    assert (migrated["automations"].find_one({"_id": "a2"}) or {})["lastRunAt"] == now


def test_coming_back_takes_in_its_runs_and_its_counter(
    migrated: Database[Document], now: datetime
) -> None:
    record("a2", "p1", now - 5 * HOUR)
    record(NAME, "p1", now - 5 * HOUR)
    service.close()
    old = OldProduct(migrated)
    for hours, user_id in ((3, "p1"), (2, "p2"), (1, "p1")):
        at = now - hours * HOUR - hours * MILLISECOND
        assert old.track("a2", user_id, at=at)
        assert old.track(NAME, user_id, at=at)  # its increment does not reach an ObjectId
    assert old.track("a2", "p4", at=now - HOUR / 2, dies=True)
    migrated["automations"].update_one({"_id": "a2"}, {"$inc": {"totalRuns": 5}})  # without a run
    assert run_command("reconcile_runs", "--dry-run", "--adopt")[-1] == "automations to repair: 2"
    lines = run_command("reconcile_runs", "--adopt")
    assert lines[-1] == "automations repaired: 2"
    # 35 by its runs, 39 by its counter: one run has no increment, five increments have no run.
    assert read_total(migrated, "a2") == 39
    assert read_total(migrated, NAME) == 1 + 3
    assert list_wrong("--full") == []
    assert recount(migrated) == []
    assert run_command("reconcile_runs", "--adopt")[0] == "nothing differs"
    assert read_total(migrated, "a2") == 39


def test_the_switch_bridges_the_border_while_traffic_flows(
    migrated: Database[Document], now: datetime
) -> None:
    """Off, the webhook moves, adopt, on: what arrives in between is judged by the runs of both."""
    old = OldProduct(migrated)
    record("a2", "p0", now - 9 * HOUR)
    service.close()
    old.track("a2", "p1", at=now - HOUR / 2)
    run_command("tracking", "off")
    assert record("a2", "p1", now - HOUR / 4, seconds=0.2) is None
    assert record("a2", "p2", now - HOUR / 4, seconds=0) is None
    run_command("reconcile_runs", "--adopt")
    run_command("tracking", "on")
    count_everything(migrated)
    outcomes = migrated["automation_triggers"].find().sort("createdAt").distinct("outcome")
    assert outcomes == ["counted", "duplicate"]
    assert read_total(migrated, "a2") == 30 + 3
    assert recount(migrated) == []
    assert list_wrong("--full") == []


@pytest.mark.parametrize("seed", range(3))
def test_to_and_fro_equals_a_recount(migrated: Any, now: datetime, seed: int) -> None:
    chance = random.Random(seed)
    old = OldProduct(migrated)
    at = now - timedelta(days=2)
    expected = Counter({NAME: 0, "a2": 30})
    newest: dict[tuple[str, str], datetime] = {}
    for turn in range(4):
        is_old = turn % 2
        for _ in range(40):
            at += timedelta(milliseconds=chance.choice([1, 60_000, 1_200_000]))
            pair = chance.choice([NAME, "a2"]), f"p{chance.randrange(6)}"
            if is_old:
                is_counted = old.track(*pair, at=at, dies=chance.random() < 0.2)
            else:
                is_counted = record(*pair, at) is Outcome.COUNTED
            last = newest.get(pair)
            assert is_counted == (last is None or at > last + HOUR)
            if is_counted:
                newest[pair] = at
                expected[pair[0]] += 1
        service.close()
        if is_old:
            run_command("reconcile_runs", "--adopt")
            # What died before its increment is counted by its run, nothing is counted twice.
            assert {one: read_total(migrated, one) for one in KEYS} == expected
            assert list_wrong("--full") == []
    assert recount(migrated) == []
