"""Errors are sorted by what helps: a wrong sort loses an answer or waits for nothing."""

from typing import Any

import bson
import pytest
from bson.errors import InvalidDocument
from pymongo.errors import (
    AutoReconnect,
    BulkWriteError,
    ConfigurationError,
    DocumentTooLarge,
    DuplicateKeyError,
    ExecutionTimeout,
    InvalidOperation,
    NetworkTimeout,
    NotPrimaryError,
    OperationFailure,
    PyMongoError,
    ServerSelectionTimeoutError,
    WriteConcernError,
    WTimeoutError,
)

from tracking.mongo.errors import Failure, classify


def make_error(code: int, *labels: str) -> OperationFailure:
    return OperationFailure("text", code, {"code": code, "errorLabels": list(labels)})


def make_bulk_error(*codes: int) -> BulkWriteError:
    return BulkWriteError({"writeErrors": [{"code": code} for code in codes]})


@pytest.mark.parametrize(
    ("code", "failure"),
    [
        (112, Failure.CONFLICT),
        (24, Failure.CONFLICT),
        (11000, Failure.CONFLICT),
        (246, Failure.STALE_SESSION),
        (239, Failure.STALE_SESSION),
        (251, Failure.STALE_SESSION),
        (206, Failure.STALE_SESSION),
        (290, Failure.STALE_SESSION),
        (189, Failure.CONNECTIVITY),
        (91, Failure.CONNECTIVITY),
        (10107, Failure.CONNECTIVITY),
        (13435, Failure.CONNECTIVITY),
        (11602, Failure.CONNECTIVITY),
        (50, Failure.CONNECTIVITY),
        (64, Failure.CONNECTIVITY),
        (121, Failure.DOCUMENT),
        (10334, Failure.DOCUMENT),
        (52, Failure.DOCUMENT),
        (8, Failure.OTHER),
        (13, Failure.OTHER),
        (14, Failure.OTHER),
        (20, Failure.OTHER),
        (263, Failure.OTHER),
    ],
)
def test_codes(code: int, failure: Failure) -> None:
    assert classify(make_error(code)) is failure
    assert classify(make_bulk_error(code)) is failure


def test_a_label_helps_only_where_the_code_says_nothing() -> None:
    label = "TransientTransactionError"
    assert classify(make_error(8, label)) is Failure.CONFLICT
    assert classify(make_error(251, label)) is Failure.STALE_SESSION
    assert classify(make_error(189, label)) is Failure.CONNECTIVITY


def test_a_conflict_in_a_bulk_wins_over_its_other_errors() -> None:
    assert classify(make_bulk_error(121, 11000)) is Failure.CONFLICT
    assert classify(BulkWriteError({"writeErrors": []})) is Failure.OTHER


def encoding_error(value: Any) -> Exception:
    try:
        bson.encode({"v": value})
    except Exception as error:  # noqa: BLE001 - whichever kind the driver raises
        return error
    raise AssertionError(f"{value!r} was encoded")


@pytest.mark.parametrize(
    ("error", "failure"),
    [
        (AutoReconnect("closed"), Failure.CONNECTIVITY),
        (NetworkTimeout("slow"), Failure.CONNECTIVITY),
        (ServerSelectionTimeoutError("away"), Failure.CONNECTIVITY),
        (NotPrimaryError("election", {"code": 10107}), Failure.CONNECTIVITY),
        (ExecutionTimeout("late", 50, {"code": 50}), Failure.CONNECTIVITY),
        (WTimeoutError("late", 64, {"code": 64}), Failure.CONNECTIVITY),
        (WriteConcernError("down", 91, {"code": 91}), Failure.CONNECTIVITY),
        (DuplicateKeyError("twice", 11000, {}), Failure.CONFLICT),
        (DocumentTooLarge("17 MB"), Failure.DOCUMENT),
        (InvalidDocument("no codec"), Failure.DOCUMENT),
        (InvalidOperation("closed client"), Failure.OTHER),
        (ConfigurationError("no sessions"), Failure.OTHER),
        (PyMongoError("anything"), Failure.OTHER),
        (KeyError("a bug of ours"), Failure.DOCUMENT),
    ],
    ids=lambda value: type(value).__name__,
)
def test_exceptions(error: Exception, failure: Failure) -> None:
    assert classify(error) is failure


@pytest.mark.parametrize(
    "value",
    ["\ud800", 2**63, {"nested": [2**64]}, object(), {1: "key"}, {"nul\0": 1}],
    ids=["surrogate", "int64", "nested", "object", "key", "nul"],
)
def test_what_bson_refuses_is_the_fault_of_a_document(value: object) -> None:
    assert classify(encoding_error(value)) is Failure.DOCUMENT
