"""The oracle finds what it is there to find."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from pymongo.database import Database

from tests.support.oracle import recount, wait_until_counted
from tests.support.webhook_cases import (
    ACCOUNTS,
    build_automation,
    build_body,
    build_comment,
    post_body,
)

WINDOW = timedelta(hours=1)
Db = Database[dict[str, Any]]


def build_expected(*people: str) -> dict[str, tuple[str, str]]:
    """What must be stored when comment 1, 2, ... were acknowledged, each of one person."""
    return {
        f"{ACCOUNTS[0]}:comment:{build_comment(number)['id']}": ("a", person)
        for number, person in enumerate(people, 1)
    }


ACKNOWLEDGED = build_expected("u1", "u1", "u2")


@pytest.fixture
def counted(db: Db) -> Db:
    """Three events of two people: two runs and a duplicate."""
    db["automations"].insert_one(build_automation("a"))
    comments = [
        build_comment(number, **{"from": {"id": person}})
        for number, (_, person) in enumerate(ACKNOWLEDGED.values(), 1)
    ]
    assert post_body(build_body(*comments)).status_code == 200
    wait_until_counted(db)
    return db


def list_broken(db: Db, acknowledged: dict[str, tuple[str, str]] | None = None) -> set[str]:
    """The promises that do not hold, by number."""
    return {line[:2] for line in recount(db, acknowledged=acknowledged or ACKNOWLEDGED)}


def test_what_is_right_is_found_right(counted: Db) -> None:
    assert recount(counted, acknowledged=ACKNOWLEDGED) == []
    assert recount(counted) == []


@pytest.mark.parametrize("person", ["u1", "u4"])
def test_an_event_without_a_trigger_is_lost(counted: Db, person: str) -> None:
    assert list_broken(counted, build_expected("u1", "u1", "u2", person)) == {"I5"}


def test_a_trigger_of_another_person_is_lost(counted: Db) -> None:
    assert list_broken(counted, build_expected("u1", "u1", "u3")) == {"I5"}


def test_a_trigger_that_was_never_counted_is_lost(counted: Db) -> None:
    counted["automation_triggers"].update_one(
        {"outcome": "duplicate"}, {"$unset": {"outcome": True}}
    )
    assert list_broken(counted) == {"I5"}


def test_a_trigger_of_no_event_is_found(counted: Db) -> None:
    assert list_broken(counted, build_expected("u1", "u1")) == {"I3"}


def test_a_counted_trigger_without_its_run_is_found(counted: Db) -> None:
    counted["automation_runs"].delete_one({"userId": "u2"})
    assert {"I1", "I3", "I4", "I8"} <= list_broken(counted)


def test_a_duplicate_without_a_run_near_it_is_found(counted: Db) -> None:
    long_ago = datetime.now(UTC) - timedelta(hours=2)
    counted["automation_runs"].update_one({"userId": "u1"}, {"$set": {"createdAt": long_ago}})
    assert "I2" in list_broken(counted)


@pytest.mark.parametrize(("later", "promise"), [(WINDOW, "I1"), (2 * WINDOW, "I3")])
def test_an_event_that_counted_twice_is_found(counted: Db, later: timedelta, promise: str) -> None:
    run = counted["automation_runs"].find_one({"userId": "u1"}) or {}
    again = {**run, "_id": "again", "createdAt": run["createdAt"] + later}
    counted["automation_runs"].insert_one(again)
    assert promise in list_broken(counted)


@pytest.mark.parametrize("total", [1, 3])
def test_a_total_that_is_not_its_runs_is_found(counted: Db, total: int) -> None:
    counted["automations"].update_one({}, {"$set": {"totalRuns": total}})
    assert list_broken(counted) == {"I4"}
