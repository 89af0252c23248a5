"""`reconcile_runs`: every difference is shown, repaired and gone, whatever goes on meanwhile."""

import logging
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from functools import partial
from typing import Any

import pytest
from bson import ObjectId
from django.core.management import CommandError, call_command

from tests.integration.conftest import Db, Document, flow
from tests.support.commands import run_command
from tests.support.triggers import make_trigger, now_in_milliseconds
from tests.support.uncounted import count_everything
from tests.support.verification_cases import (
    DAY,
    HOUR,
    KEY,
    NAME,
    Fault,
    change_a_base,
    change_a_copy,
    change_an_open_hour,
    change_what_a_base_keeps,
    delete_a_contact,
    drop_an_hour,
    insert_an_older_automation,
    list_wrong,
    move_a_contact,
    move_runs_to_another_minute,
)
from tracking import service
from tracking.maintenance import reconciliation
from tracking.queries.stats import StatsStore

reconcile = partial(run_command, "reconcile_runs")
COLLECTIONS = ("automations", "automation_runs", "automation_contacts", "automation_run_stats")


def dump(db: Db) -> dict[str, list[Document]]:
    return {name: sorted(db[name].find(), key=lambda one: str(one["_id"])) for name in COLLECTIONS}


def read_totals(db: Db) -> dict[str, int]:
    found = StatsStore(db).summarize(list(db["automations"].find()), at=datetime.now(UTC))
    return {name: summary.total_runs for name, summary in found.by_automation.items()}


def test_nothing_is_touched_where_all_is_well(live: Db) -> None:
    before = dump(live)
    assert reconcile() == ["nothing differs", "automations compared: 3", "automations repaired: 0"]
    assert reconcile("--adopt")[0] == "nothing differs"
    assert dump(live) == before


SHOWN: list[tuple[Fault, tuple[str, ...]]] = [
    (change_a_copy, (NAME, "copy in automations", "105", "100")),
    (change_a_base, (NAME, "total", "105", "100")),
    (drop_an_hour, (NAME, "runs in hours (1)")),
    (move_runs_to_another_minute, ("a2", "runs in hours (1)")),
    (change_what_a_base_keeps, ("a2", "runs in hours (1)")),
    (change_an_open_hour, (NAME, "runs in hours (1)")),
    (delete_a_contact, (NAME, "contacts", "1 differ", "as their runs")),
    (move_a_contact, (NAME, "contacts", "1 differ", "as their runs")),
    (insert_an_older_automation, ("a3", "base", "none", "built by add_run_fields")),
]


@pytest.mark.parametrize(("break_it", "shown"), SHOWN, ids=[one.__name__ for one, _ in SHOWN])
def test_a_difference_is_shown_then_repaired_and_then_gone(
    live: Db, caplog: pytest.LogCaptureFixture, break_it: Fault, shown: tuple[str, ...]
) -> None:
    totals = read_totals(live)
    break_it(live)
    service.close()
    before = dump(live)
    lines = reconcile("--dry-run")
    assert dump(live) == before
    assert "dry run, nothing was changed" in lines
    rows = [[cell.strip() for cell in line.split("  ") if cell] for line in lines]
    assert any(tuple(row[: len(shown)]) == shown for row in rows), lines
    with caplog.at_level(logging.INFO, "tracking"):
        reconcile()
    assert list_wrong("--full") == []
    assert any("Reconciled" in line for line in caplog.messages)
    assert reconcile()[0] == "nothing differs"
    added = 7 if break_it is insert_an_older_automation else 0
    assert sum(read_totals(live).values()) == sum(totals.values()) + added


def test_hours_that_a_ttl_may_have_touched_are_never_rebuilt(live: Db) -> None:
    """A TTL that was shorter for a while: the counts of what it took stay."""
    totals = read_totals(live)
    gone = {"createdAt": {"$lt": datetime.now(UTC) - 3 * DAY}}
    assert live["automation_runs"].delete_many(gone).deleted_count > 20
    before = dump(live)
    assert reconcile()[0] == "nothing differs"
    assert dump(live) == before
    assert read_totals(live) == totals


