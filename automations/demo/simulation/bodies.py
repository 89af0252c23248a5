"""The JSON of a delivery: shape A for comments, shape C for messages (pure).

Meta's documentation: a POST holds many entries, an entry many elements of one account; `time` of
an entry is in seconds beside `changes`, in milliseconds beside `messaging`.
"""

from __future__ import annotations

import hashlib
import hmac
import json
from collections.abc import Iterable
from typing import Any

from automations.demo.simulation.plan import SimulatedEvent

_ELEMENTS_PER_ENTRY = 10


def _build_comment(event: SimulatedEvent) -> dict[str, Any]:
    value: dict[str, Any] = {
        "id": event.event_id,
        "from": {"id": event.user_id, "username": event.username},
        "media": {"id": event.media_id, "media_product_type": "FEED"},
        "text": event.text,
    }
    if event.parent_id:
        value["parent_id"] = event.parent_id
    return {"field": "comments", "value": value}


def _build_message(event: SimulatedEvent) -> dict[str, Any]:
    message: dict[str, Any] = {"mid": event.event_id, "text": event.text}
    if event.story_id:
        message["reply_to"] = {
            "story": {
                "id": event.story_id,
                "url": "https://lookaside.fbsbx.com/ig_messaging_cdn/?asset_id="
                f"{event.story_id}&signature=AbyE0Xk3Vd2h",
            }
        }
    return {
        "sender": {"id": event.user_id},
        "recipient": {"id": event.account_id},
        "timestamp": event.at_ms,
        "message": message,
    }


# Kind of event -> key of the entry, how an element is built, milliseconds per unit of `time`.
_SHAPES = {
    "comment": ("changes", _build_comment, 1000),
    "message": ("messaging", _build_message, 1),
}


def build_body(events: Iterable[SimulatedEvent], *, sent_at_ms: int) -> bytes:
    """Return the body that carries these events, in groups by account and shape.

    Text outside ASCII is escaped as \\uXXXX and every slash as \\/, as Meta does, so that whoever
    signs a re-serialised body is found out.
    """
    open_entries: dict[tuple[str, str], list[dict[str, Any]]] = {}
    entries: list[dict[str, Any]] = []
    for event in events:
        key, build, unit_ms = _SHAPES[event.kind]
        elements = open_entries.get((event.account_id, key))
        if elements is None or len(elements) == _ELEMENTS_PER_ENTRY:
            elements = open_entries[event.account_id, key] = []
            entries.append({"id": event.account_id, "time": sent_at_ms // unit_ms, key: elements})
        elements.append(build(event))
    text = json.dumps({"object": "instagram", "entry": entries}, separators=(",", ":"))
    return text.replace("/", "\\/").encode("ascii")


def sign_body(body: bytes, secret: str) -> str:
    """Return the value of X-Hub-Signature-256: HMAC-SHA256 of the raw bytes."""
    return "sha256=" + hmac.new(secret.encode(), body, hashlib.sha256).hexdigest()
