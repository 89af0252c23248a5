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
from pymongo.database import Database

from automations.instagram.events import Event
from automations.instagram.payloads import build_envelope
from automations.metrics import DEAD_LETTERS
from tracking.exceptions import StorageRefused
from tracking.mongo import client as mongo
from tracking.mongo.errors import bounded

logger = logging.getLogger("automations")

Document = dict[str, Any]

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


class DeadLetterStore:
    """Reads and writes of `webhook_dead_letters`. The same bytes are kept once."""

    def __init__(self, database: Database[Document]) -> None:
        self._letters = database["webhook_dead_letters"]

    def insert_letters(self, letters: Sequence[DeadLetter], *, seconds: float) -> None:
        """Keep letters; bytes that already wait keep their first arrival.

        Raises TrackingUnavailable when that took longer than `seconds`, as the others do.
        """
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
        if writes:
            with bounded(seconds):
                self._letters.bulk_write(writes, ordered=False)

    def list_waiting_ids(self) -> list[str]:
        """Return the ids of the letters that wait, oldest first; the bodies may be many."""
        with bounded(_SECONDS):
            found = self._letters.find({"state": "waiting"}, {"arrivedAt": 1})
            return [document["_id"] for document in found.sort([("arrivedAt", 1), ("_id", 1)])]

    def list_waiting(self) -> list[LetterInfo]:
        fields = {"error": 1, "arrivedAt": 1, "received": 1, "size": {"$binarySize": "$raw"}}
        with bounded(_SECONDS):
            found = self._letters.find({"state": "waiting"}, fields)
            return [
                LetterInfo(one["_id"], one["error"], one["arrivedAt"], one["size"], one["received"])
                for one in found.sort([("arrivedAt", 1), ("_id", 1)])
            ]

    def find_letter(self, letter_id: str) -> DeadLetter | None:
        with bounded(_SECONDS):
            document = self._letters.find_one({"_id": letter_id})
        if document is None:
            return None
        return DeadLetter(
            bytes(document["raw"]), document["error"], document["arrivedAt"], letter_id
        )

    def list_ids(self) -> list[str]:
        with bounded(_SECONDS):
            return [document["_id"] for document in self._letters.find({}, {"_id": 1})]

    def redact(self, letter: DeadLetter, raw: bytes | None) -> None:
        with bounded(_SECONDS):
            document = self._letters.find_one({"_id": letter.letter_id})
            if document is not None and raw is not None:
                letter_id = hashlib.sha256(raw).hexdigest()
                changed = document | {"_id": letter_id, "raw": Binary(raw)}
                self._letters.replace_one({"_id": letter_id}, changed, upsert=True)
            self._letters.delete_one({"_id": letter.letter_id})

    def count_waiting(self) -> int:
        with bounded(_SECONDS):
            return self._letters.count_documents({"state": "waiting"})

    def delete_letter(self, letter_id: str) -> bool:
        with bounded(_SECONDS):
            return self._letters.delete_one({"_id": letter_id}).deleted_count == 1


def get_dead_letters() -> DeadLetterStore:
    return DeadLetterStore(mongo.get_database())


def keep_letters(letters: Sequence[DeadLetter], *, deadline: float) -> bool:
    """Store dead letters by `deadline`, and log them without their content.

    Returns whether MongoDB takes them. If not, all other events go on. Raises TrackingUnavailable.
    """
    DEAD_LETTERS.inc(len(letters))
    try:
        get_dead_letters().insert_letters(letters, seconds=deadline - time.monotonic())
    except StorageRefused as error:
        logger.error("❌ [TRACKING] %d dead letters are not kept: %s", len(letters), error)
        return False
    for letter in letters:
        logger.warning("⚠️ [TRACKING] Delivery kept as dead letter: %s", letter.error)
    return True


def build_letter(event: Event, error: str, arrived_at: datetime) -> DeadLetter:
    """Return the letter of one event, as it came, in an envelope of its own."""
    return DeadLetter(build_envelope(event.entry), error, arrived_at)
