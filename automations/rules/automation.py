"""An automation document becomes a rule, with everything that matching needs."""

import unicodedata
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import msgspec

from automations.rules.steps import OPENING_DM, STEPS_BY_TYPE, Step, build_steps

# From the most specific to the least: the order in which rules win.
MATCHES = ("exact", "word", "contains", "any")
DEFAULT_MATCH = "contains"


class Automation(msgspec.Struct, frozen=True, kw_only=True):
    """A rule that can match.

    `key` is the document's own typed `_id`, `id` its string form. `keywords` are normalised;
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

    None means that it can never match: not active (`isActive` is not true), of an unknown type or
    match, without an account, or without keywords where its match needs some. What is odd but
    clear is taken: numbers as ids and keywords, one string in place of a list. `postIds` that name
    posts which cannot be read match none, never all.
    """
    key = document.get("_id")
    type_ = document.get("type")
    account_id = _read_scalar(document.get("accountId"))
    if key is None or document.get("isActive") is not True or not account_id:
        return None
    if not isinstance(type_, str) or type_ not in STEPS_BY_TYPE:
        return None
    rule = _read_trigger(document.get("trigger"), has_posts=type_ == "comment_to_dm")
    if rule is None:
        return None
    match, keywords, post_ids = rule
    steps = build_steps(document, type_)
    return Automation(
        key=key,
        id=str(key),
        workspace_id=_read_workspace_id(document.get("workspaceId")),
        account_id=account_id,
        type=type_,
        match=match,
        keywords=keywords,
        post_ids=post_ids,
        created_at=_read_created_at(document.get("createdAt")),
        steps=steps,
        trigger_type=steps[0].name if steps else OPENING_DM,
        send={"steps": [step.content for step in steps]} if steps else None,
    )


def _read_trigger(
    trigger: Any, *, has_posts: bool
) -> tuple[str, tuple[str, ...], frozenset[str]] | None:
    """Return (match, keywords, post ids), None if it matches nothing.

    Only comments stand under a post: for the other types `postIds` mean nothing.
    """
    if not isinstance(trigger, Mapping):
        return None
    match = trigger.get("match")
    if match is None:
        match = DEFAULT_MATCH
    keywords = _read_keywords(trigger.get("keywords"))
    post_ids = _read_post_ids(trigger.get("postIds")) if has_posts else frozenset()
    if match not in MATCHES or post_ids is None or not (keywords or match == "any"):
        return None
    return match, keywords, post_ids


def normalise_text(text: str) -> str:
    """Return `text` in the form in which texts are compared.

    NFKC, casefold, trimmed, every run of white space one space.
    """
    if not text.isascii():
        text = unicodedata.normalize("NFKC", text)
    return " ".join(text.casefold().split())


def _read_scalar(value: Any) -> str:
    """Return text or a whole number as text, "" for anything else.

    A float is no id: past 2**53 its last digits are made up.
    """
    if isinstance(value, str):
        return value
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    return ""


def _read_list(value: Any) -> list[str]:
    values = value if isinstance(value, list | tuple) else [value]
    return [text for text in map(_read_scalar, values) if text]


def _read_keywords(value: Any) -> tuple[str, ...]:
    keywords = map(normalise_text, _read_list(value))
    return tuple(dict.fromkeys(keyword for keyword in keywords if keyword))


def _read_post_ids(value: Any) -> frozenset[str] | None:
    """Return the named posts, empty for all, None if unreadable."""
    if value is None or value in ([], ()):
        return frozenset()
    return frozenset(_read_list(value)) or None


def _read_workspace_id(value: Any) -> str:
    # An older product may hold an ObjectId here; its string form is the one in our paths.
    return "" if value is None or isinstance(value, Mapping | list) else str(value)


def _read_created_at(value: Any) -> datetime | None:
    """Return an aware UTC time; one without a zone is UTC."""
    try:
        moment = datetime.fromisoformat(value) if isinstance(value, str) else value
        if not isinstance(moment, datetime):
            return None
        return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)
    except (ValueError, OverflowError):
        return None
