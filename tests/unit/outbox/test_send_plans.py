from datetime import timedelta
from typing import Any

import pytest

from automations.instagram.events import Event
from automations.outbox.jobs import build_send, build_tap_send, list_remaining
from automations.rules.automation import Automation, parse_automation
from tests.support.triggers import T0

CONTENTS = [
    {"name": name, "text": name}
    for name in ("comment_reply", "opening_dm", "ask_follow", "main_dm")
]


def make_automation(**fields: Any) -> Automation:
    document = {
        "_id": "a1", "workspaceId": "w1", "accountId": "1", "isActive": True,
        "type": "comment_to_dm", "trigger": {"match": "any"},
        "openingDm": {"text": "Hi", "button": "Go"}, "mainDm": {"text": "Here"},
    } | fields  # fmt: skip
    automation = parse_automation(document)
    assert automation is not None
    return automation


def make_event(type_: Any = "comment", **fields: Any) -> Event:
    return Event(
        type=type_, kind="comment" if type_ == "comment" else "message",
        event_id="e1", account_id="1", user_id="p1",
        **fields,
    )  # fmt: skip


def test_comment_is_answered_privately_within_seven_days() -> None:
    automation = make_automation()
    assert build_send(make_event(), automation, arrived_at=T0) == {
        "steps": [step.content for step in automation.steps],
        "position": 0,
        "via": "private_reply",
        "commentId": "e1",
        "windowEndsAt": T0 + timedelta(days=7),
    }


def test_comment_of_a_broadcast_has_hours() -> None:
    send = build_send(make_event(is_live=True), make_automation(), arrived_at=T0) or {}
    assert (send["isLive"], send["windowEndsAt"]) == (True, T0 + timedelta(hours=4))


@pytest.mark.parametrize("type_", ["message", "story_reply", "story_mention"])
def test_message_is_answered_within_a_day(type_: str) -> None:
    automation = make_automation(type="dm_auto_responder")
    assert build_send(make_event(type_), automation, arrived_at=T0) == {
        "steps": [step.content for step in automation.steps],
        "position": 0,
        "via": "dm",
        "windowEndsAt": T0 + timedelta(hours=24),
    }


def test_automation_with_nothing_to_send_sends_nothing() -> None:
    automation = make_automation(openingDm=None, mainDm=None)
    assert build_send(make_event(), automation, arrived_at=T0) is None


@pytest.mark.parametrize(
    ("tapped", "remaining"),
    [
        ("opening_dm", ["ask_follow", "main_dm"]),
        ("ask_follow", ["ask_follow", "main_dm"]),  # the tap asks for another check
        ("main_dm", []),
    ],
)
def test_tap_goes_on_after_the_step_of_its_button(tapped: str, remaining: list[str]) -> None:
    assert [step["name"] for step in list_remaining(CONTENTS, tapped)] == remaining
    # Also where the automation no longer has that step.
    without = [step for step in CONTENTS if step["name"] != tapped]
    assert [step["name"] for step in list_remaining(without, tapped)] == [
        name for name in remaining if name != tapped
    ]


def test_tap_opens_the_conversation_for_a_day_whatever_is_left_to_send() -> None:
    assert build_tap_send("ask_follow", arrived_at=T0) == {
        "tapped": "ask_follow", "position": 0, "via": "dm",
        "windowEndsAt": T0 + timedelta(hours=24),
    }  # fmt: skip
