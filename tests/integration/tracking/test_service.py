"""The front door: what another engine sees of it, and the exact lines of the log."""

import logging
import os
import subprocess
import sys
import time
from contextlib import suppress
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from bson import ObjectId

from tests.conftest import NOWHERE, prepare
from tests.integration.conftest import Db
from tests.support.oracle import recount
from tests.support.triggers import T0, make_trigger, now_in_milliseconds
from tests.support.uncounted import count_everything
from tests.support.waiting import wait_until
from tracking import service
from tracking.counting import switch
from tracking.exceptions import TrackingUnavailable
from tracking.mongo import client as mongo
from tracking.queries.stats import find_pending
from tracking.runs import Outcome
from tracking.service import track_automation_run

Lines = pytest.LogCaptureFixture
KEY = ObjectId("65f0c0ffee65f0c0ffee65f0")


@pytest.fixture
def lines(caplog: Lines) -> Lines:
    caplog.set_level(logging.INFO, logger="tracking")
    return caplog


def read(caplog: Lines, *, least: int = 1) -> list[str]:
    """Return the lines of tracking since the last read: a counter writes after it has marked."""

    def find() -> list[str]:
        return [one.getMessage() for one in caplog.records if one.name == "tracking"]

    with suppress(AssertionError):
        wait_until(lambda: len(find()) >= least, seconds=2)
    found = find()
    caplog.clear()
    return found


class Broken:
    def __str__(self) -> str:
        raise ValueError


# By name, because the address in a repr differs between xdist's workers.
ODD_ARGUMENTS: dict[str, tuple[Any, ...]] = {
    "user_half_character": ("a1", "w1", "t", "\ud800"),
    "metadata_past_64_bits": ("a1", "w1", "t", "p1", {"big": 2**64}),
    "metadata_with_object": ("a1", "w1", "t", "p1", {"object": object()}),
    "metadata_is_number": ("a1", "w1", "t", "p1", 7),
    "metadata_is_list": ("a1", "w1", "t", "p1", ["not", "a", "mapping"]),
    "id_is_object": (object(), "w1", "t", "p1"),
    "id_without_text": (Broken(), "w1", "t", "p1"),
    "id_past_64_bits": (2**80, "w1", "t", "p1"),
    "id_half_character": ("\ud800", "w1", "t", "p1"),
    "id_is_mapping": ({"a": 1}, "w1", "t", "p1"),
}


