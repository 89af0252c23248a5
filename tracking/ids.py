"""The `_id`s of triggers and contacts, what ids of others are stored as, and partitions."""

from typing import Any
from zlib import crc32

from bson import ObjectId

PARTITIONS = 16
# The name that takes an erased person's place: no other id starts like this.
ERASED_PREFIX = "erased:"
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


def list_stored_forms(text: str) -> list[Any]:
    """Return what an id with this text may be stored as: the text, an ObjectId or a number."""
    forms: list[Any] = [text]
    if ObjectId.is_valid(text):
        forms.append(ObjectId(text))
    digits = text.removeprefix("-")
    if digits.isascii() and digits.isdecimal() and len(digits) <= _MOST_DIGITS:
        forms.append(int(text))
    return forms


def partition_of(automation_id: str) -> int:
    """Return the partition that an automation is counted in; the same in every process."""
    return crc32(automation_id.encode("utf-8", "surrogatepass")) % PARTITIONS


def lane_of(partition: int) -> int:
    """Return the lane in which triggers of a partition wait whose automation is stuck."""
    return -1 - partition
