"""The judge of the chaos run of sending finds what it is there to find."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from pymongo.database import Database

from automations.demo.sandbox import Received
from tests.chaos.sending_model import Verdict, judge

AT = datetime(2026, 11, 23, 12, tzinfo=UTC)
Db = Database[dict[str, Any]]
SENT, UNKNOWN = {"state": "sent", "at": AT}, {"state": "unknown", "at": AT}
STEPS = [{"name": "opening_dm", "text": "opening_dm", "button": "Yes"},
         {"name": "main_dm", "text": "main_dm"}]  # fmt: skip


def receive(text: str, number: int = 1) -> Received:
    return Received(
        kind="dm", account_id="acc", person_id="p", message_id=f"m{number}", text=text,
        buttons=(), comment_id=None, at=AT,
    )  # fmt: skip


ALL = [receive("opening_dm"), receive("main_dm", 2)]


@pytest.fixture
def sent(db: Db) -> Db:
    """A message that was answered and tapped, and the tap that was answered."""
    whole = {"accountId": "acc", "userId": "p", "runId": 1}
    db["automation_runs"].insert_one({
        "_id": 1, "userId": "p", "steps": {"opening_dm": SENT, "main_dm": SENT},
    })  # fmt: skip
    db["automation_triggers"].insert_many([
        {"_id": "acc:message:m1", "state": "waiting", "progress": {"opening_dm": SENT}, **whole,
         "send": {"steps": STEPS, "position": 1}},
        {"_id": "acc:message:t1", "state": "sent", "progress": {"main_dm": SENT}, **whole,
         "send": {"steps": STEPS[1:], "position": 1}},
    ])  # fmt: skip
    return db


def change(db: Db, mid: str, **fields: Any) -> None:
    db["automation_triggers"].update_one({"_id": f"acc:message:{mid}"}, {"$set": fields})


def check(db: Db, received: list[Received] = ALL, *more: str) -> Verdict:
    return judge(db, received, {"m1", "t1", *more})


def test_what_is_right_is_found_right(sent: Db) -> None:
    assert check(sent) == Verdict([], [], 0)


def test_a_message_that_came_twice_is_found(sent: Db) -> None:
    assert len(check(sent, [*ALL, receive("main_dm", 3)]).twice) == 1


def test_an_event_without_its_trigger_is_lost(sent: Db) -> None:
    [line] = check(sent, ALL, "t2").lost
    assert "t2" in line


@pytest.mark.parametrize("state", ["queued", "leased", "sending", "failed", "expired"])
def test_a_job_that_is_not_at_its_end_is_lost(sent: Db, state: str) -> None:
    change(sent, "m1", state=state)
    assert len(check(sent).lost) == 1


def test_an_unknown_send_is_counted_and_whether_it_came_is_left_open(sent: Db) -> None:
    change(sent, "t1", state="unknown", progress={"main_dm": UNKNOWN}, send={
        "steps": STEPS[1:], "position": 0})  # fmt: skip
    assert check(sent) == Verdict([], [], 1)
    assert check(sent, ALL[:1]) == Verdict([], [], 1)


def test_a_message_that_counts_as_sent_and_never_came_is_lost(sent: Db) -> None:
    assert len(check(sent, ALL[:1]).lost) == 1


def test_a_message_that_came_and_counts_as_nothing_is_lost(sent: Db) -> None:
    assert len(check(sent, [*ALL, receive("ask_follow", 3)]).lost) == 1


def test_a_step_without_a_result_is_lost(sent: Db) -> None:
    change(sent, "t1", progress={})
    assert {line.partition(": ")[2] for line in check(sent, ALL[:1]).lost} == {
        "main_dm has no result"
    }


def test_a_run_that_was_not_told_is_lost(sent: Db) -> None:
    sent["automation_runs"].update_one({}, {"$unset": {"steps.main_dm": 1}})
    assert len(check(sent).lost) == 1
    sent["automation_runs"].update_one({}, {"$set": {"steps.main_dm": SENT}})
    change(sent, "t1", reportAt=AT)
    assert len(check(sent).lost) == 1


def test_a_later_result_of_another_trigger_goes_before_one_that_is_unknown(sent: Db) -> None:
    change(sent, "t1", state="unknown", progress={"main_dm": UNKNOWN}, send={
        "steps": STEPS[1:], "position": 0})  # fmt: skip
    skipped = {"state": "skipped", "at": AT + timedelta(seconds=1), "reason": "follows"}
    sent["automation_runs"].update_one({}, {"$set": {"steps.main_dm": skipped}})
    assert check(sent) == Verdict([], [], 1)
    skipped["at"] = AT - timedelta(seconds=1)
    sent["automation_runs"].update_one({}, {"$set": {"steps.main_dm": skipped}})
    assert len(check(sent).lost) == 1