class TestTrackAutomationRun:
    def test_true_is_counted_false_a_duplicate(self, db: Db, lines: Lines) -> None:
        before = now_in_milliseconds()
        metadata = {"messageText": "hi", "conversationId": "c1"}
        assert track_automation_run("a1", "w1", "main_dm", "p1", metadata) is True
        assert read(lines) == ["✅ [TRACKING] Automation run tracked: a1 (main_dm)"]
        assert track_automation_run("a1", "w1", "main_dm", "p1") is False
        assert read(lines) == ["ℹ️ [TRACKING] Duplicate run skipped for user p1"]
        [run] = db["automation_runs"].find()
        assert before <= run.pop("createdAt") <= now_in_milliseconds()
        assert run == {
            "_id": run["_id"], "automationId": "a1", "workspaceId": "w1", "userId": "p1",
            "triggerType": "main_dm", "metadata": metadata, "eventId": run["eventId"],
        }  # fmt: skip
        assert recount(db) == []

    def test_each_call_is_an_event_unless_it_names_one(self, db: Db, lines: Lines) -> None:
        assert track_automation_run("a1", "w1", "t", "p1", event_id="e1") is True
        assert track_automation_run("a1", "w1", "t", "p2", event_id="e1") is False
        assert read(lines)[-1] == "ℹ️ [TRACKING] Event was recorded before, nothing counted"
        assert track_automation_run("a2", "w2", "t", "p2", event_id="e1") is True
        assert track_automation_run("a1", "w1", "t", "p3") is True
        assert track_automation_run("a1", "w1", "t", "p4") is True
        assert db["automation_triggers"].count_documents({}) == 4
        assert recount(db) == []

    @pytest.mark.parametrize(("stored", "named"), [(KEY, KEY), (KEY, str(KEY)), (str(KEY),) * 2])
    def test_an_automation_is_found_by_key_or_text(self, db: Db, stored: Any, named: Any) -> None:
        db["automations"].insert_one({"_id": stored, "totalRuns": 2})
        assert track_automation_run(named, "w1", "t", "p1") is True
        assert (db["automations"].find_one() or {})["totalRuns"] == 3
        assert recount(db) == []

    def test_an_automation_that_comes_later_is_found_then(self, db: Db) -> None:
        key = str(ObjectId())
        assert track_automation_run(key, "w1", "t", "p1") is True
        db["automations"].insert_one({"_id": key})
        assert track_automation_run(key, "w1", "t", "p2") is True
        assert (db["automations"].find_one() or {})["totalRuns"] == 2

    def test_off_is_false_and_the_trigger_is_kept(
        self, db: Db, settings: Any, lines: Lines, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        settings.TRACKING_ENABLED = False
        monkeypatch.setattr(service, "_OUTCOME_SECONDS", 0.1)
        assert track_automation_run("a1", "w1", "t", "p1") is False
        assert read(lines) == ["⚠️ [TRACKING] Run stored, not counted yet"]
        assert find_pending(db, ["a1"], before=now_in_milliseconds()).all == 1
        assert db["automation_runs"].count_documents({}) == 0
        settings.TRACKING_ENABLED = True
        service.close()
        assert track_automation_run("a1", "w1", "t", "p1") is False
        assert db["automation_runs"].count_documents({}) == 1

    @pytest.mark.parametrize("arguments", ODD_ARGUMENTS.values(), ids=ODD_ARGUMENTS)
    def test_nothing_makes_it_raise(self, db: Db, lines: Lines, arguments: tuple[Any, ...]) -> None:
        result = track_automation_run(*arguments)
        said = read(lines)
        assert said
        if not result:
            assert any("[TRACKING]" in line and line.startswith(("❌", "⚠️")) for line in said)
        assert track_automation_run("a1", "w1", "t", "next") is True
        assert recount(db) == []

    def test_no_database_raises_nothing(
        self, settings: Any, lines: Lines, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        in_short = partial(service.record_triggers, seconds=0.3)
        monkeypatch.setattr(service, "record_triggers", in_short)
        settings.MONGODB_URI = NOWHERE
        try:
            assert track_automation_run("a1", "w1", "t", "p1") is False
            settings.MONGODB_URI = "not a URI"
            service.close()
            assert track_automation_run("a1", "w1", "t", "p1") is False
        finally:
            service.close()
            mongo.close()
        said = [line for line in read(lines) if "Counting is interrupted" not in line]
        assert len(said) == 2
        assert all(line.startswith("❌ [TRACKING] Run not tracked: ") for line in said)


class TestRecordTriggers:
    def test_a_delivery_is_recorded_in_order(self, db: Db, lines: Lines) -> None:
        delivery = [
            make_trigger(user_id="p1", trigger_type="comment_reply"),
            make_trigger(user_id="p1"),
            make_trigger(user_id="p2", event_id="e"),
            make_trigger(user_id="p3", event_id="e"),
            make_trigger(user_id="\ud800"),
        ]
        assert service.record_triggers(delivery) == [
            *[Outcome.STORED] * 3, Outcome.REDELIVERED, Outcome.REJECTED,
        ]  # fmt: skip
        assert service.wait_for_outcomes(delivery[:4]) == [
            Outcome.COUNTED, Outcome.DUPLICATE, Outcome.COUNTED, Outcome.COUNTED,
        ]  # fmt: skip
        assert [line for line in read(lines, least=4) if not line.startswith("❌")] == [
            "✅ [TRACKING] Automation run tracked: a1 (comment_reply)",
            "ℹ️ [TRACKING] Duplicate run skipped for user p1",
            "✅ [TRACKING] Automation run tracked: a1 (comment_reply)",
        ]

    def test_no_trigger_needs_no_database(self) -> None:
        assert service.record_triggers([]) == []

    def test_what_is_recorded_is_in_the_next_answer(self, db: Db) -> None:
        """I5: and in the automation's own document."""
        db["automations"].insert_one({"_id": "a1", "totalRuns": 0, "lastRunAt": None})
        for number in range(1, 31):
            at = now_in_milliseconds()
            service.record_triggers([make_trigger(user_id=f"p{number}", arrived_at=at)])
            while True:
                found = service.summarize_runs([{"_id": "a1"}], at=at)
                shown = found.by_automation["a1"]
                assert shown.total_runs + found.pending == number
                if not found.pending:  # a slow machine may take longer than an answer waits
                    break
            assert shown.last_run_at == at
            assert (shown.total_runs, shown.last_24_hours, shown.last_7_days) == (number,) * 3
            automation = db["automations"].find_one() or {}
            assert (automation["totalRuns"], automation["lastRunAt"]) == (number, at)

    def test_an_absent_database_is_told_to_who_answers(self, settings: Any) -> None:
        settings.MONGODB_URI = NOWHERE
        try:
            with pytest.raises(TrackingUnavailable):
                service.record_triggers([make_trigger()], seconds=0.3)
        finally:
            service.close()
            mongo.close()

    def test_the_window_of_the_settings_counts(self, db: Db, settings: Any) -> None:
        settings.TRACKING_DEDUP_WINDOW_MINUTES = 5
        triggers = [make_trigger(), make_trigger(arrived_at=T0 + timedelta(minutes=6))]
        service.record_triggers(triggers)
        assert service.wait_for_outcomes(triggers) == [Outcome.COUNTED] * 2


SCRIPT = """
import os, sys
os.environ["DJANGO_SETTINGS_MODULE"] = "settings_of_another_project"
import django
django.setup()
from tracking.service import track_automation_run
for user in ("ann", "bea", "ann"):
    print(track_automation_run("a1", "w1", "main_dm", user, {"messageText": "hi"}))
"""


def test_tracking_alone_counts_in_a_script_of_another_project(db: Db, tmp_path: Path) -> None:
    """No settings but the database, no other process, a database without our collections."""
    for name in db.list_collection_names():
        db[name].drop()
    settings = f"""
SECRET_KEY = "x"
INSTALLED_APPS = ["tracking"]
MONGODB_URI = {os.environ["MONGODB_URI"]!r}
"""
    (tmp_path / "settings_of_another_project.py").write_text(settings)
    path = os.pathsep.join([str(tmp_path), str(Path(service.__file__).parents[1])])
    started = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT], env=os.environ | {"PYTHONPATH": path}, check=True,
        capture_output=True, text=True, cwd=tmp_path,
    )  # fmt: skip
    assert time.monotonic() - started < 15
    assert done.stdout.split() == ["True", "True", "False"], done.stderr
    assert recount(db) == []
    assert db["tracking_partitions"].count_documents({"owner": {"$ne": None}}) == 0
    prepare(db)


