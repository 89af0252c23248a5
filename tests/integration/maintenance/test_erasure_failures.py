"""An erasure that is cut off anywhere is done again, and the counts never show that it was."""

from __future__ import annotations

from typing import Any

import pytest
from bson import Binary
from bson.binary import UUID_SUBTYPE
from pymongo.database import Database

from tests.integration.conftest import FailPoint, flush
from tests.integration.maintenance.test_erasure import ACCOUNT, PERSON, SECOND, list_holders, wrote
from tests.support.laboratory import lose_commit_replies
from tests.support.recount import recount
from tests.support.triggers import T0, WINDOW, make_trigger
from tests.support.wire import Crash, Process
from tracking.conf import conf
from tracking.counting.flush import Flusher
from tracking.maintenance.erasure import Eraser
from tracking.runs import Outcome


@pytest.fixture
def written(db: Database[Any], make_flusher: Any) -> Flusher:
    documents = [{"_id": name, "accountId": ACCOUNT, "workspaceId": "w1"} for name in ("a1", "a2")]
    db["automations"].insert_many(documents)
    flusher = make_flusher(db, claim_keys=conf.claim_keys)
    flush(flusher, wrote(T0), wrote(T0 + SECOND), wrote(T0, "a2"), make_trigger())
    return flusher


def check_erased(db: Database[Any], flusher: Flusher) -> None:
    assert list_holders(db) == []
    assert recount(db, at=T0 + WINDOW) == []
    assert db["automation_runs"].count_documents({}) == 3
    assert db["automation_contacts"].count_documents({}) == 3
    assert flush(flusher, wrote(T0 + WINDOW), wrote(T0 + WINDOW, "a2")) == [Outcome.DUPLICATE] * 2


@pytest.mark.parametrize("times", [1, 3])
def test_a_commit_whose_reply_is_lost(
    db: Database[Any], written: Flusher, mongodb_server: str, times: int
) -> None:
    process = Process(mongodb_server)
    process.start(db.name, window=WINDOW)
    eraser = Eraser(process.database, window=WINDOW, keys=conf.claim_keys)
    with lose_commit_replies(process, times):
        eraser.erase(ACCOUNT, PERSON, at=T0 + SECOND)
    process.client.close()
    check_erased(db, written)


@pytest.mark.parametrize("is_after_reply", [False, True])
def test_a_process_that_dies_at_any_command(
    db: Database[Any], written: Flusher, mongodb_server: str, is_after_reply: bool
) -> None:
    """It dies one command later each time, until it comes to the end."""
    dead: list[Process] = []
    place = 0
    while place < 100:
        process = Process(mongodb_server)
        process.start(db.name, window=WINDOW)
        eraser = Eraser(process.database, window=WINDOW, keys=conf.claim_keys)
        process.wire.arm(process.wire.die, place=place, is_after_reply=is_after_reply)
        try:
            eraser.erase(ACCOUNT, PERSON, at=T0 + SECOND)
        except Crash:
            # As its lease or its time would; an empty list would end every session there is, those
            # of other tests on the same server too.
            if ids := [{"id": Binary(one, UUID_SUBTYPE)} for one in process.wire.open]:
                db.client.admin.command("killSessions", ids)
            assert recount(db, at=T0 + WINDOW) == []
        dead.append(process)
        if not process.wire.is_dead:
            break
        place += 1
    assert 10 < place < 100
    for process in dead:
        process.wire.reset()
        process.client.close()
    check_erased(db, written)


def test_conflicts_are_tried_again(
    victim_db: Database[Any], fragile_db: Database[Any], make_flusher: Any, fail_point: FailPoint
) -> None:
    fragile_db["automations"].insert_one({"_id": "a1", "accountId": ACCOUNT})
    flusher = make_flusher(fragile_db, claim_keys=conf.claim_keys)
    flush(flusher, wrote(T0))
    eraser = Eraser(victim_db, window=WINDOW, keys=conf.claim_keys)
    labels = ["TransientTransactionError"]
    with fail_point("update", "delete", times=3, errorCode=112, errorLabels=labels):
        assert eraser.erase(ACCOUNT, PERSON, at=T0).runs == 1
    assert list_holders(fragile_db) == []
    assert recount(fragile_db, at=T0 + WINDOW) == []
