"""One element of a delivery becomes one event or the reason to ignore it.

Meta's facts: https://developers.facebook.com/docs/instagram-platform/webhooks and
https://developers.facebook.com/docs/messenger-platform/reference/webhook-events (read 2025-2026).
Readers raise BrokenValue, whose path starts below the element: ".from.id".
"""

import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any, NoReturn, TypeGuard

from automations.instagram.events import Echo, Event, EventType, Reason

# Reads an element of the account's entry, which Meta sent at that time.
Reader = Callable[[Any, str, datetime | None], Event | Echo | Reason]

# The samples of Meta's dashboard. The user name "test" proves nothing, because a person has it.
TEST_ACCOUNT_ID = "0"
TEST_COMMENT_ID = "17865799348089039"
TEST_MID = "random_mid"

# Payloads of our buttons start so (automations/instagram/buttons.py). Whatever else a button holds
# is left alone: buttons of other apps and of people at work in the inbox come here too.
PAYLOAD_PREFIX = "run1."

# The fields of a `changes` element that are known and never a trigger, whatever they hold.
IGNORED_FIELDS = {
    "mentions": "mentions",
    "story_insights": "story_insights",
    "message_edit": "edit",
    "message_reactions": "reaction",
    "messaging_referral": "referral",
    "messaging_seen": "seen",
    "messaging_handover": "handover",
    "standby": "standby",
}

# A flag of a message that makes it no trigger, in order of precedence.
MESSAGE_FLAGS = {
    "is_echo": "echo",
    "is_self": "self",
    "is_deleted": "deleted",
    "is_unsupported": "unsupported",
}

