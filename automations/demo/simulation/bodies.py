"""Webhook bodies as Meta writes and signs them (pure).

A POST holds many entries, an entry many elements of one account; `time` of an entry is in seconds
beside `changes`, in milliseconds beside `messaging`.
https://developers.facebook.com/docs/graph-api/webhooks/getting-started
"""

import hashlib
import hmac
import json
from collections.abc import Iterable
from typing import Any, NamedTuple

_ELEMENTS_PER_ENTRY = 10
_MILLISECONDS_PER_UNIT = {"changes": 1000, "messaging": 1}

# A message or a postback, by its key.
Parts = dict[str, dict[str, Any]]


class Element(NamedTuple):
    account_id: str
    key: str  # the array of the account's entry that it belongs in: changes or messaging
    content: dict[str, Any]


def build_comment(
    account_id: str,
    comment_id: str,
    text: str,
    *,
    media_id: str | None,
    person: tuple[str, str] | None,
    parent_id: str | None = None,
    is_live: bool = False,
) -> Element:
    """Return a comment; `person` is an id and a name, None where the webhook hides both."""
    value: dict[str, Any] = {"id": comment_id, "text": text}
    if media_id is not None:
        value["media"] = {"id": media_id, "media_product_type": "LIVE" if is_live else "FEED"}
    if person is not None:
        value["from"] = {"id": person[0], "username": person[1]}
    if parent_id:
        value["parent_id"] = parent_id
    field = "live_comments" if is_live else "comments"
    return Element(account_id, "changes", {"field": field, "value": value})


def build_messaging(
    account_id: str, person_id: str, mid: str, content: Parts, *, at_ms: int, is_echo: bool = False
) -> Element:
    """Return `content` as what the person sent; an echo goes the other way."""
    sender_id, recipient_id = (account_id, person_id) if is_echo else (person_id, account_id)
    envelope = {"sender": {"id": sender_id}, "recipient": {"id": recipient_id}, "timestamp": at_ms}
    parts = {key: {"mid": mid, **part} for key, part in content.items()}
    return Element(account_id, "messaging", envelope | parts)


def build_text(text: str, *, story_id: str | None = None) -> Parts:
    message: dict[str, Any] = {"text": text}
    if story_id:
        url = f"https://lookaside.fbsbx.com/ig_messaging_cdn/?asset_id={story_id}&signature=AbyE0"
        message["reply_to"] = {"story": {"id": story_id, "url": url}}
    return {"message": message}


def build_body(elements: Iterable[Element], *, sent_at_ms: int) -> bytes:
    """Return the body that carries these, in entries by account and key.

    Text outside ASCII is escaped as \\uXXXX and every slash as \\/, as Meta does. A receiver that
    verifies the signature of re-serialized JSON therefore fails.
    """
    open_entries: dict[tuple[str, str], list[dict[str, Any]]] = {}
    entries: list[dict[str, Any]] = []
    for account_id, key, content in elements:
        contents = open_entries.get((account_id, key))
        if contents is None or len(contents) == _ELEMENTS_PER_ENTRY:
            contents = open_entries[account_id, key] = []
            sent_at = sent_at_ms // _MILLISECONDS_PER_UNIT[key]
            entries.append({"id": account_id, "time": sent_at, key: contents})
        contents.append(content)
    text = json.dumps({"object": "instagram", "entry": entries}, separators=(",", ":"))
    return text.replace("/", "\\/").encode("ascii")


def sign_body(body: bytes, secret: str) -> str:
    return "sha256=" + hmac.new(secret.encode(), body, hashlib.sha256).hexdigest()
