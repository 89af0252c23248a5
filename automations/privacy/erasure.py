"""Erase a person everywhere, and export what there is about one.

Tracking makes runs, contacts and triggers anonymous (tracking/maintenance/erasure.py); here the
sends that wait are dropped and the dead letters are searched. What arrived before the erasure is
committed within the deadline of a delivery, so the last look comes after it.
"""

import time
from collections import Counter
from collections.abc import Iterator
from datetime import datetime
from functools import partial
from typing import Any

import msgspec

from automations.privacy.redaction import Split, build_trigger_update, split_letter
from automations.webhook import dead_letters
from automations.webhook.deliveries import DEADLINE_SECONDS
from tracking.exceptions import TrackingUnavailable
from tracking.maintenance.erasure import Eraser, PersonStore
from tracking.mongo import client as mongo

_GRACE_SECONDS = DEADLINE_SECONDS + 1
_MOST_PASSES = 10


class Found(msgspec.Struct):
    """What was found of a person, and erased unless it was only looked for."""

    documents: Counter[str]
    dead_letters: int = 0


def erase_person(account_id: str | None, person_id: str, *, at: datetime) -> Found:
    """Erase whoever wrote to the account (None: to any) under this id; takes four seconds.

    Safe to repeat. Raises TrackingUnavailable: some of it may be left, run it again.
    """
    eraser = Eraser(mongo.get_database(), build_update=partial(build_trigger_update, at=at))
    found = Found(Counter())
    started = time.monotonic()
    for _ in range(_MOST_PASSES):
        documents = eraser.erase(account_id, person_id)
        letters = _erase_letters(person_id)
        found.documents += documents
        found.dead_letters += letters
        if not documents and not letters:
            left = _GRACE_SECONDS - (time.monotonic() - started)
            if left <= 0:
                return found
            time.sleep(left)
    raise TrackingUnavailable("the person goes on writing, run it again")


def preview_erasure(account_id: str | None, person_id: str) -> Found:
    """Return what `erase_person` would find now. Raises TrackingUnavailable."""
    found = export_person(account_id, person_id)
    documents = Counter(
        runs=len(found["automation_runs"]),
        contacts=len(found["automation_contacts"]),
        triggers=len(found["automation_triggers"]),
    )
    return Found(documents, len(found["webhook_dead_letters"]))


def export_person(account_id: str | None, person_id: str) -> dict[str, list[Any]]:
    """Return everything stored about the person, by collection. Raises TrackingUnavailable."""
    documents = PersonStore(mongo.get_database()).list_documents(account_id, person_id)
    letters = [
        {"_id": letter.letter_id, "arrivedAt": letter.arrived_at, "holds": split.mentions}
        for letter, split in _search_letters(person_id)
    ]
    return {**documents, "webhook_dead_letters": letters}


def _erase_letters(person_id: str) -> int:
    count = 0
    for letter, split in _search_letters(person_id):
        dead_letters.redact_letter(letter, split.rest)
        count += 1
    return count


def _search_letters(person_id: str) -> Iterator[tuple[dead_letters.DeadLetter, Split]]:
    for letter_id in dead_letters.list_ids({}):
        letter = dead_letters.find_letter(letter_id)
        if letter is not None:
            split = split_letter(letter.raw, person_id)
            if split.mentions:
                yield letter, split
