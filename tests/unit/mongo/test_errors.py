import pytest
from bson.errors import InvalidDocument
from pymongo import errors
from pymongo.errors import BulkWriteError, OperationFailure

from tracking.mongo.errors import Failure, classify


def make_error(code: int, *labels: str) -> OperationFailure:
    return OperationFailure("text", code, {"code": code, "errorLabels": list(labels)})


def make_bulk_error(*codes: int) -> BulkWriteError:
    return BulkWriteError({"writeErrors": [{"code": code} for code in codes]})


CODES = {
    Failure.CONFLICT: [112, 24, 11000],
    Failure.STALE_SESSION: [246, 239, 251, 206, 290],
    Failure.CONNECTIVITY: [189, 91, 10107, 13435, 11602, 50, 64],
    Failure.DOCUMENT: [121, 10334, 52],
    Failure.OTHER: [8, 13, 14, 20, 263],
}


@pytest.mark.parametrize("failure", CODES)
def test_codes(failure: Failure) -> None:
    for code in CODES[failure]:
        assert classify(make_error(code)) is failure, code
        assert classify(make_bulk_error(code)) is failure, code


def test_a_label_helps_only_where_the_code_says_nothing() -> None:
    label = "TransientTransactionError"
    assert classify(make_error(8, label)) is Failure.CONFLICT
    assert classify(make_error(251, label)) is Failure.STALE_SESSION
    assert classify(make_error(189, label)) is Failure.CONNECTIVITY


def test_a_conflict_in_a_bulk_wins_over_its_other_errors() -> None:
    assert classify(make_bulk_error(121, 11000)) is Failure.CONFLICT
    assert classify(BulkWriteError({"writeErrors": []})) is Failure.OTHER


EXCEPTIONS: list[tuple[Failure, list[Exception]]] = [
    (Failure.CONNECTIVITY, [errors.AutoReconnect("closed"), errors.NetworkTimeout("slow")]),
    (Failure.CONNECTIVITY, [errors.ServerSelectionTimeoutError("away")]),
    (Failure.CONNECTIVITY, [errors.NotPrimaryError("election", {"code": 10107})]),
    (Failure.CONNECTIVITY, [errors.ExecutionTimeout("late", 50, {"code": 50})]),
    (Failure.CONNECTIVITY, [errors.WTimeoutError("late", 64, {"code": 64})]),
    (Failure.CONNECTIVITY, [errors.WriteConcernError("down", 91, {"code": 91})]),
    (Failure.CONFLICT, [errors.DuplicateKeyError("twice", 11000, {})]),
    (Failure.DOCUMENT, [errors.DocumentTooLarge("17 MB"), InvalidDocument("no codec")]),
    (Failure.DOCUMENT, [KeyError("a bug of ours")]),
    (Failure.OTHER, [errors.InvalidOperation("closed client"), errors.PyMongoError("anything")]),
    (Failure.OTHER, [errors.ConfigurationError("no sessions")]),
]


def test_exceptions() -> None:
    for failure, found in EXCEPTIONS:
        assert [classify(error) for error in found] == [failure] * len(found), found
