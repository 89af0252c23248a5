"""Transactions: bounded in time, never in their own way, and never taken for what they are not."""

import time
from typing import Any

import pytest
from pymongo.client_session import ClientSession
from pymongo.errors import AutoReconnect, DuplicateKeyError, OperationFailure, PyMongoError
from pymongo.synchronous.client_session import _TxnState

from tests.integration.conftest import Db, FailPoint
from tracking.mongo.transactions import (
    CommitUnclear,
    read_at_snapshot,
    run_in_transaction,
    transact,
)


def insert(db: Db, key: str = "k") -> Any:
    return lambda session: db["accounts"].insert_one({"_id": key}, session=session)


def test_a_commit_that_does_not_arrive_does_not_lock_out_the_next(db: Db, monkeypatch: Any) -> None:
    """The transaction stays open on the server, and holds what the next try needs."""
    commit = ClientSession.commit_transaction

    def lose(session: ClientSession) -> None:
        monkeypatch.setattr(ClientSession, "commit_transaction", commit)
        assert session._server_session is not None
        # What the driver notes when a connection breaks, and after it gave a commit up.
        session._server_session.mark_dirty()
        session._transaction.state = _TxnState.COMMITTED
        raise AutoReconnect("connection closed")

    monkeypatch.setattr(ClientSession, "commit_transaction", lose)
    started = time.monotonic()
    run_in_transaction(db.client, insert(db), seconds=3.0)
    assert time.monotonic() - started < 2.0
    assert db["accounts"].count_documents({}) == 1


def test_what_was_there_already_is_found_out_in_two_tries(db: Db) -> None:
    db["accounts"].insert_one({"_id": "k"})
    tries = []

    def work(session: ClientSession) -> None:
        tries.append(1)
        db["accounts"].insert_one({"_id": "k"}, session=session)

    with pytest.raises(DuplicateKeyError):
        run_in_transaction(db.client, work)
    assert len(tries) == 2


def test_a_lock_is_waited_for_until_the_time_is_over(db: Db) -> None:
    with db.client.start_session() as session:
        session.start_transaction()
        db["accounts"].insert_one({"_id": "k"}, session=session)
        started = time.monotonic()
        with pytest.raises(PyMongoError):
            run_in_transaction(db.client, insert(db), seconds=0.3)
        assert 0.2 < time.monotonic() - started < 1.5
        session.abort_transaction()
    run_in_transaction(db.client, insert(db), seconds=0.3)


def test_a_commit_is_done_unclear_or_not(fragile_db: Db, victim_db: Db, fail_point: Any) -> None:
    with victim_db.client.start_session() as session:
        assert transact(session, insert(victim_db, "k1")).inserted_id == "k1"
        with pytest.raises(DuplicateKeyError):
            transact(session, insert(victim_db, "k1"))
        conflict = {"errorCode": 112, "errorLabels": ["TransientTransactionError"]}
        with fail_point("commitTransaction", **conflict), pytest.raises(OperationFailure):
            transact(session, insert(victim_db, "k2"))
        with fail_point("commitTransaction", errorCode=91), pytest.raises(CommitUnclear):
            transact(session, insert(victim_db, "k3"))
    fragile_db.client.admin.command("killAllSessions", [])
    assert fragile_db["accounts"].distinct("_id") == ["k1"]


def test_an_error_of_the_work_aborts_it(db: Db) -> None:
    def work(session: ClientSession) -> None:
        insert(db)(session)
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        run_in_transaction(db.client, work)
    run_in_transaction(db.client, insert(db), seconds=0.3)


@pytest.mark.parametrize("code", [246, 239, 189])
def test_a_lost_snapshot_is_taken_again(victim_db: Db, fail_point: FailPoint, code: int) -> None:
    with fail_point("find", times=2, errorCode=code):
        accounts = victim_db["accounts"]
        read = read_at_snapshot(victim_db.client, lambda s: list(accounts.find(session=s)))
    assert read == []
