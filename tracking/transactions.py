"""Transactions outside the flush: bounded in time, retried on conflict, read at a snapshot.

`ClientSession.with_transaction` retries for up to 120 s and never on a duplicate key; these stop
when the caller's time is over.
"""

import random
import time
from collections.abc import Callable
from typing import Any, TypeVar

import pymongo
from pymongo import MongoClient, WriteConcern
from pymongo.client_session import ClientSession
from pymongo.errors import DuplicateKeyError, PyMongoError
from pymongo.read_concern import ReadConcern

from tracking.failures import Failure, classify

Result = TypeVar("Result")

SNAPSHOT = ReadConcern("snapshot")
MAJORITY = WriteConcern(w="majority", j=True)
_RETRIED = frozenset({Failure.CONFLICT, Failure.STALE_SESSION, Failure.CONNECTIVITY})


def run_in_transaction(
    client: MongoClient[dict[str, Any]],
    work: Callable[[ClientSession], Result],
    *,
    seconds: float = 10.0,
) -> Result:
    """Run `work` in a transaction and return its result.

    Conflicts, lost snapshots and lost connections are retried with a new session until `seconds`
    are over; then, and for every other error, pymongo's error is raised. A duplicate key is
    retried once only: the second time the document was there in the new snapshot too.
    """
    deadline = time.monotonic() + seconds
    attempt = 0
    while True:
        attempt += 1
        try:
            with (
                pymongo.timeout(max(deadline - time.monotonic(), 0.05)),
                client.start_session() as session,
                session.start_transaction(read_concern=SNAPSHOT, write_concern=MAJORITY),
            ):
                return work(session)
        except PyMongoError as error:
            is_hopeless = isinstance(error, DuplicateKeyError) and attempt > 1
            is_late = time.monotonic() >= deadline
            if is_late or is_hopeless or classify(error) not in _RETRIED:
                raise
        time.sleep(random.uniform(0.001, 0.02) * min(attempt, 10))  # noqa: S311


def read_at_snapshot(
    client: MongoClient[dict[str, Any]],
    work: Callable[[ClientSession], Result],
    *,
    seconds: float = 10.0,
) -> Result:
    """Run reads that all see the same instant, and return the result of `work`.

    A snapshot session needs no commit, which saves a round trip and the wait for the journal
    (https://www.mongodb.com/docs/manual/reference/read-concern-snapshot/). Errors as above.
    """
    deadline = time.monotonic() + seconds
    while True:
        try:
            with (
                pymongo.timeout(max(deadline - time.monotonic(), 0.05)),
                client.start_session(snapshot=True) as session,
            ):
                return work(session)
        except PyMongoError as error:
            if time.monotonic() >= deadline or classify(error) not in _RETRIED:
                raise
        time.sleep(0.01)
