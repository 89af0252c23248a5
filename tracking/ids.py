"""The `_id`s of triggers, contacts and erased pairs, and how ids of others are stored."""

import hmac
from typing import Any

from bson import ObjectId

_MOST_DIGITS = 18  # any number of this many fits into 64 bits


def _escape(part: str) -> str:
    if "%" in part or ":" in part:
        return part.replace("%", "%25").replace(":", "%3A")
    return part


def _unescape(part: str) -> str:
    return part.replace("%3A", ":").replace("%25", "%")


def build_trigger_id(account_id: str, kind: str, event_id: str) -> str:
    """Return the `_id` of an event in `automation_triggers`: different events never share one."""
    return f"{_escape(account_id)}:{_escape(kind)}:{event_id}"


def parse_trigger_id(trigger_id: str) -> tuple[str, str, str]:
    """Return (account_id, kind, event_id), the inverse of `build_trigger_id`."""
    account_id, kind, event_id = trigger_id.split(":", 2)
    return _unescape(account_id), _unescape(kind), event_id


def build_account_range(account_id: str) -> tuple[str, str]:
    """Return the bounds between which the `_id`s of an account's triggers lie, and no others."""
    return f"{_escape(account_id)}:", f"{_escape(account_id)};"


def build_contact_id(automation_id: str, user_id: str) -> str:
    """Return the `_id` of a pair in `automation_contacts`: different pairs never share one."""
    return f"{_escape(automation_id)}:{user_id}"


def build_erased_id(contact_id: str, *, key: bytes) -> str:
    """Return the name of an erased pair, which only who has the key and the pair can make."""
    return hmac.digest(key, contact_id.encode("utf-8", "surrogatepass"), "sha256").hex()


def list_stored_forms(text: str) -> list[Any]:
    """Return what an id with this text may be stored as: the text, an ObjectId or a number."""
    forms: list[Any] = [text]
    if ObjectId.is_valid(text):
        forms.append(ObjectId(text))
    digits = text.removeprefix("-")
    if digits.isascii() and digits.isdecimal() and len(digits) <= _MOST_DIGITS:
        forms.append(int(text))
    return forms
