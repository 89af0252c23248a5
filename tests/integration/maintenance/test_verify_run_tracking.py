"""`verify_run_tracking`: green on a system that works, red with the right line for each fault."""

from datetime import UTC, datetime
from io import StringIO
from typing import Any

import pytest
from django.core.management import call_command
from pymongo.errors import OperationFailure

from tests.conftest import prepare
from tests.integration.conftest import Db, Document
from tests.support.verification_cases import (
    COPIES,
    COUNTS,
    DAY,
    FAULTS,
    NAME,
    Fault,
    change_a_copy,
    delete_a_contact,
    drop_an_hour,
    insert_a_run_twice,
    leave_tracking_off,
    list_wrong,
    verify,
)
from tracking.maintenance.verification import capacity, table


@pytest.mark.parametrize("options", [(), ("--full",)])
def test_green_where_all_is_well(live: Db, options: tuple[str, ...]) -> None:
    assert list_wrong(*options) == []


def test_green_on_an_empty_database(db: Db) -> None:
    assert list_wrong() == []


def test_red_on_a_database_that_was_never_prepared(bare_db: Db) -> None:
    bare_db["automations"].insert_one({"_id": "a1", "totalRuns": 3})
    wrong = {"run fields of automations", "bases of totals", "collections", "indexes"}
    assert wrong <= set(list_wrong())


class TestIndexes:
    @pytest.fixture(autouse=True)
    def _prepared(self, live: Db) -> Any:
        yield
        prepare(live)

    def test_a_dropped_index(self, live: Db) -> None:
        live["automation_runs"].drop_index("workspaceId_createdAt")
        assert list_wrong() == ["indexes", "index automation_runs.workspaceId_createdAt"]

    def test_indexes_in_use_and_those_of_another_hand(self, live: Db) -> None:
        live["automation_runs"].create_index("metadata.postId", name="posts")
        live["automation_runs"].create_index(
            [("createdAt", 1), ("userId", 1), ("_id", 1)], name="once", unique=True
        )
        try:
            code, findings = verify("--only", "plans", "indexes")
        finally:
            live["automation_runs"].drop_index("posts")
            live["automation_runs"].drop_index("once")
        assert code == 1
        assert "2 that are not ours: automation_runs.once" in findings["indexes in use"]["figure"]
        assert not findings["indexes in use"]["figure"].startswith("0 of")
        line = findings["what refuses our documents"]
        assert line["state"] == "wrong"
        assert line["figure"].startswith("1: automation_runs.once is a unique index")

    def test_a_ttl_changed_by_hand(self, live: Db) -> None:
        change = {"name": "createdAt_ttl", "expireAfterSeconds": 30 * 86_400}
        live.command("collMod", "automation_runs", index=change)
        assert list_wrong() == ["indexes", "index automation_runs.createdAt_ttl"]
        _, findings = verify()
        assert findings["index automation_runs.createdAt_ttl"] == {
            "what": "index automation_runs.createdAt_ttl", "state": "wrong",
            "figure": "TTL 2592000 s", "limit": "TTL 7776000 s",
            "fix": "run 'python manage.py add_run_indexes'",
        }  # fmt: skip

    def test_no_ttl_is_right_where_runs_are_kept_for_ever(self, live: Db) -> None:
        live["automation_runs"].drop_index("createdAt_ttl")
        live["automation_contacts"].drop_index("lastRunAt_ttl")
        assert list_wrong("--keep-forever", "--full") == []
        assert "index automation_runs.createdAt_ttl" in list_wrong()


@pytest.mark.parametrize(("break_it", "lines"), FAULTS, ids=[one.__name__ for one, _ in FAULTS])
def test_red_with_the_right_line(live: Db, break_it: Fault, lines: list[str]) -> None:
    break_it(live)
    assert list_wrong() == lines


def test_a_full_verification_sees_the_same(live: Db) -> None:
    for break_it in (drop_an_hour, insert_a_run_twice, delete_a_contact, change_a_copy):
        break_it(live)
    assert list_wrong("--full") == [
        "hours against runs", COUNTS, COPIES, "contacts against runs",
        "runs of a pair within the window",
    ]  # fmt: skip


def test_what_is_old_is_seen_by_a_full_verification_alone(live: Db) -> None:
    is_old = {"automationId": NAME, "hour": {"$lt": datetime.now(UTC) - 8.5 * DAY}}
    hour = live["automation_run_stats"].find_one(is_old, sort=[("hour", -1)]) or {}
    minutes = {"59": hour["n"]} if "59" not in hour["m"] else {"0": hour["n"]}
    live["automation_run_stats"].update_one({"_id": hour["_id"]}, {"$set": {"m": minutes}})
    assert list_wrong() == []
    assert list_wrong("--full") == ["hours against runs"]


def test_a_variable_of_the_environment_is_named(live: Db, settings: Any) -> None:
    settings.TRACKING_ENABLED = False
    _, findings = verify("--only", "switches")
    assert findings["switch of tracking"]["figure"] == "off by TRACKING_ENABLED"


def test_slow_statistics(live: Db, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(capacity, "MOST_MILLISECONDS", 0.0)
    assert list_wrong("--only", "speed") == ["statistics of 3 automations"]


def test_a_disk_that_fills(live: Db, monkeypatch: pytest.MonkeyPatch) -> None:
    _, findings = verify("--only", "growth")
    assert findings["size of automation_runs"]["figure"].startswith("160 documents, ")
    assert findings["days until the disk is full"]["state"] == "ok"
    monkeypatch.setattr(capacity, "FEWEST_DAYS", 10**12)
    assert list_wrong("--only", "growth") == ["days until the disk is full"]


def test_a_disk_that_cannot_be_seen_is_not_wrong() -> None:
    class Blind:
        def command(self, _: str) -> Document:
            return {"ok": 1.0}

    assert capacity._check_disk(Blind(), 1.0).state == "skipped"


def test_what_mongodb_refuses_is_a_line(live: Db, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_: Any) -> Any:
        raise OperationFailure("not authorized", 13)

    monkeypatch.setitem(table.CHECKS, "growth", refuse)
    assert list_wrong("--only", "growth") == ["growth"]


def test_lines_for_people_say_what_to_do(live: Db) -> None:
    leave_tracking_off(live)
    out = StringIO()
    with pytest.raises(SystemExit, match="1"):
        call_command("verify_run_tracking", "--only", "switches", stdout=out)
    first, fix, second, verdict = out.getvalue().splitlines()
    assert first.startswith("wrong   switch of tracking: off since ")
    assert fix == "        do: run 'python manage.py tracking on'"
    assert second == "ok      switch of stats: on (limit: on)"
    assert verdict == "verify_run_tracking: 1 of 2 lines are wrong"


def test_a_terminal_gets_a_table(live: Db, capsys: pytest.CaptureFixture[str]) -> None:
    class Terminal(StringIO):
        def isatty(self) -> bool:
            return True

    out = Terminal()
    call_command("verify_run_tracking", "--only", "switches", stdout=out, no_color=True)
    assert "what to do" in out.getvalue() + capsys.readouterr().out
    assert out.getvalue().splitlines()[-1] == "verify_run_tracking: all is well"
