"""The reference of the chaos run finds what it is there to find."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from pymongo.database import Database

from automations.demo.simulation import SimulatedEvent
from tests.chaos.model import Verdict, compare
from tests.support.uncounted import count_everything
from tests.support.webhook_cases import (
    ACCOUNTS,
    build_automation,
    build_body,
    build_comment,
    post_body,
)

WINDOW = timedelta(hours=1)
AUTOMATIONS = {(ACCOUNTS[0], "comment"): "a"}
Db = Database[dict[str, Any]]


def build_event(number: int, user_id: str, *, is_match: bool = True) -> SimulatedEvent:
    return SimulatedEvent(
        sim_kind="comment",
        account_id=ACCOUNTS[0],
        event_id=build_comment(number)["id"],
        user_id=user_id,
        username="ana.example",
        text="link",
        is_match=is_match,
    )


EVENTS = [build_event(1, "u1"), build_event(2, "u1"), build_event(3, "u2")]


@pytest.fixture
def counted(db: Db) -> Db:
    """Three events of two people: two runs and a duplicate."""
    db["automations"].insert_one(build_automation("a"))
    comments = [
        build_comment(number, **{"from": {"id": event.user_id}})
        for number, event in enumerate(EVENTS, 1)
    ]
    assert post_body(build_body(*comments)).status_code == 200
    count_everything(db)
    return db


def judge(db: Db, events: list[SimulatedEvent] = EVENTS) -> Verdict:
    return compare(events, AUTOMATIONS, db, window=WINDOW)


def test_what_is_right_is_found_right(counted: Db) -> None:
    assert judge(counted) == Verdict([], [])
    unmatched = build_event(4, "u4", is_match=False)
    assert judge(counted, [*EVENTS, unmatched]) == Verdict([], [])


@pytest.mark.parametrize("user_id", ["u1", "u4"])
def test_event_without_a_trigger_is_lost(counted: Db, user_id: str) -> None:
    [line] = judge(counted, [*EVENTS, build_event(4, user_id)]).lost
    assert "17900000000000004" in line


def test_counted_trigger_without_its_run_is_lost(counted: Db) -> None:
    counted["automation_runs"].delete_one({"userId": "u2"})
    counted["automations"].update_one({}, {"$set": {"totalRuns": 1}})
    assert len(judge(counted).lost) == 1


def test_duplicate_without_a_run_near_it_is_lost(counted: Db) -> None:
    long_ago = datetime.now(UTC) - timedelta(hours=2)
    counted["automation_runs"].update_one({"userId": "u1"}, {"$set": {"createdAt": long_ago}})
    assert len(judge(counted).lost) == 1


def test_trigger_left_uncounted_is_lost(counted: Db) -> None:
    counted["automation_triggers"].update_one({"outcome": "duplicate"}, {"$unset": {"outcome": 1}})
    assert len(judge(counted).lost) == 1


def test_second_run_in_the_window_is_double(counted: Db) -> None:
    run = counted["automation_runs"].find_one({"userId": "u1"}) or {}
    again = {**run, "_id": "again", "createdAt": run["createdAt"] + WINDOW, "eventId": "other"}
    counted["automation_runs"].insert_one(again)
    counted["automations"].update_one({}, {"$set": {"totalRuns": 3}})
    assert len(judge(counted).double) == 1


def test_event_that_counted_twice_is_double(counted: Db) -> None:
    run = counted["automation_runs"].find_one({"userId": "u1"}) or {}
    again = {**run, "_id": "again", "createdAt": run["createdAt"] + 2 * WINDOW}
    counted["automation_runs"].insert_one(again)
    counted["automations"].update_one({}, {"$set": {"totalRuns": 3}})
    assert len(judge(counted).double) == 1


def test_trigger_of_nobody_is_double(counted: Db) -> None:
    assert len(judge(counted, EVENTS[:2]).double) == 1


@pytest.mark.parametrize(("total", "lost", "double"), [(1, 1, 0), (3, 0, 1)])
def test_total_that_is_not_its_runs_is_wrong(
    counted: Db, total: int, lost: int, double: int
) -> None:
    counted["automations"].update_one({}, {"$set": {"totalRuns": total}})
    verdict = judge(counted)
    assert (len(verdict.lost), len(verdict.double)) == (lost, double)
