"""What a delivery holds once it is read: plain values, and the closed tables of their words.

`payloads` makes them, and nothing past this room knows Meta's keys. Three things never mix:
*ignored* is known and left alone on purpose, `unknown_field` is what we do not know,
*malformed* is what we know and cannot read.
"""

from datetime import datetime, timedelta
from typing import Any, Literal

import msgspec
import orjson

from automations.instagram.json_values import EPOCH, LARGEST_SECONDS

EventType = Literal["comment", "story_reply", "story_mention", "message", "tap"]
EventKind = Literal["comment", "message"]
Reason = Literal[
    "deleted",
    "echo",
    "edit",
    "forged_tap",
    "handover",
    "mentions",
    "other_object",
    "own_comment",
    "postback",
    "reaction",
    "referral",
    "seen",
    "self",
    "standby",
    "story_insights",
    "test",
    "unknown_field",
    "unsupported",
]

# The namespace in which an event's id is unique: comment ids and message mids never meet.
KIND_BY_EVENT_TYPE: dict[EventType, EventKind] = {
    "comment": "comment",
    "story_reply": "message",
    "story_mention": "message",
    "message": "message",
    "tap": "message",
}

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
    """The body as a whole cannot be read: not JSON, nested too deeply, or not Meta's envelope."""


class Event(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """One thing that a person did on Instagram and that may start an automation, or go on with it.

    `account_id` is `entry.id`; `kind` and `event_id` identify the event within it (a comment's id,
    a message's mid). `user_id` is the person, or "comment:<comment id>" with `person_unknown`
    where Meta does not say who commented. `media_ids` are the post and, for an ad, the post it was
    made from. `parent_id` is the comment that this one replies to. A tap on a button of ours (a
    postback or a quick reply) has the button's `payload`, whose signature is not proven here.
    `occurred_at` is Meta's time, aware UTC, whole milliseconds; for comments, which carry none, the
    time they were sent to us.
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

    def build_envelope(self) -> bytes:
        """Return a delivery that holds this event alone: read again, it is an equal event.

        For the dead letters, where an event that we failed to handle waits to be replayed.
        """
        if self.kind == "comment":
            field = "live_comments" if self.is_live else "comments"
            element: dict[str, Any] = {
                "time": self._build_time(),
                "changes": [{"field": field, "value": self._build_comment()}],
            }
        else:
            element = {"messaging": [self._build_messaging()]}
        entry = {"id": self.account_id, **element}
        return orjson.dumps({"object": "instagram", "entry": [entry]})

    def _build_comment(self) -> dict[str, Any]:
        media = dict(zip(("id", "original_media_id"), self.media_ids, strict=False))
        person_id = None if self.person_unknown else self.user_id
        return {
            "id": self.event_id,
            "text": self.text,
            "from": {"id": person_id, "username": self.username},
            "media": media,
            "parent_id": self.parent_id,
        }

    def _build_messaging(self) -> dict[str, Any]:
        message: dict[str, Any] = {"mid": self.event_id, "text": self.text}
        if self.type == "tap":
            message["quick_reply"] = {"payload": self.payload}
        elif self.type == "story_reply":
            message["reply_to"] = {"story": {"id": self.story_id}}
        elif self.type == "story_mention":
            message["attachments"] = [{"type": "story_mention"}]
        return {
            "sender": {"id": self.user_id},
            "recipient": {"id": self.account_id},
            "timestamp": self._build_time(),
            "message": message,
        }

    def _build_time(self) -> int | float | None:
        if self.occurred_at is None:
            return None
        milliseconds = (self.occurred_at - EPOCH) // timedelta(milliseconds=1)
        # Whoever reads it takes a number up to there for seconds.
        return milliseconds if milliseconds > LARGEST_SECONDS else milliseconds / 1000


class Echo(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """Meta's word that a message of the account went out: it starts nothing, but it is a proof.

    `mid` is the message, `user_id` the person it went to, `occurred_at` Meta's time as of events.
    """

    account_id: str
    mid: str
    user_id: str
    occurred_at: datetime | None


class Malformed(msgspec.Struct, frozen=True, kw_only=True):
    """One element that cannot be read.

    `raw` is a complete delivery that holds this element alone, so that replaying it takes the same
    path and, as long as the code is the same, ends in the same value. `error` names the
    field and what it should be; it never holds a value, because values are people's words.
    """

    raw: bytes
    error: str


class Delivery(msgspec.Struct, kw_only=True):
    """All that one POST holds: each element is an event or a tap, or ignored, or malformed.

    `echoes` are those among the ignored ones that can be read. `ignored_by_account` are the ignored
    of `ignored` that belong to an account.
    """

    events: list[Event] = []
    taps: list[Event] = []
    ignored: dict[Reason, int] = {}
    malformed: list[Malformed] = []
    echoes: list[Echo] = []
    ignored_by_account: dict[str, dict[Reason, int]] = {}
