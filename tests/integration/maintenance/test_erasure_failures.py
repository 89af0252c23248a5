"""An erasure that is cut off anywhere is done again, and the counts never show that it was."""

from contextlib import suppress
from typing import Any

import pytest

from tests.integration.conftest import Db, FailPoint, MakeTracker
from tests.integration.maintenance.test_erasure import (
    ACCOUNT,
    PERSON,
    SECOND,
    list_holders,
    list_outcomes,
    wrote,
)
from tests.support.laboratory import Laboratory, lose_commit_replies
from tests.support.oracle import recount
from tests.support.tracker import Tracker
from tests.support.triggers import T0, WINDOW, make_trigger
from tests.support.wire import Crash
from tracking.maintenance.erasure import Eraser


@pytest.fixture
def written(db: Db, tracker: Tracker) -> Tracker:
    documents = [{"_id": name, "accountId": ACCOUNT, "workspaceId": "w1"} for name in ("a1", "a2")]
    db["automations"].insert_many(documents)
    tracker.record(wrote(T0), wrote(T0 + SECOND), wrote(T0, "a2"), make_trigger())
    # These wait: one is a duplicate, one is not.
    tracker.store(wrote(T0 + WINDOW), wrote(T0 + 2 * WINDOW, "a2"))
    return tracker


def check_erased(db: Db, tracker: Tracker) -> None:
    tracker.count()
    assert list_holders(db) == []
    assert recount(db, at=T0 + 3 * WINDOW) == []
    assert db["automation_runs"].count_documents({}) == 4
    assert db["automation_contacts"].count_documents({}) == 3
    assert sorted(list_outcomes(db)) == ["counted"] * 4 + ["duplicate"] * 2
    assert len(db["automation_triggers"].distinct("userId")) == 3


@pytest.mark.parametrize("times", [1, 3])
def test_a_commit_whose_reply_is_lost(db: Db, written: Tracker, times: int) -> None:
    with lose_commit_replies(db.client, times):
        Eraser(db).erase(ACCOUNT, PERSON)
    check_erased(db, written)


@pytest.mark.parametrize("is_after_reply", [False, True])
def test_death_anywhere(db: Db, written: Tracker, settings: Any, is_after_reply: bool) -> None:
    """It dies one command later each time, until it comes to the end."""
    lab = Laboratory(db, settings.MONGODB_URI)
    process = lab.start_process()
    wire = process.wire
    for place in range(100):
        process.start(db.name, window=WINDOW)
        wire.arm(wire.die, place=place, is_after_reply=is_after_reply)
        with suppress(Crash):
            Eraser(process.database).erase(ACCOUNT, PERSON)
        if not wire.is_dead:
            break
        lab.kill_sessions(wire.open)
    assert 10 < place < 99
    check_erased(db, written)
    lab.close()


def test_conflicts_are_tried_again(
    victim_db: Db, fragile_db: Db, make_tracker: MakeTracker, fail_point: FailPoint
) -> None:
    fragile_db["automations"].insert_one({"_id": "a1", "accountId": ACCOUNT})
    make_tracker(fragile_db).record(wrote(T0))
    labels = ["TransientTransactionError"]
    with fail_point("update", "findAndModify", times=3, errorCode=112, errorLabels=labels):
        assert Eraser(victim_db).erase(ACCOUNT, PERSON)["runs"] == 1
    assert list_holders(fragile_db) == []
    assert recount(fragile_db, at=T0 + WINDOW) == []
