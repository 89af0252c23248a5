"""One element of a delivery, in Meta's keys, becomes one event or the reason why it is none.

Meta's facts: https://developers.facebook.com/docs/instagram-platform/webhooks and
https://developers.facebook.com/docs/messenger-platform/reference/webhook-events (read 2025-2026).
"""

from collections.abc import Callable
from datetime import datetime
from typing import Any

from automations.instagram.comments import read_comment, read_live_comment
from automations.instagram.events import Echo, Event, Reason
from automations.instagram.json_values import BrokenValue, refuse
from automations.instagram.messaging import read_messaging, read_postback

# Reads an element of the account's entry, which Meta sent at that time.
Reader = Callable[[Any, str, datetime | None], Event | Echo | Reason]

# The samples of Meta's dashboard. The user name "test" proves nothing: somebody has it.
TEST_ACCOUNT_ID = "0"

# The fields of a `changes` element that are known and never a trigger, whatever they hold.
IGNORED_FIELDS: dict[str, Reason] = {
    "mentions": "mentions",
    "story_insights": "story_insights",
    "message_edit": "edit",
    "message_reactions": "reaction",
    "messaging_referral": "referral",
    "messaging_seen": "seen",
    "messaging_handover": "handover",
    "standby": "standby",
}


# How to read the value of a `changes` element, by its field.
FIELD_READERS: dict[str, Reader] = {
    "comments": read_comment,
    "live_comments": read_live_comment,
    "messages": read_messaging,
    "messaging_postbacks": read_postback,
}


def read_change(change: Any, account_id: str, sent_at: datetime | None) -> Event | Echo | Reason:
    """Read a `field` with its `value`."""
    if type(change) is not dict:
        refuse(change, "", "an object")
    field = change.get("field")
    if type(field) is not str:
        refuse(field, ".field", "a string")
    read = FIELD_READERS.get(field)
    if read is None:
        return IGNORED_FIELDS.get(field, "unknown_field")
    try:
        return read(change.get("value"), account_id, sent_at)
    except BrokenValue as error:
        raise error.under(".value") from None


def read_standby(element: Any, account_id: str, sent_at: datetime | None) -> Reason:
    """Leave it alone: another app owns this conversation."""
    return "standby"


# How to read the elements of an entry, by the key of the array that holds them.
ELEMENT_READERS: dict[str, Reader] = {
    "changes": read_change,
    "messaging": read_messaging,
    "standby": read_standby,
}
