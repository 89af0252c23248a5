"""Documents as twenty programs may have left them: ids of every type."""

from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from bson import Binary, Decimal128, Int64, ObjectId

# Each has a text form of its own.
IDS: list[Any] = [
    ObjectId("65f0c0ffee65f0c0ffee65f0"), "a1", "é ?#%&", "", "a/b", "a\\b", "..", "~x", "a\nb",
    "042", "65F0C0FFEE65F0C0FFEE65F0", 42, Int64(2**62), -7.0, 1.5, float("nan"), 2.0**70,
    Decimal128("43"), Decimal128("0.1"), True, Binary.from_uuid(UUID(int=7)), b"raw",
    Binary(b"x", 5), datetime(2026, 1, 1, tzinfo=UTC), {"tenant": "w1", "n": Int64(1)}, {}, None,
]  # fmt: skip
