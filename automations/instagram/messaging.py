"""Messages, taps and echoes, in Meta's keys, become events or echoes."""

from datetime import datetime
from typing import Any, TypeGuard

from automations.instagram.buttons import has_shape, is_claimed
from automations.instagram.events import Echo, Event, EventType, Reason
from automations.instagram.json_values import (
    is_whole,
    read_flag,
    read_id,
    read_object,
    read_text,
    read_time,
    refuse,
)

TEST_MID = "random_mid"

# A flag of a message that makes it no trigger, in order of precedence.
MESSAGE_FLAGS: dict[str, Reason] = {
    "is_echo": "echo",
    "is_self": "self",
    "is_deleted": "deleted",
    "is_unsupported": "unsupported",
}

# The keys of a `messaging` element that holds no message.
MESSAGING_KEYS: dict[str, Reason] = {
    "postback": "postback",
    "referral": "referral",
    "reaction": "reaction",
    "read": "seen",
    "message_edit": "edit",
    "pass_thread_control": "handover",
    "take_thread_control": "handover",
    "request_thread_control": "handover",
    "app_roles": "handover",
}


def read_echo(element: dict[str, Any], account_id: str, sent_at: datetime | None) -> Echo | Reason:
    """Return the echo, or only its reason where it does not say what went to whom."""
    message, recipient = element["message"], element.get("recipient")
    mid = message.get("mid")
    person_id = recipient.get("id") if type(recipient) is dict else None
    is_sent = message.get("is_deleted") is not True
    if not (is_sent and _is_id(mid) and _is_id(person_id)):
        return "echo"
    occurred_at = read_time(element.get("timestamp")) or sent_at
    return Echo(account_id=account_id, mid=mid, user_id=person_id, occurred_at=occurred_at)


def _is_id(value: Any) -> TypeGuard[str]:
    return type(value) is str and value != "" and is_whole(value)


def find_payload(button: Any) -> str | None:
    """Return a payload that says it is ours. Whatever else a button holds is none of our business.

    Buttons of other apps and of people at work in the inbox come here too.
    """
    payload = button.get("payload") if type(button) is dict else None
    return payload if type(payload) is str and is_claimed(payload) else None


def read_tap(
    element: dict[str, Any],
    account_id: str,
    sent_at: datetime | None,
    *,
    payload: str,
    mid: str,
) -> Event | Reason:
    """Return the tap, or the reason why it is none; only its signature proves that it is ours."""
    person_id = read_id(read_object(element.get("sender"), ".sender").get("id"), ".sender.id")
    if not has_shape(payload) or person_id == account_id:
        return "forged_tap"
    return Event(
        type="tap",
        kind="message",
        event_id=mid,
        account_id=account_id,
        user_id=person_id,
        payload=payload,
        occurred_at=read_time(element.get("timestamp")) or sent_at,
    )


def read_messaging(
    element: Any, account_id: str, sent_at: datetime | None
) -> Event | Echo | Reason:
    """Read one element of `messaging`, or the value of a `messages` change."""
    if type(element) is not dict:
        refuse(element, "", "an object")
    message = element.get("message")
    if message is None:
        return _read_without_message(element, account_id, sent_at)
    if type(message) is not dict:
        refuse(message, ".message", "an object")

    mid = message.get("mid")
    if mid == TEST_MID:
        return "test"
    for flag, reason in MESSAGE_FLAGS.items():
        if flag in message and read_flag(message[flag], f".message.{flag}"):
            return read_echo(element, account_id, sent_at) if reason == "echo" else reason
    person_id = read_id(read_object(element.get("sender"), ".sender").get("id"), ".sender.id")
    if person_id == account_id:
        return read_echo(element, account_id, sent_at)
    payload = find_payload(message.get("quick_reply"))
    if payload is not None:
        mid = read_id(mid, ".message.mid")
        return read_tap(element, account_id, sent_at, payload=payload, mid=mid)

    type_: EventType = "message"
    story_id = None
    if message.get("attachments") is not None:
        type_ = _read_attachments(message["attachments"])
    if message.get("reply_to") is not None:
        story = read_object(message["reply_to"], ".message.reply_to").get("story")
        if story is not None:
            type_ = "story_reply"
            story_id = read_object(story, ".message.reply_to.story").get("id")
            if story_id is not None:
                story_id = read_id(story_id, ".message.reply_to.story.id")
    return Event(
        type=type_,
        kind="message",
        event_id=read_id(mid, ".message.mid"),
        account_id=account_id,
        user_id=person_id,
        text=read_text(message.get("text"), ".message.text"),
        story_id=story_id,
        occurred_at=read_time(element.get("timestamp")) or sent_at,
    )


def _read_without_message(
    element: dict[str, Any], account_id: str, sent_at: datetime | None
) -> Event | Reason:
    postback: Any = element.get("postback")
    payload = find_payload(postback)
    if payload is not None:
        mid = read_id(postback.get("mid"), ".postback.mid")
        return read_tap(element, account_id, sent_at, payload=payload, mid=mid)
    for key, reason in MESSAGING_KEYS.items():
        if key in element:
            return reason
    if "message" in element:
        refuse(None, ".message", "an object")
    return "unknown_field"


def _read_attachments(attachments: Any) -> EventType:
    if type(attachments) is not list:
        refuse(attachments, ".message.attachments", "an array")
    types = [
        read_object(attachment, ".message.attachments[]").get("type") for attachment in attachments
    ]
    return "story_mention" if "story_mention" in types else "message"


def read_postback(element: Any, account_id: str, sent_at: datetime | None) -> Event | Reason:
    """Read the value of a `messaging_postbacks` change; what is not a tap of ours is left alone."""
    postback = element.get("postback") if type(element) is dict else None
    if find_payload(postback) is None:
        return "postback"
    return _read_without_message(element, account_id, sent_at)
