import os
import socket
from datetime import datetime, timedelta
from functools import partial
from typing import Any

import pytest

from tests.integration.conftest import Db
from tests.support.commands import run_command
from tests.support.oracle import recount
from tests.support.tracker import Tracker
from tests.support.triggers import make_people, make_trigger, now_in_milliseconds
from tests.support.uncounted import count_everything
from tracking import service
from tracking.counting.switch import SwitchState, read_switch
from tracking.maintenance.status import read_status

MINUTE = timedelta(minutes=1)


tracking = partial(run_command, "tracking")


@pytest.fixture
def refusing_db(db: Db) -> Any:
    """Runs of `a1` are refused by a validator of somebody else's."""
    db.command("collMod", "automation_runs", validator={"automationId": {"$ne": "a1"}})
    yield db
    db.command("collMod", "automation_runs", validator={})


def test_where_nothing_waits(db: Db) -> None:
    assert tracking("status") == [
        *["tracking: on", "stats: on", "triggers waiting: 0", "partitions without a counter: 16"],
        *["triggers of stuck automations: 0", "lag: none"],
    ]


def test_what_waits_by_age_and_who_counts(db: Db, tracker: Tracker, settings: Any) -> None:
    tracker.count()
    tracking("off")
    now = now_in_milliseconds()
    tracker.store(*make_people(2, arrived_at=now - 2 * MINUTE))
    tracker.store(make_trigger(arrived_at=now - 3 * 60 * MINUTE))
    tracker.count()
    settings.TRACKING_STATS_ENABLED = False
    lines = tracking("status")
    assert lines[0].startswith("tracking: off since ")
    assert lines[1:5] == [
        "stats: on, but the environment says off (TRACKING_STATS_ENABLED)",
        "triggers waiting: 3 (2 up to 3600 s, 1 longer)",
        f"counter beside other work {socket.gethostname()}:{os.getpid()}: partitions "
        + ", ".join(map(str, range(16))),
        "triggers of stuck automations: 0",
    ]
    assert lines[5].startswith("lag: 108")
    [counter] = read_status(db, now=now).counters
    assert counter.partitions == list(range(16))


def test_a_counter_whose_lease_is_over_owns_nothing(db: Db, tracker: Tracker) -> None:
    tracker.count()
    past = datetime(1970, 1, 2, tzinfo=now_in_milliseconds().tzinfo)
    db["tracking_partitions"].update_many(
        {"renewedAt": {"$exists": True}}, {"$set": {"renewedAt": past}}
    )
    status = read_status(db, now=now_in_milliseconds())
    assert (status.counters, status.unowned) == ([], list(range(16)))


def test_what_is_stuck_is_named_and_retried(refusing_db: Db, tracker: Tracker) -> None:
    now = now_in_milliseconds()
    tracker.store(make_trigger(arrived_at=now), make_trigger(automation_id="a2", arrived_at=now))
    tracker.count()
    lines = tracking("status")
    assert "triggers of stuck automations: 1" in lines
    [named] = [line for line in lines if line.startswith("a1 cannot be counted since ")]
    assert "validator" in named
    assert refusing_db["automation_runs"].count_documents({}) == 1
    refusing_db.command("collMod", "automation_runs", validator={})
    # Its next try is far away.
    refusing_db["tracking_partitions"].update_many(
        {"stuck.0": {"$exists": True}}, {"$set": {"stuck.$[].retryAt": now + 60 * MINUTE}}
    )
    assert tracking("retry")[0] == "automations to be tried again: 1"
    count_everything(refusing_db)
    tracker.record(make_trigger(user_id="p2", arrived_at=now), seconds=20)
    assert "triggers of stuck automations: 0" in tracking("status")
    assert recount(refusing_db) == []


def test_the_switch_of_stats_is_its_own(db: Db) -> None:
    tracking("off", "--stats")
    assert not service.is_stats_enabled()
    assert read_switch(db) is SwitchState.ON
    tracking("on", "--stats")
    assert service.is_stats_enabled()