# The keys of a `messaging` element that holds no message.
MESSAGING_KEYS = {
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

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
# Meta sends seconds and milliseconds in the same places. As seconds, this is the year 33658; as
# milliseconds, it is 2001, before Instagram existed.
LARGEST_SECONDS = 10**12
# The last millisecond that `datetime` can hold (9999-12-31T23:59:59.999Z).
LARGEST_MILLISECONDS = 253_402_300_799_999
LONGEST_TIME = 20  # digits

_LONE_SURROGATE = re.compile("[\ud800-\udfff]")
# The types that loading JSON gives.
_JSON_NAMES: dict[type, str] = {
    bool: "a boolean",
    dict: "an object",
    float: "a number that is not whole",
    int: "a number",
    list: "an array",
    str: "a string",
    type(None): "null or missing",
}


def read_comment(
    comment: Any, account_id: str, sent_at: datetime | None, *, is_live: bool = False
) -> Event | Reason:
    read_object(comment, "")
    comment_id = comment.get("id")
    if comment_id is None:
        comment_id = comment.get("comment_id")  # so in some of Meta's templates
    comment_id = read_id(comment_id, ".id")
    if comment_id == TEST_COMMENT_ID:
        return "test"

    username = None
    person_id = None
    person = comment.get("from")
    if person is not None:
        read_object(person, ".from")
        if person.get("self_ig_scoped_id") is not None:
            return "own_comment"
        if person.get("id") is not None:
            person_id = read_id(person["id"], ".from.id")
            if person_id == account_id:
                return "own_comment"
        username = read_text(person.get("username"), ".from.username")

    media_ids: tuple[str, ...] = ()
    media = comment.get("media")
    if media is not None:
        read_object(media, ".media")
        if media.get("id") is not None:
            media_ids = (read_id(media["id"], ".media.id"),)
        if media.get("original_media_id") is not None:
            original_id = read_id(media["original_media_id"], ".media.original_media_id")
            if original_id not in media_ids:
                media_ids += (original_id,)
        is_live = is_live or media.get("media_product_type") == "LIVE"

    parent_id = comment.get("parent_id")
    return Event(
        type="comment",
        kind="comment",
        event_id=comment_id,
        account_id=account_id,
        user_id=f"comment:{comment_id}" if person_id is None else person_id,
        person_unknown=person_id is None,
        username=username,
        text=read_text(comment.get("text"), ".text"),
        media_ids=media_ids,
        parent_id=None if parent_id is None else read_id(parent_id, ".parent_id"),
        is_live=is_live,
        occurred_at=sent_at,
    )


def read_messaging(
    element: Any, account_id: str, sent_at: datetime | None
) -> Event | Echo | Reason:
    read_object(element, "")
    message = element.get("message")
    if message is None:
        return _read_without_message(element, account_id, sent_at)
    read_object(message, ".message")

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
    postback = element.get("postback") if type(element) is dict else None
    if find_payload(postback) is None:
        return "postback"
    return _read_without_message(element, account_id, sent_at)


def read_echo(element: dict[str, Any], account_id: str, sent_at: datetime | None) -> Echo | Reason:
    """Return the echo, or its reason if it does not say what went to whom."""
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
    payload = button.get("payload") if type(button) is dict else None
    return payload if type(payload) is str and payload.startswith(PAYLOAD_PREFIX) else None


def read_tap(
    element: dict[str, Any],
    account_id: str,
    sent_at: datetime | None,
    *,
    payload: str,
    mid: str,
) -> Event | Reason:
    """Read a tap; only its signature proves that it is ours."""
    person_id = read_id(read_object(element.get("sender"), ".sender").get("id"), ".sender.id")
    if person_id == account_id:
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


# How to read the value of a `changes` element, by its field.
FIELD_READERS: dict[str, Reader] = {
    "comments": read_comment,
    "live_comments": partial(read_comment, is_live=True),
    "messages": read_messaging,
    "messaging_postbacks": read_postback,
}


def read_change(change: Any, account_id: str, sent_at: datetime | None) -> Event | Echo | Reason:
    field = read_object(change, "").get("field")
    if type(field) is not str:
        refuse(field, ".field", "a string")
    read = FIELD_READERS.get(field)
    if read is None:
        return IGNORED_FIELDS.get(field, "unknown_field")
    try:
        return read(change.get("value"), account_id, sent_at)
    except BrokenValue as error:
        raise error.under(".value") from None


# How to read the elements of an entry, by the key of the array that holds them.
ELEMENT_READERS: dict[str, Reader] = {
    "changes": read_change,
    "messaging": read_messaging,
    "standby": lambda *_: "standby",  # another app owns this conversation
}


# --- Single JSON values: ids, texts, flags and times, each in the forms that Meta sends --------


class BrokenValue(ValueError):
    """A value is not what its field should hold; the message says both."""

    def __init__(self, path: str, expected: str, found: str) -> None:
        super().__init__(f"{path} should be {expected}, not {found}")
        self.path = path
        self.expected = expected
        self.found = found

    def under(self, parent: str) -> "BrokenValue":
        return BrokenValue(parent + self.path, self.expected, self.found)


def refuse(value: object, path: str, expected: str) -> NoReturn:
    """Raise BrokenValue for `value`, naming its JSON type and never its content."""
    raise BrokenValue(path, expected, _JSON_NAMES[type(value)])


def read_id(value: Any, path: str) -> str:
    """Return an id: a string that is not empty, or the digits of a whole number."""
    if type(value) is str:
        if not value:
            raise BrokenValue(path, "a non-empty string", "an empty one")
        if is_whole(value):
            return value
        raise BrokenValue(path, "a string of whole characters", "one with half a surrogate pair")
    if type(value) is int:
        return str(value)
    return refuse(value, path, "a non-empty string")


def is_whole(text: str) -> bool:
    """Return whether UTF-8, and so BSON, can hold a text without half surrogate pairs."""
    return text.isascii() or _LONE_SURROGATE.search(text) is None


def read_text(value: Any, path: str) -> str | None:
    """Return a text; halves of emoji that Meta cut through become U+FFFD."""
    if value is None:
        return None
    if type(value) is not str:
        refuse(value, path, "a string")
    if value.isascii():
        return value
    return _LONE_SURROGATE.sub("\ufffd", value)


def read_flag(value: Any, path: str) -> bool:
    if value is None or type(value) is bool:
        return bool(value)
    return refuse(value, path, "true or false")


def read_object(value: Any, path: str) -> dict[str, Any]:
    if type(value) is dict:
        return value
    return refuse(value, path, "an object")


def read_time(value: Any) -> datetime | None:
    """Return Meta's time, aware UTC, in whole milliseconds; None if it cannot be read.

    Takes seconds or milliseconds, as a number or as digits in a string. A time that cannot be read
    is no reason to lose an event, because the arrival of the delivery is what counts.
    """
    if type(value) is str and len(value) <= LONGEST_TIME and value.isascii() and value.isdigit():
        value = int(value)
    if type(value) is float and 0 < value <= LARGEST_MILLISECONDS:
        value = int(value) if value > LARGEST_SECONDS else round(value * 1000)
    elif type(value) is not int:
        return None
    elif value <= LARGEST_SECONDS:
        value *= 1000
    if 0 < value <= LARGEST_MILLISECONDS:
        return EPOCH + timedelta(milliseconds=value)
    return None
