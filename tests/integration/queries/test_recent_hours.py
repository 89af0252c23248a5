"""The hours that small charts are drawn from: the same runs, whether folded or still open."""

from collections import Counter
from datetime import timedelta
from typing import Any

from django.core.management import call_command
from pymongo.database import Database

from tests.support.api_client import build_automation, build_run
from tracking import service
from tracking.rollups.hours import hour_of

Db = Database[dict[str, Any]]


def test_hours_equal_a_count_of_the_runs(db: Db) -> None:
    db["automations"].insert_many([build_automation(_id=one) for one in ("a1", "a2", "a3")])
    ages = [timedelta(hours=number * 7 % 160, minutes=number % 60) for number in range(80)]
    db["automation_runs"].insert_many(
        build_run("a1" if number % 3 else "a2", age=age) for number, age in enumerate(ages)
    )
    call_command("add_run_fields", verbosity=0)
    for number in range(5):
        service.track_automation_run("a1", "ws1", "main_dm", f"u{number}")
    found = service.list_recent_hours(["a1", "a2", "a3", "unknown"])
    expected: dict[str, Counter[int]] = {one: Counter() for one in found}
    for run in db["automation_runs"].find():
        expected[run["automationId"]][hour_of(run["createdAt"])] += 1
    assert found == expected
    assert sum(found["a1"].values()) > 50
    assert found["a3"] == found["unknown"] == {}


def test_of_no_automation_nothing_is_read() -> None:
    assert service.list_recent_hours([]) == {}