def test_statistics_need_both_switches(db: Db, settings: Any, monkeypatch: Any) -> None:
    assert service.is_stats_enabled()
    db["tracking_switch"].insert_one({"_id": "stats", "state": "off"})
    assert service.is_stats_enabled()  # what another process sets is seen within a second
    monkeypatch.setattr(switch, "_KEPT_SECONDS", 0.0)
    switch._kept.clear()
    assert not service.is_stats_enabled()
    db["tracking_switch"].update_one({"_id": "stats"}, {"$set": {"state": "on"}})
    assert service.is_stats_enabled()
    settings.TRACKING_STATS_ENABLED = False
    assert not service.is_stats_enabled()


def test_closing_twice_and_going_on(db: Db) -> None:
    service.record_triggers([make_trigger(user_id="p1")])
    service.close()
    service.close()
    trigger = make_trigger(user_id="p2")
    assert service.record_triggers([trigger]) == [Outcome.STORED]
    assert service.wait_for_outcomes([trigger]) == [Outcome.COUNTED]


def test_counting_goes_on_with_a_new_client(db: Db) -> None:
    """As when the embedded server has moved."""
    for user_id in ("p1", "p2", "p1"):
        trigger = make_trigger(user_id=user_id, arrived_at=now_in_milliseconds())
        assert service.record_triggers([trigger]) == [Outcome.STORED]
        mongo.close()
    # Whoever counted with the client before could not say that it leaves.
    count_everything(db)
    assert db["automation_runs"].count_documents({}) == 2
    assert recount(db) == []
