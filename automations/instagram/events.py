"""What a delivery holds: plain values, and the closed tables of their words.

`payloads` builds them, and nothing outside of this room knows Meta's keys. Three things never mix:
*ignored* is known and left alone on purpose, `unknown_field` is what we do not know,
*malformed* is what we know and cannot read.
"""

from datetime import datetime
from typing import Any, Literal

import msgspec

EventType = Literal["comment", "story_reply", "story_mention", "message", "tap"]
# The namespace in which an event's id is unique: comment ids and message mids never meet.
EventKind = Literal["comment", "message"]
Reason = str  # a key of IGNORED_REASONS

IGNORED_REASONS: dict[Reason, str] = {
    "deleted": "the person took the message back",
    "echo": "a message that the account itself sent",
    "edit": "a message was edited; its first form was the event",
    "forged_tap": "a tap whose payload claims to be ours and is not",
    "handover": "a conversation changes hands between apps",
    "mentions": "the account was named in someone's caption or comment",
    "other_object": "a whole envelope that is not about Instagram, counted once",
    "own_comment": "the account commented itself",
    "postback": "a person tapped a button that is not ours",
    "reaction": "a person reacted to a message",
    "referral": "a person came through a link or an ad, and wrote nothing",
    "seen": "a person has read up to a message",
    "self": "the account wrote to itself",
    "standby": "another app owns the conversation: never answer",
    "story_insights": "the figures of a story that ended",
    "test": "a sample of Meta's dashboard",
    "unknown_field": "a field, key or entry that this version does not know",
    "unsupported": "a message that Instagram does not hand to apps",
}


class UnreadableDelivery(ValueError):
    """The body is not JSON, is nested too deeply, or is not Meta's envelope."""


class Event(msgspec.Struct, kw_only=True, gc=False):
    """Something a person did that may start an automation, or continue a run.

    `account_id` is `entry.id`; `kind` and `event_id` identify the event within it (a comment's id,
    a message's mid). `user_id` is the person, or "comment:<comment id>" with `person_unknown`
    where Meta does not say who commented. `media_ids` are the post and, for an ad, the post it was
    made from. `parent_id` is the comment that this one replies to. A tap on a button of ours (a
    postback or a quick reply) has the button's `payload`, whose signature is not proven here.
    `occurred_at` is Meta's time, aware UTC, whole milliseconds; for comments, which carry none, the
    time they were sent to us. `entry` is the entry as it came, cut down to this one element.
    """

    type: EventType
    kind: EventKind
    event_id: str
    account_id: str
    user_id: str
    person_unknown: bool = False
    username: str | None = None
    text: str | None = None
    media_ids: tuple[str, ...] = ()
    story_id: str | None = None
    parent_id: str | None = None
    is_live: bool = False
    payload: str | None = None
    occurred_at: datetime | None = None
    entry: dict[str, Any] = {}


class Echo(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """Meta's proof that a message of the account was sent; it starts nothing.

    `mid` is the message, `user_id` the person it went to, `occurred_at` as in events.
    """

    account_id: str
    mid: str
    user_id: str
    occurred_at: datetime | None


class Malformed(msgspec.Struct, frozen=True, kw_only=True):
    """One element that cannot be read.

    `raw` is a complete delivery that holds this element alone, so that replaying it takes the same
    path. `error` names the field and what it should be; it never holds a value, because values are
    what people wrote.
    """

    raw: bytes
    error: str


class Delivery(msgspec.Struct, kw_only=True):
    """All that one POST holds; each element is an event, a tap, ignored or malformed.

    `echoes` are the ignored echoes that can be read. `ignored_by_account` are those of `ignored`
    that belong to an account.
    """

    events: list[Event] = []
    taps: list[Event] = []
    ignored: dict[Reason, int] = {}
    malformed: list[Malformed] = []
    echoes: list[Echo] = []
    ignored_by_account: dict[str, dict[Reason, int]] = {}
