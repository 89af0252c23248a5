"""MongoDB's errors and deadlines: sorted once, and turned into ours at the store modules."""

from collections.abc import Iterator
from contextlib import contextmanager
from enum import Enum
from typing import Any

import pymongo
from bson.errors import BSONError
from pymongo.errors import (
    BulkWriteError,
    ConfigurationError,
    ConnectionFailure,
    DocumentTooLarge,
    DuplicateKeyError,
    OperationFailure,
    PyMongoError,
    WTimeoutError,
)

from tracking.exceptions import StorageRefused, TrackingUnavailable

# A client that looks for a server it does not find sees the end of its time this much later
# (MIN_HEARTBEAT_INTERVAL in pymongo, which its wait is made of).
_LATE_SECONDS = 0.5

DEADLINE_SECONDS = 3.0


class Failure(Enum):
    """What went wrong, by what helps."""

    CONFLICT = "another program holds or wrote the same keys"
    STALE_SESSION = "the snapshot or the session is gone"
    CONNECTIVITY = "the database is unavailable or slow"
    DOCUMENT = "a document cannot be stored"
    OTHER = "unexpected error"


DUPLICATE_KEY = 11000
# 112 WriteConflict, 24 LockTimeout, 11000 DuplicateKey: a duplicate key aborts the transaction and
# is not labelled transient, and means that another writer was first.
_CONFLICT_CODES = frozenset({112, 24, DUPLICATE_KEY, 11001})
# 246 SnapshotUnavailable and 239 SnapshotTooOld come unlabelled when a collection was just created;
# 251 NoSuchTransaction, 206 NoSuchSession, 225 TransactionTooOld, 244 TransactionAborted,
# 290 TransactionExceededLifetimeLimitSeconds.
_STALE_CODES = frozenset({246, 239, 251, 206, 225, 244, 290})
# Elections and shutdowns that pymongo does not turn into ConnectionFailure, and time limits:
# 50 MaxTimeMSExpired, 64 WriteConcernFailed, 262 ExceededTimeLimit, 11601/11600/11602 interrupted.
_AWAY_CODES = frozenset({6, 7, 50, 64, 89, 91, 189, 262, 9001, 10058, 10107, 11600, 11601, 11602,
                         13388, 13435, 13436})  # fmt: skip
# Refused because of what a document holds: 2 BadValue, 9 FailedToParse, 52 DollarPrefixedFieldName,
# 15 Overflow (nested too deep), 57 DottedFieldName, 121 DocumentValidationFailure, 10334 and 17280
# to 17420 too large.
_DOCUMENT_CODES = frozenset({2, 9, 15, 52, 57, 121, 10334, 17280, 17419, 17420})
# The server does not let us in: 13 Unauthorized, 18 AuthenticationFailed, 8000 Atlas.
_REFUSED_CODES = frozenset({13, 18, 8000})
# By code: 72 InvalidOptions, 166 a view, 263 OperationNotSupportedInTransaction.
_OBSTACLES = {
    121: "a validator of the collection",
    DUPLICATE_KEY: "a unique index that is not ours",
    **dict.fromkeys((72, 166, 263), "a view, time-series or capped collection"),
}
_BY_CODE = (
    (_CONFLICT_CODES, Failure.CONFLICT),
    (_STALE_CODES, Failure.STALE_SESSION),
    (_AWAY_CODES, Failure.CONNECTIVITY),
    (_DOCUMENT_CODES, Failure.DOCUMENT),
)


def classify(error: BaseException) -> Failure:
    """Return what kind of failure `error` is."""
    if isinstance(error, ConnectionFailure | WTimeoutError):
        return Failure.CONNECTIVITY
    if isinstance(error, DuplicateKeyError):
        return Failure.CONFLICT
    if isinstance(error, DocumentTooLarge | BSONError | OverflowError | UnicodeError):
        return Failure.DOCUMENT
    if isinstance(error, PyMongoError):
        return _classify_codes(error)
    return Failure.DOCUMENT  # a bug of ours, on one of the events


def _classify_codes(error: PyMongoError) -> Failure:
    if error.timeout:
        return Failure.CONNECTIVITY
    codes = {getattr(error, "code", None)}
    if isinstance(error, BulkWriteError):
        codes = {item.get("code") for item in error.details.get("writeErrors", [])}
    for known, failure in _BY_CODE:
        if codes & known:
            return failure
    if error.has_error_label("TransientTransactionError"):
        return Failure.CONFLICT
    return Failure.OTHER


def find_obstacle(error: BaseException) -> str | None:
    """Return what of another program refuses a write, in words; None for all other errors."""
    details: Any = getattr(error, "details", None) or {}
    first = next(iter(details.get("writeErrors", ())), details)
    code, key = first.get("code"), list(first.get("keyPattern", ["_id"]))
    if code == DUPLICATE_KEY and key == ["_id"]:  # another writer was first
        return None
    return _OBSTACLES.get(code)


@contextmanager
def bounded(seconds: float | None = None) -> Iterator[None]:
    """Limit the database calls inside to `seconds` in all, DEADLINE_SECONDS by default.

    Raises TrackingUnavailable in time when the server is unavailable, slow, or refuses to let us
    in, StorageRefused for what another program left in the way. Other errors pass, because they
    are bugs of ours.
    """
    left = (DEADLINE_SECONDS if seconds is None else seconds) - _LATE_SECONDS
    if left <= 0:
        raise TrackingUnavailable("MongoDB did not answer in time")
    try:
        with pymongo.timeout(left):
            yield
    except PyMongoError as error:
        if obstacle := find_obstacle(error):
            raise StorageRefused(f"MongoDB refuses to write: {obstacle} is in the way") from error
        if classify(error) is Failure.OTHER and not _is_refused(error):
            raise
        # The error's text may hold host names and parts of a query, so only its kind is named.
        raise TrackingUnavailable(f"MongoDB did not answer: {type(error).__name__}") from error


def _is_refused(error: PyMongoError) -> bool:
    return isinstance(error, ConfigurationError) or (
        isinstance(error, OperationFailure) and error.code in _REFUSED_CODES
    )
