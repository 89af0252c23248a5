"""Meta's data deletion callback: taken down at once, erased by a worker, told under a code.

Whoever asks is either a person who wrote to an account, and is erased as `erase_person` does, or
the owner of an account, whose access token is deleted.
"""

from __future__ import annotations

import logging
import secrets
import threading
from datetime import datetime, timedelta
from typing import Any

from pymongo.collection import Collection

from automations.accounts import store as account_store
from automations.privacy.erasure import erase_person
from tracking.clock import read_now
from tracking.exceptions import TrackingError
from tracking.mongo import client as mongo
from tracking.mongo.errors import reach_mongo

logger = logging.getLogger("automations.deletions")

_EVERY_SECONDS = 2.0

Document = dict[str, Any]

# As long as somebody may want to look it up.
KEPT = timedelta(days=400)


def request_deletion(person_id: str) -> str:
    """Store the wish of a person and return its confirmation code. Raises TrackingUnavailable."""
    code = secrets.token_hex(16)
    insert_request(code, person_id=person_id, at=read_now())
    return code


def describe_request(code: str) -> str | None:
    """Return what has become of a request, for the person; None if there is none.

    Raises TrackingUnavailable.
    """
    request = find_request(code)
    if request is None:
        return None
    asked = f"Data deletion request {code}, received {request['requestedAt']:%Y-%m-%d %H:%M} UTC.\n"
    if request["state"] != "done":
        return asked + "It is being carried out. Please look again in a few minutes.\n"
    return asked + (
        f"Done {request['doneAt']:%Y-%m-%d %H:%M} UTC. Your id and the texts that you wrote were "
        "erased. How often automations ran is still counted, without a link to you.\n"
    )


def erase_waiting() -> int:
    """Carry out every request that waits and return how many. Raises TrackingUnavailable."""
    count = 0
    for request in list_waiting():
        person_id = request["userId"]
        erase_person(None, person_id, at=read_now())
        account_store.delete_account(person_id)
        finish_request(request["_id"], at=read_now())
        logger.info("Data deletion request %s is done", request["_id"])
        count += 1
    return count


def run_deletions(stop: threading.Event) -> None:
    """Carry out requests until told to stop; one that fails is tried again."""
    while not stop.wait(_EVERY_SECONDS):
        try:
            erase_waiting()
        except TrackingError as error:
            logger.warning("⚠️ Data deletion requests wait: %s", error)
        except Exception:
            logger.exception("❌ Data deletion requests wait")


def insert_request(code: str, *, person_id: str, at: datetime) -> None:
    """Store a request. Raises TrackingUnavailable, as everything here does."""
    document = {
        "_id": code, "userId": person_id, "state": "waiting", "requestedAt": at,
        "expireAt": at + KEPT,
    }  # fmt: skip
    with reach_mongo():
        _requests().insert_one(document)


def find_request(code: str) -> Document | None:
    """Return the request with this code."""
    with reach_mongo():
        return _requests().find_one({"_id": code})


def list_waiting(*, limit: int = 100) -> list[Document]:
    """Return the requests that wait, the oldest first."""
    with reach_mongo():
        found = _requests().find({"state": "waiting"}, limit=limit)
        return list(found.sort("requestedAt", 1))


def finish_request(code: str, *, at: datetime) -> None:
    """Note that it is done, and forget whom it was about."""
    change = {"$set": {"state": "done", "doneAt": at}, "$unset": {"userId": ""}}
    with reach_mongo():
        _requests().update_one({"_id": code}, change)


def _requests() -> Collection[Document]:
    return mongo.get_database()["deletion_requests"]
