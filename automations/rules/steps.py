"""The steps of an automation: what it sends, and in which order."""

from collections.abc import Mapping
from typing import Any

import msgspec

COMMENT_REPLY = "comment_reply"
OPENING_DM = "opening_dm"
ASK_FOLLOW = "ask_follow"
MAIN_DM = "main_dm"

# The types of automations, and the steps that each can use, in the order in which they are sent.
# Only a comment can be replied to in public.
STEPS_BY_TYPE: dict[str, tuple[str, ...]] = {
    "comment_to_dm": (COMMENT_REPLY, OPENING_DM, ASK_FOLLOW, MAIN_DM),
    "story_reply": (OPENING_DM, ASK_FOLLOW, MAIN_DM),
    "dm_auto_responder": (OPENING_DM, ASK_FOLLOW, MAIN_DM),
}


class Step(msgspec.Struct, frozen=True):
    """One thing to send; `content` is ready for BSON and includes `name`."""

    name: str
    content: dict[str, Any]


def build_steps(document: Mapping[str, Any], type_: str) -> tuple[Step, ...]:
    """Return the steps of an automation document, in order.

    A part that is absent or has nothing to send is a step it does not have, as is one that its
    type cannot use. Never raises: what an older product wrote in another form is left out.
    """
    contents = []
    for name in STEPS_BY_TYPE.get(type_, ()):
        field, build = _PARTS[name]
        part = document.get(field)
        content = build(part) if isinstance(part, Mapping) else None
        if content is not None:
            contents.append(Step(name, {"name": name, **content}))
    return tuple(contents)


def _build_comment_reply(part: Mapping[str, Any]) -> dict[str, Any] | None:
    texts = part.get("texts")
    if isinstance(texts, str):
        texts = [texts]
    if not isinstance(texts, list):
        return None
    usable = [text for text in texts if _read_text(text)]
    return {"texts": usable} if usable else None


def _build_button_message(part: Mapping[str, Any]) -> dict[str, Any] | None:
    text = _read_text(part.get("text"))
    return {"text": text, "button": _read_text(part.get("button")) or None} if text else None


def _build_main_dm(part: Mapping[str, Any]) -> dict[str, Any] | None:
    text = _read_text(part.get("text"))
    links = part.get("links")
    usable = [
        {"title": _read_text(link.get("title")), "url": link["url"]}
        for link in (links if isinstance(links, list) else ())
        if isinstance(link, Mapping) and _read_text(link.get("url"))
    ]
    return {"text": text, "links": usable} if text or usable else None


def _read_text(value: Any) -> str:
    """Return a text as stored, or "" if it is blank."""
    return value if isinstance(value, str) and value.strip() else ""


# The field of the document that holds each step's part, and what makes it content.
_PARTS = {
    COMMENT_REPLY: ("commentReply", _build_comment_reply),
    OPENING_DM: ("openingDm", _build_button_message),
    ASK_FOLLOW: ("askFollow", _build_button_message),
    MAIN_DM: ("mainDm", _build_main_dm),
}
# The fields that hold what is sent.
PARTS = tuple(field for field, _ in _PARTS.values())
