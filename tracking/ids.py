"""The text forms of ids, the `_id`s of triggers and contacts, and partitions."""

import base64
import re
from collections.abc import Iterable, Mapping
from typing import Any
from uuid import UUID
from zlib import crc32

import bson
from bson import Binary, CodecOptions, Decimal128, ObjectId, Regex
from bson.binary import UUID_SUBTYPE
from bson.codec_options import DatetimeConversion

PARTITIONS = 16
# The name that takes an erased person's place: no other id starts like this.
ERASED_PREFIX = "erased:"
# An id starts like this that has no text form of its own; the rest is its BSON.
_CODED = "~"
# Texts that fit one segment of a path as they are, whatever decodes and normalises it.
_PLAIN = re.compile(r"(?!\.{1,2}\Z)[^~/\\\x00-\x1f\x7f][^/\\\x00-\x1f\x7f]*")
_NUMBER = re.compile(r"-?[1-9][0-9]{0,18}|0")
_OBJECT_ID = re.compile(r"[0-9a-f]{24}")
_UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
LENIENT: CodecOptions[dict[str, Any]] = CodecOptions(
    tz_aware=True, datetime_conversion=DatetimeConversion.DATETIME_AUTO
)

_WHOLE = {"$convert": {"input": "$userId", "to": "long", "onError": None}}
# What `name_person` returns, as MongoDB works it out.
PERSON: dict[str, Any] = {"$switch": {
    "branches": [
        {"case": {"$in": [{"$type": "$userId"}, ["string", "objectId"]]},
         "then": {"$toString": "$userId"}},
        {"case": {"$and": [{"$isNumber": "$userId"}, {"$eq": [_WHOLE, "$userId"]}]},
         "then": {"$toString": _WHOLE}},
    ],
    "default": None,
}}  # fmt: skip


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


def name_id(key: Any) -> str:
    """Return the text form of an id of any type: it fits a URL, and finds its document again.

    ObjectIds, whole numbers, UUIDs and ordinary texts read as elsewhere, which older products hold
    in runs. A text that reads like another type's id has the same form; so has a text form.
    """
    if type(key) is ObjectId or isinstance(key, UUID):
        return str(key)
    if isinstance(key, str):
        return key if _PLAIN.fullmatch(key) or _decode_id(key) else _encode_id(key)
    if isinstance(key, Binary) and key.subtype == UUID_SUBTYPE and len(key) == 16:
        return str(UUID(bytes=bytes(key)))
    number = _read_whole(key)
    return _encode_id(key) if number is None else str(number)


def list_stored_forms(text: str) -> list[Any]:
    """Return what an id with this text form may be stored as, the text itself first."""
    forms: list[Any] = [text]
    if _OBJECT_ID.fullmatch(text):
        forms.append(ObjectId(text))
    elif _NUMBER.fullmatch(text) and -(2**63) <= int(text) < 2**63:
        forms.append(int(text))  # to MongoDB, a double or a decimal of this value is the same
    elif _UUID.fullmatch(text):
        forms.append(Binary.from_uuid(UUID(text)))
    elif text.startswith(_CODED):
        forms += _decode_id(text)
    return forms


def list_all_forms(texts: Iterable[str]) -> list[Any]:
    """Return what ids with these text forms may be stored as."""
    return [form for text in texts for form in list_stored_forms(text)]


def list_names(value: Any) -> list[str]:
    """Return the text forms of the ids in a field: MongoDB finds an array by each of its values."""
    return [*map(name_id, value)] if isinstance(value, list) else [name_id(value)]


def name_person(user_id: Any) -> str | None:
    """Return a run's person: text, or a number or ObjectId as text; None for anything else."""
    if isinstance(user_id, str):
        return user_id
    is_known = type(user_id) is ObjectId or _read_whole(user_id) is not None
    return name_id(user_id) if is_known else None


def is_query(value: Any) -> bool:
    """Return whether MongoDB would take a value for a condition; no `_id` can be one."""
    is_operator = isinstance(value, Mapping) and next(iter(value), "").startswith("$")
    return is_operator or isinstance(value, Regex | re.Pattern | list)


def _read_whole(key: Any) -> int | None:
    """Return the whole number of 64 bits that a number of any type is, None if it is none."""
    value = key.to_decimal() if isinstance(key, Decimal128) else key
    if isinstance(value, bool) or not hasattr(value, "as_integer_ratio"):
        return None
    try:
        number, divisor = value.as_integer_ratio()
    except (OverflowError, ValueError):  # infinity, NaN
        return None
    return number if divisor == 1 and -(2**63) <= number < 2**63 else None


def _encode_id(key: Any) -> str:
    raw = base64.urlsafe_b64encode(bson.encode({"": key}))
    return _CODED + raw.decode().rstrip("=")


def _decode_id(text: str) -> list[Any]:
    """Return the id behind a coded text form, nothing if no id of ours has that form."""
    try:
        raw = base64.urlsafe_b64decode(text[1:] + "=" * (-(len(text) - 1) % 4))
        key = bson.decode(raw, LENIENT)[""]
        is_ours = not is_query(key) and name_id(key) == text
    except Exception:  # noqa: BLE001 - whatever a URL holds, it is the id of nothing then
        return []
    return [key] if is_ours else []


def partition_of(automation_id: str) -> int:
    """Return the partition that an automation is counted in; the same in every process."""
    return crc32(automation_id.encode("utf-8", "surrogatepass")) % PARTITIONS


def lane_of(partition: int) -> int:
    """Return the lane in which triggers of a partition wait whose automation is stuck."""
    return -1 - partition
