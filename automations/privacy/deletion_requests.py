"""Meta's data deletion callback: stored at once, erased by a worker, reported under a code.

Whoever asks is either a person who wrote to an account, and is erased as `erase_person` does, or
the owner of an account, whose access token is deleted. `erase_waiting` and `run_deletions` handle
TrackingUnavailable itself.
"""

import logging
import secrets
import threading
from datetime import timedelta
from typing import Any

from pymongo.collection import Collection

from automations.accounts.accounts import delete_account
from automations.privacy.erasure import erase_person
from tracking.clock import read_now
from tracking.exceptions import TrackingError
from tracking.mongo import client as mongo
from tracking.mongo.errors import bounded

logger = logging.getLogger("automations.deletions")

_EVERY_SECONDS = 2.0
_MOST_AT_ONCE = 100
_RETRY_AFTER = timedelta(minutes=1)
# As long as somebody may want to look it up.
KEPT = timedelta(days=400)


def request_deletion(person_id: str) -> str:
    code, at = secrets.token_hex(16), read_now()
    request = {"_id": code, "userId": person_id, "state": "waiting", "requestedAt": at}
    with bounded():
        _requests().insert_one({**request, "expireAt": at + KEPT})
    return code


def describe_request(code: str) -> str | None:
    """Return what has become of a request, for the person; None if there is none."""
    with bounded():
        request = _requests().find_one({"_id": code})
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
    """Carry out the requests that wait, and return how many.

    One that fails is tried again a minute later, after those that were not tried yet.
    """
    due = {"state": "waiting", "triedAt": {"$not": {"$gt": read_now() - _RETRY_AFTER}}}
    with bounded():
        found = _requests().find(due, limit=_MOST_AT_ONCE)
        waiting = list(found.sort([("triedAt", 1), ("requestedAt", 1)]))
    return sum(map(_erase, waiting))


def _erase(request: dict[str, Any]) -> bool:
    try:
        erase_person(None, request["userId"], at=read_now())
        delete_account(request["userId"])
    except Exception:
        logger.exception("❌ Data deletion request %s failed", request["_id"])
        change: dict[str, Any] = {"$set": {"triedAt": read_now()}}
        is_done = False
    else:
        change = {"$set": {"state": "done", "doneAt": read_now()}, "$unset": {"userId": ""}}
        logger.info("Data deletion request %s is done", request["_id"])
        is_done = True
    with bounded():
        _requests().update_one({"_id": request["_id"]}, change)
    return is_done


def run_deletions(stop: threading.Event) -> None:
    while not stop.wait(_EVERY_SECONDS):
        try:
            erase_waiting()
        except TrackingError as error:
            logger.warning("⚠️ Data deletion requests wait: %s", error)
        except Exception:
            logger.exception("❌ Data deletion requests wait")


def _requests() -> Collection[dict[str, Any]]:
    return mongo.get_database()["deletion_requests"]
