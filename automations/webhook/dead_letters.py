"""What Meta signed and we could not handle, kept as it came, to be replayed."""

import hashlib
import logging
import time
from collections.abc import Sequence
from datetime import datetime
from typing import Any

import msgspec
from bson.binary import Binary
from pymongo import UpdateOne
from pymongo.collection import Collection

from automations.instagram.events import Event
from automations.instagram.payloads import build_envelope
from automations.metrics import DEAD_LETTERS
from tracking.exceptions import StorageRefused
from tracking.mongo import client as mongo
from tracking.mongo.errors import bounded

logger = logging.getLogger("automations")

Document = dict[str, Any]

WAITING: Document = {"state": "waiting"}
_OLDEST_FIRST = [("arrivedAt", 1), ("_id", 1)]
_SECONDS = 10.0  # for the command; what a delivery may take is given


class DeadLetter(msgspec.Struct, frozen=True):
    """A body, or an envelope around one element, and why it was not handled."""

    raw: bytes
    error: str
    arrived_at: datetime
    letter_id: str = ""


class LetterInfo(msgspec.Struct, frozen=True):
    """What may be shown of a letter; `size` is in bytes."""

    letter_id: str
    error: str
    arrived_at: datetime
    size: int
    received: int


def keep_letters(letters: Sequence[DeadLetter], *, deadline: float) -> bool:
    """Store dead letters by `deadline`, and log them without their content.

    Bytes that already wait keep their first arrival. Returns whether MongoDB takes them. If not,
    all other events go on. Raises TrackingUnavailable, as all of these functions do.
    """
    DEAD_LETTERS.inc(len(letters))
    writes = [
        UpdateOne(
            {"_id": hashlib.sha256(letter.raw).hexdigest()},
            {
                "$setOnInsert": {"raw": Binary(letter.raw), "arrivedAt": letter.arrived_at},
                "$set": {"error": letter.error, "state": "waiting"},
                "$inc": {"received": 1},
            },
            upsert=True,
        )
        for letter in letters
    ]
    try:
        with bounded(deadline - time.monotonic()):
            _letters().bulk_write(writes, ordered=False)
    except StorageRefused as error:
        logger.error("❌ [TRACKING] %d dead letters are not kept: %s", len(letters), error)
        return False
    for letter in letters:
        logger.warning("⚠️ [TRACKING] Delivery kept as dead letter: %s", letter.error)
    return True


def build_letter(event: Event, error: str, arrived_at: datetime) -> DeadLetter:
    """Return the letter of one event, as it came, in an envelope of its own."""
    return DeadLetter(build_envelope(event.entry), error, arrived_at)


def list_waiting() -> list[LetterInfo]:
    fields = {"error": 1, "arrivedAt": 1, "received": 1, "size": {"$binarySize": "$raw"}}
    with bounded(_SECONDS):
        return [
            LetterInfo(one["_id"], one["error"], one["arrivedAt"], one["size"], one["received"])
            for one in _letters().find(WAITING, fields, sort=_OLDEST_FIRST)
        ]


def list_ids(query: Document) -> list[str]:
    """Return the ids of letters, oldest first; the bodies may be many."""
    with bounded(_SECONDS):
        found = _letters().find(query, {"arrivedAt": 1}, sort=_OLDEST_FIRST)
        return [document["_id"] for document in found]


def find_letter(letter_id: str) -> DeadLetter | None:
    with bounded(_SECONDS):
        one = _letters().find_one({"_id": letter_id})
    if one is None:
        return None
    return DeadLetter(bytes(one["raw"]), one["error"], one["arrivedAt"], letter_id)


def redact_letter(letter: DeadLetter, raw: bytes | None) -> None:
    with bounded(_SECONDS):
        document = _letters().find_one({"_id": letter.letter_id})
        if document is not None and raw is not None:
            letter_id = hashlib.sha256(raw).hexdigest()
            changed = document | {"_id": letter_id, "raw": Binary(raw)}
            _letters().replace_one({"_id": letter_id}, changed, upsert=True)
        _letters().delete_one({"_id": letter.letter_id})


def delete_letter(letter_id: str) -> bool:
    with bounded(_SECONDS):
        return _letters().delete_one({"_id": letter_id}).deleted_count == 1


def _letters() -> Collection[Document]:
    return mongo.get_database()["webhook_dead_letters"]
