"""The elements of webhooks, as Meta writes them: what people did, and echoes of what we sent."""

from __future__ import annotations

from datetime import datetime
from typing import Any, NamedTuple

from automations.demo.sandbox.messages import Button
from automations.demo.sandbox.state import Comment, Received


class Element(NamedTuple):
    """One thing to tell: `key` is the array of the account's entry that it belongs in."""

    account_id: str
    key: str  # changes or messaging
    content: dict[str, Any]


def build_comment(
    comment: Comment, text: str, *, username: str, parent_id: str | None, has_person: bool
) -> Element:
    """Return a comment."""
    product = "LIVE" if comment.is_live else "FEED"
    value: dict[str, Any] = {
        "id": comment.id,
        "text": text,
        "media": {"id": comment.media_id, "media_product_type": product},
    }
    if has_person:
        value["from"] = {"id": comment.person_id, "username": username}
    if parent_id is not None:
        value["parent_id"] = parent_id
    field = "live_comments" if comment.is_live else "comments"
    return Element(comment.account_id, "changes", {"field": field, "value": value})


def build_message(
    account_id: str, person_id: str, message: dict[str, Any], at: datetime
) -> Element:
    """Return a message of a person."""
    return _build_messaging(account_id, person_id, account_id, {"message": message}, at)


def build_tap(
    account_id: str, person_id: str, button: Button, message_id: str, at: datetime
) -> Element:
    """Return a tap: a postback, or a message where it was a quick reply."""
    if button.kind == "quick_reply":
        message = {
            "mid": message_id,
            "text": button.title,
            "quick_reply": {"payload": button.value},
        }
        return build_message(account_id, person_id, message, at)
    postback = {"mid": message_id, "title": button.title, "payload": button.value}
    return _build_messaging(account_id, person_id, account_id, {"postback": postback}, at)


def build_echo(received: Received) -> Element:
    """Return what the account hears of its own: an echo, or its own comment."""
    account_id, person_id = received.account_id, received.person_id
    if received.kind == "public_reply":
        value = {
            "id": received.message_id,
            "text": received.text,
            "parent_id": received.comment_id,
            "from": {"id": account_id, "username": "the.account"},
        }
        return Element(account_id, "changes", {"field": "comments", "value": value})
    message = {"mid": received.message_id, "text": received.text, "is_echo": True}
    return _build_messaging(account_id, account_id, person_id, {"message": message}, received.at)


def _build_messaging(
    account_id: str, sender_id: str, recipient_id: str, content: dict[str, Any], at: datetime
) -> Element:
    envelope = {
        "sender": {"id": sender_id},
        "recipient": {"id": recipient_id},
        "timestamp": int(at.timestamp() * 1000),
    }
    return Element(account_id, "messaging", envelope | content)
