"""The judge of the chaos run of sending finds what it is there to find."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from pymongo.database import Database

from automations.demo.sandbox import Received
from tests.chaos.sending_model import judge

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

LEFT_UNKNOWN = {
    "t1.state": "unknown", "t1.progress": {"main_dm": UNKNOWN},
    "t1.send": {"steps": STEPS[1:], "position": 0},
}  # fmt: skip


def skip_run(seconds: int) -> dict[str, Any]:
    at = AT + timedelta(seconds=seconds)
    return {"run.steps.main_dm": {"state": "skipped", "at": at, "reason": "follows"}}


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


@pytest.mark.parametrize(
    ("changes", "received", "lost"),
    [
        ({}, ALL, []),
        *(
            ({"m1.state": state}, ALL, [f"is {state}"])
            for state in ("queued", "leased", "sending", "failed", "expired")
        ),
        ({}, ALL[:1], ["'main_dm') counts as sent and was not"]),
        (
            {},
            [*ALL, receive("ask_follow", 3)],
            ["'ask_follow') was received and counts as nothing"],
        ),
        ({"t1.progress": {}}, ALL[:1], ["main_dm has no result"]),
        ({"t1.reportAt": AT}, ALL, ["its run was not told"]),
        ({"run.steps.main_dm": {}}, ALL, ["'main_dm'): sent was not told to its run"]),
        # Whether an unknown send came is left open.
        (LEFT_UNKNOWN, ALL, []),
        (LEFT_UNKNOWN, ALL[:1], []),
        # A later result of another trigger goes before it.
        (LEFT_UNKNOWN | skip_run(1), ALL, []),
        (LEFT_UNKNOWN | skip_run(-1), ALL, ["'main_dm'): unknown was not told to its run"]),
    ],
)
def test_what_is_lost_is_found(
    sent: Db, changes: dict[str, Any], received: list[Received], lost: list[str]
) -> None:
    for path, value in changes.items():
        place, _, field = path.partition(".")
        collection = sent["automation_runs" if place == "run" else "automation_triggers"]
        key = 1 if place == "run" else f"acc:message:{place}"
        collection.update_one({"_id": key}, {"$set": {field: value}})
    verdict = judge(sent, received, {"m1", "t1"})
    for line, part in zip(verdict.lost, lost, strict=True):
        assert part in line
    assert (verdict.twice, verdict.unknown) == ([], "t1.state" in changes)


def test_what_came_twice_and_an_event_without_its_trigger_are_found(sent: Db) -> None:
    verdict = judge(sent, [*ALL, receive("main_dm", 3)], {"m1", "t1", "t2"})
    assert (verdict.lost, len(verdict.twice)) == (["event t2 has no trigger"], 1)
