"""What was signed by Meta and could not be handled: kept as it came, to be replayed."""

import hashlib
from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import Any

import msgspec
from bson.binary import Binary
from pymongo import UpdateOne
from pymongo.database import Database

Document = dict[str, Any]


class DeadLetter(msgspec.Struct, frozen=True):
    """A body, or an envelope around one element, with the reason why it was not handled."""

    raw: bytes
    error: str
    arrived_at: datetime
    letter_id: str = ""


class DeadLetterStore:
    """Reads and writes of `webhook_dead_letters`. The same bytes are kept once."""

    def __init__(self, database: Database[Document]) -> None:
        self._letters = database["webhook_dead_letters"]

    def insert_letters(self, letters: Sequence[DeadLetter]) -> None:
        """Keep letters; bytes that wait already only count up, and keep their first arrival."""
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
            self._letters.bulk_write(writes, ordered=False)

    def list_waiting(self) -> Iterator[DeadLetter]:
        """Yield the letters that wait, oldest first."""
        for document in self._letters.find({"state": "waiting"}).sort("arrivedAt", 1):
            yield DeadLetter(
                bytes(document["raw"]), document["error"], document["arrivedAt"], document["_id"]
            )

    def count_waiting(self) -> int:
        """Return how many letters wait."""
        return self._letters.count_documents({"state": "waiting"})

    def delete_letter(self, letter_id: str) -> None:
        """Remove a letter that was handled."""
        self._letters.delete_one({"_id": letter_id})