def test_a_copy_of_no_number_becomes_one(live: Db) -> None:
    live["automations"].update_one({"_id": KEY}, {"$set": {"totalRuns": "100", "lastRunAt": "now"}})
    reconcile()
    copy = live["automations"].find_one({"_id": KEY}) or {}
    assert copy["totalRuns"] == 100
    assert isinstance(copy["lastRunAt"], datetime)


def test_traffic_may_flow_meanwhile(live: Db) -> None:
    def send(number: int) -> None:
        key = (KEY, "a2")[number % 2]
        fields = {"automation_key": key, "automation_id": str(key), "user_id": f"t{number}"}
        service.record_triggers([make_trigger(arrived_at=now_in_milliseconds(), **fields)])

    before = sum(read_totals(live).values())
    with flow(send) as sent:
        for break_it in (change_a_copy, drop_an_hour, change_a_base, delete_a_contact):
            break_it(live)
            reconcile()
    service.close()
    count_everything(live)
    assert list_wrong("--full") == []
    assert sum(read_totals(live).values()) == before + len(sent)


@pytest.mark.parametrize("step", range(1, 6))
def test_it_may_be_killed_anywhere(live: Db, monkeypatch: Any, step: int) -> None:
    for break_it in (drop_an_hour, change_a_copy, delete_a_contact, move_runs_to_another_minute):
        break_it(live)
    run = reconciliation.Reconciler._run
    calls = 0

    def interrupt(self: Any, *args: Any) -> None:
        nonlocal calls
        calls += 1
        if calls == step:
            raise KeyboardInterrupt
        run(self, *args)

    monkeypatch.setattr(reconciliation.Reconciler, "_run", interrupt)
    with pytest.raises(CommandError, match="Interrupted"):
        reconcile()
    monkeypatch.setattr(reconciliation.Reconciler, "_run", run)
    reconcile()
    assert list_wrong("--full") == []


def test_a_copy_that_another_product_may_have_raised_is_left_alone(live: Db, capsys: Any) -> None:
    run = {"automationId": "a2", "workspaceId": "w1", "userId": "x", "createdAt": datetime.now(UTC)}
    live["automation_runs"].insert_one(run | {"_id": ObjectId()})
    live["automations"].update_one({"_id": "a2"}, {"$inc": {"totalRuns": 3}})
    with pytest.raises(CommandError, match="reconcile_runs --adopt"):
        call_command("reconcile_runs")
    assert "run with --adopt" in capsys.readouterr().out
    before = (live["automations"].find_one({"_id": "a2"}) or {})["totalRuns"]
    reconcile("--adopt")
    assert read_totals(live)["a2"] == before
    assert list_wrong("--full") == []


def test_two_at_once_do_what_one_does(live: Db) -> None:
    totals = read_totals(live)
    for break_it in (drop_an_hour, change_a_base, delete_a_contact):
        break_it(live)
    with ThreadPoolExecutor(2) as pool:
        list(pool.map(lambda _: reconcile(), range(2)))
    assert read_totals(live) == totals
    assert list_wrong("--full") == []


def test_where_hours_are_gone_the_total_rises_with_new_ones(live: Db) -> None:
    """Counting began more than 400 days ago: what all hours hold no longer tells the total."""
    live["automation_run_stats"].update_one(
        {"_id": "a2:b"}, {"$set": {"takenAt": datetime.now(UTC) - 500 * DAY, "hoursSince": None}}
    )
    total = read_totals(live)["a2"]
    old = {"automationId": "a2", "workspaceId": "w1", "createdAt": datetime.now(UTC) - 9 * HOUR}
    live["automation_runs"].insert_many([old | {"userId": f"u{one}"} for one in range(4)])
    reconcile("--adopt")
    reconcile("--adopt")
    assert read_totals(live)["a2"] == total + 4
