"""Flushes that fail half-way: nothing is lost, nothing counts twice, an answer is never stopped."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from unittest import mock

import pytest
from pymongo.client_session import ClientSession
from pymongo.database import Database
from pymongo.errors import AutoReconnect, OperationFailure
from pymongo.synchronous.client_session import _TxnState

from tests.integration.conftest import FailPoint, MakeFlusher, flush
from tests.support.recount import recount
from tests.support.triggers import make_people, make_trigger, tally
from tracking.counting.flush import Flusher
from tracking.counting.reads import Found
from tracking.exceptions import TrackingUnavailable
from tracking.runs import Outcome

Db = Database[dict[str, Any]]
COUNTED, REDELIVERED, UNTRACKED = Outcome.COUNTED, Outcome.REDELIVERED, Outcome.UNTRACKED


@pytest.fixture
def victim(victim_db: Db, make_flusher: MakeFlusher) -> Flusher:
    """A writer whose commands may be made to fail; it has counted one run of automation a1."""
    flusher = make_flusher(victim_db)
    assert flush(flusher, make_trigger(user_id="first")) == [COUNTED]
    return flusher


def check_counted_once(db: Db, people: int) -> None:
    """Check that so many people have a run each, beside the first."""
    assert db["automation_runs"].count_documents({}) == people + 1
    assert db["automation_triggers"].count_documents({"outcome": "counted"}) == people + 1
    assert recount(db) == []


@contextmanager
def lose_commit_replies(monkeypatch: pytest.MonkeyPatch, times: int) -> Iterator[None]:
    """Let commits happen and the client not hear of it, as when a connection breaks then."""
    commit = ClientSession.commit_transaction
    left = [times]

    def commit_and_lose(session: ClientSession) -> None:
        commit(session)
        if left[0]:
            left[0] -= 1
            raise AutoReconnect("connection closed")

    with monkeypatch.context() as patch:
        patch.setattr(ClientSession, "commit_transaction", commit_and_lose)
        yield
    assert left[0] == 0


@pytest.mark.parametrize(
    ("command", "code"),
    [
        ("aggregate", 189),
        ("find", 189),
        ("insert", 10107),
        ("commitTransaction", 189),
        ("commitTransaction", 11602),
    ],
)
def test_an_election_is_waited_for(
    fragile_db: Db, victim: Flusher, fail_point: FailPoint, code: int, command: str
) -> None:
    with fail_point(command, times=2, errorCode=code):
        assert flush(victim, *make_people(3)) == [COUNTED] * 3
    check_counted_once(fragile_db, 3)


@pytest.mark.parametrize("code", [246, 239, 251])
@pytest.mark.parametrize("command", ["aggregate", "find", "insert"])
def test_a_snapshot_that_is_gone_is_taken_anew(
    fragile_db: Db, victim: Flusher, fail_point: FailPoint, code: int, command: str
) -> None:
    with fail_point(command, times=2, errorCode=code):
        assert flush(victim, *make_people(3)) == [COUNTED] * 3
    check_counted_once(fragile_db, 3)


@pytest.mark.parametrize("command", ["aggregate", "find", "insert", "update", "commitTransaction"])
def test_a_connection_that_breaks_is_made_again(
    fragile_db: Db, victim: Flusher, fail_point: FailPoint, command: str
) -> None:
    with fail_point(command, times=2, closeConnection=True):
        assert flush(victim, *make_people(3)) == [COUNTED] * 3
    check_counted_once(fragile_db, 3)


@pytest.mark.parametrize("times", [1, 2, 5])
def test_write_conflicts_are_tried_again_and_split(
    fragile_db: Db, victim: Flusher, fail_point: FailPoint, times: int
) -> None:
    labels = ["TransientTransactionError"]
    with fail_point(
        "insert", times=times, namespace="automation_contacts", errorCode=112, errorLabels=labels
    ):
        assert flush(victim, *make_people(8)) == [COUNTED] * 8
    check_counted_once(fragile_db, 8)


def test_keys_that_stay_locked_have_no_answer_yet(
    fragile_db: Db, victim: Flusher, fail_point: FailPoint
) -> None:
    people = make_people(4)
    with fail_point("insert", namespace="automation_contacts", errorCode=112):
        assert flush(victim, *people) == [None] * 4
    assert fragile_db["automation_triggers"].count_documents({}) == 1
    assert flush(victim, *people) == [COUNTED] * 4
    check_counted_once(fragile_db, 4)


@pytest.mark.parametrize("times", [1, 3])
def test_a_commit_whose_reply_is_lost_counts_once_and_is_reported_as_counted(
    fragile_db: Db, victim: Flusher, monkeypatch: pytest.MonkeyPatch, times: int
) -> None:
    duplicate = make_trigger(user_id="first")
    twice = make_trigger(user_id="twice")
    with lose_commit_replies(monkeypatch, times):
        answers = flush(victim, duplicate, twice, twice, make_trigger(user_id="p2"))
    assert answers == [Outcome.DUPLICATE, COUNTED, REDELIVERED, COUNTED]
    check_counted_once(fragile_db, 2)


def test_lost_replies_and_conflicts_together_are_reported_as_counted(
    fragile_db: Db,
    victim: Flusher,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The flush is split between its commit and the moment it learns of it."""
    reads = victim._transaction._reads
    find = reads.find
    calls = []

    def find_later(*args: Any) -> Found:
        calls.append(args)
        if 1 < len(calls) < 5:
            raise OperationFailure("WriteConflict", 112)
        return find(*args)

    monkeypatch.setattr(reads, "find", find_later)
    with lose_commit_replies(monkeypatch, 1):
        assert flush(victim, *make_people(4)) == [COUNTED] * 4
    assert len(calls) > 5
    check_counted_once(fragile_db, 4)


