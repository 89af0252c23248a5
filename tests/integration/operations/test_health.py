"""/readyz says what is so, in time, and asks MongoDB once a second however often it is asked."""

import time
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from io import StringIO
from typing import Any

import pytest
from django.core.management import call_command
from django.test import Client
from pymongo.database import Database

from automations.operations import health, health_store
from automations.operations.health import HealthReader
from automations.outbox.lanes import LaneStore
from tests.integration.conftest import Recorder
from tests.support.outbox_fakes import make_job_document
from tests.support.triggers import T0


@pytest.fixture(autouse=True)
def reader(monkeypatch: pytest.MonkeyPatch) -> HealthReader:
    fresh = HealthReader()
    monkeypatch.setattr("project.operations.reader", fresh)
    monkeypatch.setattr("automations.operations.prometheus.reader", fresh)
    return fresh


def test_ready(db: Database[Any], client: Client) -> None:
    db["webhook_dead_letters"].insert_many([{"_id": "1", "state": "waiting"}, {"_id": "2"}])
    now = datetime.now(UTC)
    db["automation_triggers"].insert_many([
        {"_id": "a:comment:1", "partition": 3, "createdAt": now - timedelta(minutes=2)},
        {"_id": "a:comment:2", "partition": 3, "createdAt": now},
        # Of a stuck automation: it is not late, it is named.
        {"_id": "a:comment:3", "partition": -5, "createdAt": now - timedelta(hours=9)},
        {"_id": "a:comment:4", "createdAt": now, "outcome": "counted"},
    ])  # fmt: skip
    stuck = {"automationId": "a1", "reason": "x", "since": now, "tries": 1, "retryAt": now}
    db["tracking_partitions"].insert_one({"_id": 4, "owner": None, "stuck": [stuck]})
    response = client.get("/readyz")
    document = response.json()
    assert response.status_code == 200, document
    assert response["Cache-Control"].startswith("max-age=0")
    assert document["status"] == "ready"
    assert all(check["ok"] for check in document["checks"].values())
    assert abs(document["checks"]["clock"].pop("aheadSeconds")) < 1
    assert document["checks"] == {
        "mongodb": {"ok": True, "problem": None},
        "clock": {"ok": True, "limitSeconds": 1.0},
        "indexes": {"ok": True, "missing": []},
    }
    assert 120 <= document["waiting"].pop("countingLateSeconds") < 130
    assert document["waiting"] == {
        "sends": 0, "sendsLateSeconds": 0.0, "sendsLate": False, "deadLetters": 1, "uncounted": 3,
        "stuckAutomations": 1,
    }  # fmt: skip


@pytest.mark.parametrize(("ahead", "is_right"), [(0.9, True), (1.2, False), (-1.2, False)])
def test_a_clock_that_is_off(db: Database[Any], ahead: float, is_right: bool) -> None:
    health = HealthReader(clock=lambda: time.time() + ahead).read()
    assert health.is_clock_right is is_right
    assert health.is_ready is is_right
    assert health.clock_offset == pytest.approx(ahead, abs=0.09)


def test_a_missing_index_is_named_and_leaves_the_fleet_ready(
    db: Database[Any], client: Client, caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.setattr(health, "_KEPT_SECONDS", 0.0)
    db["automation_triggers"].drop_index("outbox_queue")
    for _ in range(2):
        response = client.get("/readyz")
        assert (response.status_code, response.json()["status"]) == (200, "ready")
        missing = {"ok": False, "missing": ["automation_triggers.outbox_queue"]}
        assert response.json()["checks"]["indexes"] == missing
    assert "mongodb_missing_indexes 1.0" in client.get("/metrics").content.decode()
    [line] = [one.getMessage() for one in caplog.records if "missing" in one.getMessage()]
    assert "automation_triggers.outbox_queue" in line
    call_command("add_run_indexes", stdout=StringIO())
    assert client.get("/readyz").json()["checks"]["indexes"] == {"ok": True, "missing": []}


def test_a_better_answer_is_told_at_once(db: Database[Any], reader: HealthReader) -> None:
    reader._clock = lambda: time.time() + 60
    assert not reader.read().is_ready
    reader._clock = time.time
    ready = reader.read()
    assert ready.is_ready
    assert reader.read() is ready


def test_a_database_that_is_away_is_said_within_a_second(client: Client, settings: Any) -> None:
    settings.MONGODB_URI = "mongodb://127.0.0.1:1/nowhere"
    started = time.monotonic()
    response = client.get("/readyz")
    assert time.monotonic() - started < 1.5
    assert response.status_code == 503
    assert response.json()["checks"]["mongodb"] == {
        "ok": False, "problem": "ServerSelectionTimeoutError",
    }  # fmt: skip
    assert "127.0.0.1" not in response.content.decode()


class TestQueueLag:
    @pytest.mark.parametrize(
        ("waiting", "lane_due_in", "lag"),
        [
            pytest.param([], None, 0, id="nothing waits"),
            pytest.param([3, 9], None, 9, id="no worker has opened the lane"),
            pytest.param([9], -2, 2, id="a lane that is due"),
            pytest.param([9], 1, 0, id="who waits for the pace or for a pause is not late"),
        ],
    )
    def test_the_lag_in_minutes(
        self, db: Database[Any], waiting: list[int], lane_due_in: int | None, lag: int
    ) -> None:
        for minutes in waiting:
            at = T0 - timedelta(minutes=minutes)
            db["automation_triggers"].insert_one(make_job_document(created_at=at))
        if lane_due_in is not None:
            LaneStore(db).open_lanes("dm", ["acc1"], now=T0 + timedelta(minutes=lane_due_in))
        assert health_store.read_queue_lag(now=T0) == timedelta(minutes=lag)

    def test_late_sends_are_said_and_leave_the_process_ready(self, db: Database[Any]) -> None:
        at = datetime.now(UTC) - timedelta(hours=1)
        db["automation_triggers"].insert_one(make_job_document(created_at=at))
        health = HealthReader().read()
        assert health.is_ready
        assert health.to_document()["waiting"]["sendsLate"] is True


def test_many_questions_are_one_look(db: Database[Any], monkeypatch: pytest.MonkeyPatch) -> None:
    looks = Recorder()
    monkeypatch.setattr(health, "_KEPT_SECONDS", 60.0)
    monkeypatch.setattr("tracking.mongo.client._TUNING", {"event_listeners": [looks]})
    reader = HealthReader()
    with ThreadPoolExecutor(16) as pool:
        found = list(pool.map(lambda _: reader.read(), range(16)))
    assert all(one is found[0] for one in found)
    assert [one.command_name for one in looks.events].count("hello") == 1


def test_while_one_looks_the_others_are_told_the_last(
    db: Database[Any], reader: HealthReader, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = reader.read()
    monkeypatch.setattr(health, "_KEPT_SECONDS", 0.0)
    with reader._lock:
        assert reader.read() is first
    assert reader.read() is not first


class TestMetrics:
    def test_what_waits_is_there(self, db: Database[Any], client: Client) -> None:
        db["webhook_dead_letters"].insert_one({"_id": "1", "state": "waiting"})
        lines = client.get("/metrics").content.decode().splitlines()
        assert "mongodb_up 1.0" in lines
        assert "webhook_dead_letters_waiting 1.0" in lines
        assert "outbox_lag_seconds 0.0" in lines

    def test_a_database_that_is_away_is_said(self, client: Client) -> None:
        lines = client.get("/metrics").content.decode().splitlines()
        assert "mongodb_up 0.0" in lines
        assert not [line for line in lines if line.startswith("outbox_lag_seconds ")]
