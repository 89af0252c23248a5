"""An erasure that is cut off anywhere is done again, and the counts never show that it was."""

from typing import Any

import pytest
from bson import Binary
from bson.binary import UUID_SUBTYPE
from pymongo import MongoClient
from pymongo.monitoring import CommandListener, CommandStartedEvent

from tests.integration.conftest import Db, FailPoint, MakeTracker
from tests.integration.maintenance.test_erasure import (
    ACCOUNT,
    PERSON,
    SECOND,
    list_holders,
    list_outcomes,
    wrote,
)
from tests.support.laboratory import lose_commit_replies
from tests.support.oracle import recount
from tests.support.tracker import Tracker
from tests.support.triggers import T0, WINDOW, make_trigger
from tracking.maintenance.erasure import Eraser


class Crash(BaseException):
    """The process ends here."""


class Death(CommandListener):
    """Ends a client's process at its command of that number, before it is sent or after."""

    def __init__(self, place: int, *, is_after_reply: bool) -> None:
        self._place = place
        self._is_after_reply = is_after_reply
        self._commands = 0
        self.is_dead = False
        self.sessions: set[bytes] = set()

    def started(self, event: CommandStartedEvent) -> None:
        if self.is_dead:
            raise Crash
        self._commands += 1
        if "lsid" in event.command:
            self.sessions.add(bytes(event.command["lsid"]["id"]))
        self._die_if_due(is_after_reply=False)

    def succeeded(self, event: Any) -> None:
        self._die_if_due(is_after_reply=True)

    def failed(self, event: Any) -> None: ...

    def _die_if_due(self, *, is_after_reply: bool) -> None:
        if self._commands == self._place and self._is_after_reply is is_after_reply:
            self.is_dead = True
            raise Crash


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
def test_death_anywhere(
    db: Db, written: Tracker, mongodb_server: str, is_after_reply: bool
) -> None:
    """It dies one command later each time, until it comes to the end."""
    place = 0
    is_dead = True
    while is_dead and place < 100:
        place += 1
        death = Death(place, is_after_reply=is_after_reply)
        client = MongoClient[Any](
            mongodb_server, tz_aware=True, w="majority", journal=True, event_listeners=[death]
        )
        try:
            Eraser(client[db.name]).erase(ACCOUNT, PERSON)
        except Crash:
            # As the server's time limit for transactions would.
            ids = [{"id": Binary(one, UUID_SUBTYPE)} for one in death.sessions]
            if ids:
                db.client.admin.command("killSessions", ids)
        is_dead = death.is_dead
        death.is_dead = False
        death._place = -1
        client.close()
    assert 10 < place < 100
    check_erased(db, written)


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
