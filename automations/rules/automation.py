"""An automation document becomes a rule, with everything that matching needs."""

import re
import unicodedata
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import msgspec

from automations.rules.steps import OPENING_DM, STEPS_BY_TYPE, Step, build_steps
from tracking.ids import name_id, name_person

# From the most specific to the least: the order in which rules win.
MATCHES = ("exact", "word", "contains", "any")
DEFAULT_MATCH = "contains"

# Zero-width and directional characters, fillers, the soft hyphen, variation selectors; and the
# tatweel and vowel signs of Arabic, which few people type.
_UNSEEN = re.compile(
    r"[\u00ad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b-\u200f\u202a-\u202e"
    r"\u2060-\u206f\u3164\ufe00-\ufe0f\ufeff\uffa0\ufff9-\ufffb\U000e0100-\U000e01ef"
    r"\u0640\u064b-\u0652\u0656-\u065f\u0670]"
)


class Automation(msgspec.Struct, frozen=True, kw_only=True):
    """A rule that can match.

    `key` is the document's own typed `_id`, `id` its text form. `keywords` are normalised;
    `post_ids` is empty for all posts. `trigger_type` names the first step. `send` is what has to be
    sent, ready for BSON: {"steps": [content, ...]}, or None if there is nothing to send.
    """

    key: Any
    id: str
    workspace_id: str
    account_id: str
    type: str
    match: str
    keywords: tuple[str, ...]
    post_ids: frozenset[str]
    created_at: datetime | None
    steps: tuple[Step, ...]
    trigger_type: str
    send: dict[str, Any] | None


def parse_automation(document: Mapping[str, Any]) -> Automation | None:
    """Read an automation document of ours or of an older product.

    None means that it can never match: it is not active (`isActive` is not true), or it has a
    fault. What is odd but clear is taken: numbers as ids and keywords, one string in place of a
    list. `postIds` that name posts which cannot be read match none, never all.
    """
    if document.get("isActive") is not True or find_fault(document):
        return None
    key, type_ = document["_id"], document["type"]
    match, keywords, post_ids = _read_trigger(document)
    steps = build_steps(document, type_)
    return Automation(
        key=key,
        id=name_id(key),
        workspace_id=read_workspace_id(document),
        account_id=read_scalar(document["accountId"]),
        type=type_,
        match=match,
        keywords=keywords,
        post_ids=post_ids or frozenset(),
        created_at=_read_created_at(document.get("createdAt")),
        steps=steps,
        trigger_type=steps[0].name if steps else OPENING_DM,
        send={"steps": [step.content for step in steps]} if steps else None,
    )


def find_fault(document: Mapping[str, Any]) -> str:
    """Return why an automation could never match if it were active, "" if it could."""
    type_ = document.get("type")
    match, keywords, post_ids = _read_trigger(document)
    faults = {
        "its _id is null": document.get("_id") is None,
        "it was deleted": document.get("deletedAt") is not None,
        "its accountId is no text or whole number": not read_scalar(document.get("accountId")),
        "its workspaceId is a list": isinstance(document.get("workspaceId"), list),
        "its type is unknown": not isinstance(type_, str) or type_ not in STEPS_BY_TYPE,
        "its trigger cannot be read": not isinstance(document.get("trigger"), Mapping),
        "its match is unknown": match not in MATCHES,
        "its postIds cannot be read": post_ids is None,
        "it has no keywords": not keywords and match != "any",
    }
    return next((fault for fault, has_it in faults.items() if has_it), "")


def _read_trigger(document: Mapping[str, Any]) -> tuple[Any, tuple[str, ...], Any]:
    """Return match, keywords and post ids, empty for all posts, None if they cannot be read.

    Only comments stand under a post: for the other types `postIds` mean nothing.
    """
    trigger = document.get("trigger")
    if not isinstance(trigger, Mapping):
        return None, (), None
    match = trigger.get("match")
    has_posts = document.get("type") == "comment_to_dm"
    post_ids = _read_post_ids(trigger.get("postIds")) if has_posts else frozenset()
    keywords = _read_keywords(trigger.get("keywords"))
    return DEFAULT_MATCH if match is None else match, keywords, post_ids


def normalise_text(text: str) -> str:
    """Return `text` in the form in which texts are compared.

    NFKC, casefold, without what is invisible, trimmed, every run of white space one space. Phones
    add and leave out what is invisible. Another turn folds what the first brought together.
    """
    if text.isascii():
        return " ".join(text.casefold().split())
    folded = unicodedata.normalize("NFKC", _UNSEEN.sub("", text)).casefold()
    # A dotted capital I is folded to an i with a dot above.
    folded = " ".join(_UNSEEN.sub("", folded.replace("i\u0307", "i")).split())
    return folded if folded == text else normalise_text(folded)


def read_scalar(value: Any) -> str:
    """Return text, a whole number of any type or an ObjectId as text, "" for anything else."""
    return name_person(value) or ""


def _read_list(value: Any) -> list[str]:
    values = value if isinstance(value, list | tuple) else [value]
    return [text for text in map(read_scalar, values) if text]


def _read_keywords(value: Any) -> tuple[str, ...]:
    keywords = map(normalise_text, _read_list(value))
    return tuple(dict.fromkeys(keyword for keyword in keywords if keyword))


def _read_post_ids(value: Any) -> frozenset[str] | None:
    """Return the named posts, empty for all, None if unreadable."""
    if value is None or value in ([], ()):
        return frozenset()
    return frozenset(_read_list(value)) or None


def read_workspace_id(document: Mapping[str, Any]) -> str:
    """Return the workspace of an automation or account, as it is in our paths."""
    value = document.get("workspaceId")
    return "" if value is None or isinstance(value, Mapping | list) else name_id(value)


def _read_created_at(value: Any) -> datetime | None:
    """Return an aware UTC time; one without a zone is UTC."""
    try:
        moment = datetime.fromisoformat(value) if isinstance(value, str) else value
        if not isinstance(moment, datetime):
            return None
        return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)
    except (ValueError, OverflowError):
        return None
