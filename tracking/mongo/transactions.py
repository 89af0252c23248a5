"""Transactions, bounded in time and retried on conflict, and the bare commands inside them.

`ClientSession.with_transaction` retries for up to 120 s and never on a duplicate key; these stop
when the caller's time is over. A bare command is one message and its reply: `insert_many`,
`bulk_write` and cursors look at every document once more and keep state between batches, which is
a fifth of the time that counting takes in Python. Outside a transaction they are not retried.
"""

import logging
import random
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from itertools import islice
from typing import Any, TypeVar
from uuid import UUID

import pymongo
from bson.binary import Binary
from pymongo import MongoClient, ReadPreference, WriteConcern
from pymongo.client_session import ClientSession
from pymongo.database import Database
from pymongo.errors import (
    ConnectionFailure,
    DuplicateKeyError,
    OperationFailure,
    PyMongoError,
    WriteConcernError,
    WriteError,
)
from pymongo.read_concern import ReadConcern

from tracking.mongo.errors import DUPLICATE_KEY, Failure, classify

logger = logging.getLogger("tracking")

Document = dict[str, Any]
Result = TypeVar("Result")
Item = TypeVar("Item")

SNAPSHOT = ReadConcern("snapshot")
MAJORITY = WriteConcern(w="majority", j=True)
# Said each time: a client that prefers secondaries would refuse every transaction.
PRIMARY = ReadPreference.PRIMARY
_RETRIED = frozenset({Failure.CONFLICT, Failure.STALE_SESSION, Failure.CONNECTIVITY})


def session_id_of(session: ClientSession) -> UUID:
    """Return the id of a session on the server."""
    value: Binary = session.session_id["id"]
    return value.as_uuid()


def kill_session(client: MongoClient[dict[str, Any]], session_id: UUID) -> None:
    """End a session on the server and abort its transaction, which frees what it has locked.

    https://www.mongodb.com/docs/manual/reference/command/killSessions/
    """
    try:
        client.admin.command("killSessions", [{"id": Binary.from_uuid(session_id)}])
    except OperationFailure as error:
        logger.warning("⚠️ [TRACKING] killSessions refused: %s", error.code)


class CommitUnclear(ConnectionFailure):
    """The reply of a commit was lost: it may have happened."""


def transact(session: ClientSession, work: Callable[[ClientSession], Result]) -> Result:
    """Run `work` once in a transaction of the session.

    Raises CommitUnclear, and for every other error nothing was written; but where the server could
    not be reached the transaction may be open, and its keys locked, until the session is killed.
    """
    session.start_transaction(
        read_concern=SNAPSHOT, write_concern=MAJORITY, read_preference=PRIMARY
    )
    try:
        result = work(session)
    except BaseException:
        session.abort_transaction()
        raise
    try:
        session.commit_transaction()
    except PyMongoError as error:
        if error.has_error_label("TransientTransactionError"):
            raise
        raise CommitUnclear(type(error).__name__) from error
    return result


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
        session_id: UUID | None = None
        try:
            with (
                pymongo.timeout(max(deadline - time.monotonic(), 0.05)),
                client.start_session() as session,
            ):
                session_id = session_id_of(session)
                with session.start_transaction(
                    read_concern=SNAPSHOT, write_concern=MAJORITY, read_preference=PRIMARY
                ):
                    return work(session)
        except PyMongoError as error:
            failure = classify(error)
            if failure is Failure.CONNECTIVITY and session_id is not None:
                # Its transaction may be open on the server, and lock out the next attempt.
                with suppress(PyMongoError), pymongo.timeout(0.5):
                    kill_session(client, session_id)
            is_hopeless = isinstance(error, DuplicateKeyError) and attempt > 1
            is_late = time.monotonic() >= deadline
            if is_late or is_hopeless or failure not in _RETRIED:
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

    def read() -> Result:
        with client.start_session(snapshot=True) as session:
            return work(session)

    return retry(read, deadline=time.monotonic() + seconds)


def retry(work: Callable[[], Result], *, deadline: float) -> Result:
    """Do what may be done twice, again on every error that passes, until `deadline` (monotonic)."""
    while True:
        try:
            with pymongo.timeout(max(deadline - time.monotonic(), 0.05)):
                return work()
        except PyMongoError as error:
            if time.monotonic() >= deadline or classify(error) not in _RETRIED:
                raise
        time.sleep(0.01)


def run_find(
    database: Database[Document],
    collection: str,
    query: Mapping[str, Any],
    fields: Sequence[str],
    *,
    most: int,
    sort: Mapping[str, int] | None = None,
    session: ClientSession | None = None,
) -> list[Document]:
    """Return the first `most` documents that match, with `_id` and these fields."""
    # batchSize: a first batch is 101 documents otherwise.
    projection = dict.fromkeys(("_id", *fields), 1)
    command = {
        "find": collection, "filter": query, "projection": projection, "limit": most,
        "batchSize": most + 1,
    }  # fmt: skip
    if sort is not None:
        command["sort"] = sort
    return run_read(database, collection, command, session)


def run_read(
    database: Database[Document],
    collection: str,
    command: Document,
    session: ClientSession | None = None,
) -> list[Document]:
    """Run a find or an aggregate and return all its documents."""
    # Named each time: a bare command reads times as naive ones otherwise.
    options = database.codec_options
    reply = database.command(command, session=session, codec_options=options)
    documents: list[Document] = reply["cursor"]["firstBatch"]
    while reply["cursor"]["id"]:  # only past 16 MB
        more = {"getMore": reply["cursor"]["id"], "collection": collection}
        reply = database.command(more, session=session, codec_options=options)
        documents += reply["cursor"]["nextBatch"]
    return documents


def run_insert(
    database: Database[Document],
    collection: str,
    documents: Sequence[Document],
    session: ClientSession,
) -> None:
    """Insert documents in a transaction. Raises the first document's error."""
    command = {"insert": collection, "documents": documents}
    _raise_first_error(database.command(command, session=session))


def run_update(
    database: Database[Document],
    collection: str,
    updates: Sequence[Document],
    session: ClientSession | None = None,
) -> None:
    """Run updates, each `{q, u, upsert}`, in any order. Raises the first one's error.

    Outside a transaction each stands for itself, and the reply waits for the majority's journal.
    """
    command: Document = {"update": collection, "updates": updates, "ordered": False}
    if session is None:
        command["writeConcern"] = {"w": "majority", "j": True}
    _raise_first_error(database.command(command, session=session))


def _raise_first_error(reply: Mapping[str, Any]) -> None:
    """Raise what a write command reports about a single document, as pymongo's methods do."""
    for error in reply.get("writeErrors", ()):
        kind = DuplicateKeyError if error.get("code") == DUPLICATE_KEY else WriteError
        raise kind(error.get("errmsg", ""), error.get("code"), error)
    error = reply.get("writeConcernError")
    if error:
        raise WriteConcernError(error.get("errmsg", ""), error.get("code"), error)


def batched(items: Iterable[Item], size: int) -> Iterator[list[Item]]:
    """Yield lists of at most `size` items; itertools has it from Python 3.12 on."""
    iterator = iter(items)
    while batch := list(islice(iterator, size)):
        yield batch
