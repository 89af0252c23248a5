"""Bare commands: one message and its reply.

`insert_many`, `bulk_write` and cursors look at every document once more and keep state between
batches, which is a fifth of the time that counting takes in Python. Outside a transaction nothing
here is retried.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import islice
from typing import Any, TypeVar

from pymongo.client_session import ClientSession
from pymongo.database import Database
from pymongo.errors import DuplicateKeyError, WriteConcernError, WriteError

Document = dict[str, Any]
Item = TypeVar("Item")

_DUPLICATE_KEY = 11000


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
        kind = DuplicateKeyError if error.get("code") == _DUPLICATE_KEY else WriteError
        raise kind(error.get("errmsg", ""), error.get("code"), error)
    error = reply.get("writeConcernError")
    if error:
        raise WriteConcernError(error.get("errmsg", ""), error.get("code"), error)


def batched(items: Iterable[Item], size: int) -> Iterator[list[Item]]:
    """Yield lists of at most `size` items; itertools has it from Python 3.12 on."""
    iterator = iter(items)
    while batch := list(islice(iterator, size)):
        yield batch