def test_what_another_writer_counted_meanwhile_is_not_reported_as_ours(
    fragile_db: Db,
    victim: Flusher,
    make_flusher: MakeFlusher,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The reply is lost, but of a commit that did not happen."""
    people = make_people(3)
    commit = ClientSession.commit_transaction

    def abort_and_be_overtaken(session: ClientSession) -> None:
        session.abort_transaction()
        monkeypatch.setattr(ClientSession, "commit_transaction", commit)
        assert flush(make_flusher(fragile_db), *people[:2]) == [COUNTED] * 2
        raise AutoReconnect("connection closed")

    monkeypatch.setattr(ClientSession, "commit_transaction", abort_and_be_overtaken)
    assert flush(victim, *people) == [REDELIVERED, REDELIVERED, COUNTED]
    check_counted_once(fragile_db, 3)


def test_a_commit_that_never_arrives_is_a_503_and_frees_its_keys(
    fragile_db: Db,
    victim: Flusher,
    fail_point: FailPoint,
    make_flusher: MakeFlusher,
) -> None:
    """The server keeps the transaction open until somebody ends it: the writer itself must."""
    people = make_people(3)
    with fail_point("commitTransaction", "abortTransaction", closeConnection=True):
        started = time.monotonic()
        answers = flush(victim, *people, seconds=0.5)
        assert time.monotonic() - started < 1.5
    assert [type(answer) for answer in answers] == [TrackingUnavailable] * 3
    assert fragile_db["automation_triggers"].count_documents({}) == 1
    # What the thread that keeps the lease does every second.
    victim.lease.renew()
    started = time.monotonic()
    assert flush(make_flusher(fragile_db), *people) == [COUNTED] * 3
    assert time.monotonic() - started < 2.0
    assert flush(victim, *people) == [REDELIVERED] * 3
    check_counted_once(fragile_db, 3)


def test_a_write_whose_reply_is_lost_does_not_lock_out_its_own_writer(
    fragile_db: Db, victim: Flusher, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The transaction stays open on the server, because the abort does not arrive either."""
    insert_plan = victim._transaction._store.insert_plan

    def insert_and_lose(*args: Any, **options: Any) -> None:
        insert_plan(*args, **options)
        monkeypatch.setattr(victim._transaction._store, "insert_plan", insert_plan)
        session: ClientSession = options["session"]
        assert session._server_session is not None
        # What the driver notes when a connection breaks, and after an abort.
        session._server_session.mark_dirty()
        session._transaction.state = _TxnState.ABORTED
        raise AutoReconnect("connection closed")

    monkeypatch.setattr(victim._transaction._store, "insert_plan", insert_and_lose)
    started = time.monotonic()
    assert flush(victim, *make_people(3)) == [COUNTED] * 3
    assert time.monotonic() - started < 2.0
    check_counted_once(fragile_db, 3)


@pytest.mark.parametrize("namespace", ["automation_runs", "automation_contacts"])
@pytest.mark.parametrize("people", [1, 100])
def test_a_failure_without_a_cure_keeps_triggers_untracked(
    fragile_db: Db,
    victim: Flusher,
    fail_point: FailPoint,
    caplog: pytest.LogCaptureFixture,
    namespace: str,
    people: int,
) -> None:
    """I7: the triggers and what has to be sent are stored, and the answer is 200."""
    triggers = make_people(people, send={"steps": []})
    with fail_point("insert", namespace=namespace, errorCode=8), caplog.at_level(logging.ERROR):
        assert flush(victim, *triggers) == [UNTRACKED] * people
    stored = list(fragile_db["automation_triggers"].find({"outcome": "untracked"}))
    assert len(stored) == people
    assert all("expireAt" not in one and one["state"] == "queued" for one in stored)
    assert "kept as untracked" in caplog.text
    assert flush(victim, *triggers) == [REDELIVERED] * people
    check_counted_once(fragile_db, 0)


def test_statistics_that_cannot_be_read_or_written_do_not_stop_an_answer(
    fragile_db: Db, victim: Flusher, fail_point: FailPoint
) -> None:
    with fail_point("find", "update", namespace="automation_run_stats", errorCode=8):
        assert flush(victim, *make_people(3)) == [UNTRACKED] * 3
    assert fragile_db["automation_triggers"].count_documents({"outcome": "untracked"}) == 3
    check_counted_once(fragile_db, 0)


def test_a_tampered_counter_does_not_stop_an_answer(fragile_db: Db, victim: Flusher) -> None:
    fragile_db["automation_run_stats"].update_many({"stripe": 0}, {"$set": {"runs": "many"}})
    assert flush(victim, make_trigger(user_id="p2")) == [UNTRACKED]


def test_a_merge_that_fails_does_not_stop_an_answer(
    fragile_db: Db, victim: Flusher, fail_point: FailPoint
) -> None:
    fragile_db["automations"].insert_one({"_id": "a1"})
    trigger = make_trigger()
    with fail_point("update", namespace="automations", errorCode=8):
        assert flush(victim, trigger) == [COUNTED]
    assert flush(victim, trigger) == [REDELIVERED]
    check_counted_once(fragile_db, 1)


def test_a_base_that_cannot_be_taken_does_not_stop_counting(
    fragile_db: Db, victim: Flusher, fail_point: FailPoint, caplog: pytest.LogCaptureFixture
) -> None:
    fragile_db["automations"].insert_one({"_id": "a2", "totalRuns": 7})
    with fail_point("aggregate", namespace="automation_runs", errorCode=8):
        assert flush(victim, *make_people(3, automation_id="a2")) == [COUNTED] * 3
        assert "add_run_fields" in caplog.text
        assert flush(victim, make_trigger(user_id="next", automation_id="a2")) == [COUNTED]
        assert len(caplog.records) == 1  # not with every flush
    victim._bases._retry_at.clear()
    assert flush(victim, make_trigger(user_id="later", automation_id="a2")) == [COUNTED]
    [automation] = fragile_db["automations"].find()
    assert automation["totalRuns"] == 12
    check_counted_once(fragile_db, 5)


@pytest.mark.parametrize(
    "poison",
    [
        {"user_id": "\ud800"},
        {"event_id": "\udfff"},
        {"metadata": {"messageText": "\ud800"}},
        {"metadata": {"big": 2**63}},
        {"metadata": {"no": object()}},
        {"metadata": {"huge": "x" * (16 << 20)}},
        {"send": {"nul\0": 1}},
    ],
    ids=lambda poison: next(iter(poison)),
)
def test_one_poison_is_refused_alone(
    fragile_db: Db,
    victim: Flusher,
    caplog: pytest.LogCaptureFixture,
    poison: dict[str, Any],
) -> None:
    triggers = make_people(100)
    triggers[37] = make_trigger(**({"automation_id": "a37"} | poison))
    answers = flush(victim, *triggers)
    assert answers.pop(37) is Outcome.REJECTED
    assert tally(answers) == {"counted": 99}
    assert "❌ [TRACKING] Trigger cannot be stored" in caplog.text
    check_counted_once(fragile_db, 99)


def test_a_key_that_cannot_be_looked_up_does_not_stop_an_answer(
    fragile_db: Db, victim: Flusher
) -> None:
    triggers = make_people(10)
    triggers[3] = make_trigger(automation_id="a3", automation_key=2**70)
    answers = flush(victim, *triggers)
    assert answers.pop(3) is UNTRACKED
    assert tally(answers) == {"counted": 9}
    check_counted_once(fragile_db, 9)


def test_two_poisons_and_a_lost_reply(
    fragile_db: Db, victim: Flusher, monkeypatch: pytest.MonkeyPatch
) -> None:
    triggers = make_people(20)
    triggers[3] = make_trigger(user_id="\ud800")
    triggers[17] = make_trigger(user_id="\ud800")
    with lose_commit_replies(monkeypatch, 2):
        answers = flush(victim, *triggers)
    assert tally(answers) == {"counted": 18, "rejected": 2}
    check_counted_once(fragile_db, 18)


def test_a_switch_that_nobody_can_read_does_not_cost_a_transaction_per_trigger(
    fragile_db: Db, victim: Flusher
) -> None:
    fragile_db["tracking_switch"].insert_one({"_id": "tracking", "state": "nonsense"})
    triggers = make_people(50)
    with mock.patch.object(victim._transaction, "run", wraps=victim._transaction.run) as attempt:
        assert flush(victim, *triggers) == [UNTRACKED] * 50
    assert attempt.call_count == 1
