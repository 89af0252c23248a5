"""Taps and echoes, in Meta's keys: what carries a conversation on, and what proves that it did."""

from datetime import datetime
from typing import Any, TypeGuard

from automations.button_payloads import has_shape, is_claimed
from automations.events import Echo, Event, Reason
from automations.scalars import is_whole, read_id, read_object, read_time


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
