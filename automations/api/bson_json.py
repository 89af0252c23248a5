"""What the API shows of a stored document: any BSON becomes JSON, and secrets stay inside.

Documents of an older product may hold anything anywhere: nothing in here raises for what it finds.
"""

from __future__ import annotations

import base64
import math
from collections.abc import Callable
from datetime import datetime
from typing import Any
from uuid import UUID

from bson import Binary, Code, DBRef, Decimal128, Int64, MaxKey, MinKey, ObjectId, Regex, Timestamp
from bson.datetime_ms import DatetimeMS

from tracking.clock import format_time

Json = dict[str, Any]

# Names that hold a credential in products like this one, without case, `_` and `-`.
_SECRET_ENDINGS = ("token", "secret", "password", "apikey", "privatekey", "credentials")
_MOST_NAMES = 4096
_UUID_SUBTYPE = 4


def to_json(value: Any) -> Any:
    """Return a BSON value as JSON has it.

    Dates are written by `format_time`, other types as text; what JSON has no word for (NaN,
    infinity, a date past the year 9999, MinKey) is null. Fields named like a credential are left
    out, at any depth.
    """
    kind = type(value)
    # Plain values are passed on where they stand: a call for each would be most of a list's cost.
    if kind is dict:
        return {
            name: item if type(item) in _PLAIN else to_json(item)
            for name, item in value.items()
            if not _is_secret[name]
        }
    if kind is list:
        return [item if type(item) in _PLAIN else to_json(item) for item in value]
    if kind in _PLAIN:
        return value
    convert = _CONVERTERS.get(kind)
    return str(value) if convert is None else convert(value)


class _SecretNames(dict[str, bool]):
    """Whether a field name is a credential's, worked out once for each name."""

    def __missing__(self, name: str) -> bool:
        is_secret = name.replace("_", "").replace("-", "").lower().endswith(_SECRET_ENDINGS)
        if len(self) < _MOST_NAMES:
            self[name] = is_secret
        return is_secret


def _from_float(value: float) -> float | None:
    return value if math.isfinite(value) else None


def _from_decimal(value: Decimal128) -> str | None:
    # As text: a float would not be the same number.
    return str(value) if value.to_decimal().is_finite() else None


def _from_bytes(value: bytes) -> str:
    if isinstance(value, Binary) and value.subtype == _UUID_SUBTYPE and len(value) == 16:
        return str(UUID(bytes=bytes(value)))
    return base64.b64encode(value).decode("ascii")


def _from_regex(value: Regex[Any]) -> str:
    pattern = value.pattern
    return pattern.decode("utf-8", "replace") if isinstance(pattern, bytes) else pattern


def _from_reference(value: DBRef) -> Json:
    return {"$ref": value.collection, "$id": to_json(value.id)}


def _to_nothing(_: Any) -> None:
    return None


_is_secret = _SecretNames()
_PLAIN = frozenset({str, int, bool, type(None)})
_CONVERTERS: dict[type, Callable[[Any], Any]] = {
    float: _from_float,
    datetime: format_time,
    ObjectId: str,
    Int64: int,
    Decimal128: _from_decimal,
    Binary: _from_bytes,
    bytes: _from_bytes,
    UUID: str,
    Regex: _from_regex,
    Code: str,
    Timestamp: lambda value: format_time(value.as_datetime()),
    DBRef: _from_reference,
    DatetimeMS: _to_nothing,
    MinKey: _to_nothing,
    MaxKey: _to_nothing,
}
